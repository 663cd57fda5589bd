"""What the page shows of an agent, and the one thing that it asks of it.

The page reads an :class:`AgentView` and nothing else, so that it is tested with a fake. All text in these values
may come from peers: the page escapes it, and never makes HTML, attribute names or addresses of it.

Shares and confidences are 0 to 1, sizes bytes, durations seconds, moments are time zone aware.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from torch import Tensor

__all__ = [
    "AgentView",
    "Alternative",
    "Answer",
    "Confusion",
    "Costs",
    "Identity",
    "KnownTask",
    "Offer",
    "Peer",
    "Progress",
    "Traffic",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the agent is.

    Attributes:
        name: what people call it; where it is empty, the fingerprint is shown.
        fingerprint: of its key, for people, such as ``3f9a-12bc``.
        key: its public key, 64 hexadecimal digits; what others put after ``stolon trust add``.
        backbone: name of the network that all its knowledge is made for.
        version: of stolon.
        since: when it was started.
    """

    name: str
    fingerprint: str
    key: str
    backbone: str
    version: str
    since: datetime


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task whose module is in the agent's bank.

    Attributes:
        name: as it is answered.
        classes: names of its classes, in order.
        author: name of who taught it; not shown where ``own``.
        fingerprint: of the author's key.
        own: whether this agent taught it.
        arrived: when it was learned here or came.
        size: of its module.
        active: whether answers are given from it.
        reason: why it is held back, in words; empty where it is active.
        accuracy: as its author measured it; None where it was not.
        parameters: numbers that it stores; None where it is not known.
    """

    name: str
    classes: Sequence[str]
    author: str
    fingerprint: str
    own: bool
    arrived: datetime
    size: int
    active: bool
    reason: str = ""
    accuracy: float | None = None
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Another agent that this one talks to.

    Attributes:
        name: as the trust list calls it; empty where it is not listed.
        fingerprint: of the key that it goes by.
        heard_s: how long ago it was last heard; None where it never was.
        in_step: whether its bank holds what ours holds; None where it is not known.
        ignored_s: for how much longer it is not listened to, after too much rubbish; 0 where it is.
        rejects: how many of its messages and modules were refused.
    """

    name: str
    fingerprint: str
    heard_s: float | None
    in_step: bool | None
    ignored_s: float = 0.0
    rejects: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one kind on the wire since the agent was started.

    Attributes:
        kind: such as ``"modules"`` or ``"hints"``.
        sent: bytes.
        received: bytes.
    """

    kind: str
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What sharing and learning cost.

    Attributes:
        traffic: by kind, in the order to be shown.
        bank: bytes of all modules in the bank.
        shared: bytes of the modules that were sent and received, without what carries them.
        overhead: what else was on the wire, as a share of ``shared``; None where nothing was shared.
        teacher_macs: multiply-accumulates of all learning done here.
        teacher_s: processor time of it.
    """

    traffic: Sequence[Traffic]
    bank: int
    shared: int = 0
    overhead: float | None = None
    teacher_macs: float | None = None
    teacher_s: float | None = None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Which task the agent takes its own probes for: rows of shares.

    Attributes:
        tasks: N names, of the rows and of the first N columns.
        shares: N rows of N + 1 shares each; the last column is "unknown". A row without probes holds NaN.
    """

    tasks: Sequence[str]
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that somebody offers whom the agent does not trust, so that it was not taken.

    Attributes:
        author: the public key, 64 hexadecimal digits.
        fingerprint: of it.
        task: its name; empty where only its id is known.
    """

    author: str
    fingerprint: str
    task: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A learning under way; see :class:`stolon.outcomes.Epoch`.

    Attributes:
        task: its name.
        phase: what is being done, such as ``"train"``.
        number: how many steps of this phase are done.
        total: how many there are at most.
        accuracy: on the validation data, where it was measured.
    """

    task: str
    phase: str
    number: int
    total: int
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another answer that was considered.

    Attributes:
        task: its name.
        label: the class's name.
        confidence: its probability.
    """

    task: str
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent takes a picture for.

    Attributes:
        known: whether it belongs to any task; the next three are empty and 0 where it does not.
        task: its name.
        label: the class's name.
        confidence: the probability that the agent gives its answer.
        alternatives: other answers, such as other classes of the task, the likeliest first; may be empty.
    """

    known: bool
    task: str = ""
    label: str = ""
    confidence: float = 0.0
    alternatives: Sequence[Alternative] = ()


class AgentView(Protocol):
    """What the page needs of an agent. Every method may be called from any thread, several at a time.

    All but :meth:`classify` are called every few seconds by every open page, and must be cheap.
    """

    @property
    def size(self) -> int:
        """Side S of the square pictures that the backbone takes, in pixels."""

    def identity(self) -> Identity:
        """Who the agent is."""

    def tasks(self) -> Sequence[KnownTask]:
        """Everything in the bank, in the order to be shown."""

    def peers(self) -> Sequence[Peer]:
        """The agents that were heard, or are linked."""

    def costs(self) -> Costs:
        """What sharing and learning cost."""

    def confusion(self) -> Confusion | None:
        """The confusion among tasks; None where there is nothing to measure it on."""

    def offers(self) -> Sequence[Offer]:
        """What unknown authors offer."""

    def learning(self) -> Progress | None:
        """The learning under way, if any."""

    def classify(self, pixels: Tensor) -> Answer:
        """Name one picture's task and class.

        Args:
            pixels: uint8 [1, 3, S, S].

        Raises:
            StolonError: it cannot be answered; the message is shown.
        """
