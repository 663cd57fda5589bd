"""The settings of bind-and-grow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stolon.errors import SettingError
from stolon.growth.joint import HEADS
from stolon.growth.similarity import LEAST, find
from stolon.settings import one_of, whole, within
from stolon.training import Training

BINDINGS: Final = ("least-conflict", "random", "first", "last")
GROWTHS: Final = ("nucleus", "random")
EVERY: Final = "*"
"""The entry of a mapping that holds for every task that has none of its own."""
DELTA: Final = 0.5
BIND: Final = "least-conflict"
BOUND_RATE: Final = 0.1


@dataclass(frozen=True)
class BindAndGrowConfig(Training):
    """Settings of bind-and-grow, beside training's; the defaults are the paper's, or where it is mute its code's.

    Attributes:
        epochs: passes over the training data, of the independent network and of the task's own, >= 1.
        batch_size: samples per step, >= 1.
        learning_rate: of what is new, > 0.
        delta: the grow coefficient, 0 to 1: how much of the conflict is grown away. 0 shares every layer, 1 none. One
            number, or a mapping from tasks' names to numbers, with ``"*"`` for all others (0.5 where that is left out).
        bound_rate: what the learning rate is multiplied by for layers that are shared with earlier tasks, 0 to 1; with
            0 they are frozen, and earlier tasks' answers do not change by a bit. A shared head counts as such a layer.
        bind: whom to bind to: ``"least-conflict"``, ``"random"``, ``"first"``, ``"last"``, or an earlier task's name;
            or a mapping from tasks' names to one of these, with ``"*"`` for all others.
        grow: which layers: ``"nucleus"``, or ``"random"``: a random number of random layers, the paper's control.
        draw: of random bindings and random growth: with another number other choices, and nothing else, >= 0.
        similarity: how layers are compared: one of :data:`stolon.growth.similarity.MEASURES`.
        samples: on how many of the new task's validation inputs at most, >= 4.
        parts: into how many groups the output channels of each layer are divided, each shared or grown by itself, >= 1.
        head: ``"own"``: a head for each task, drawn anew; ``"shared"``: one for all (the paper's permuted MNIST).
        as_released: decide as the authors' code does (see :mod:`stolon.growth.conflict`), where that differs from the
            paper: on training images; growing copies of the first task's layers; with independent networks that lack
            the activation functions behind fully connected layers, where there are convolutions. Bound layers are then
            trained at the full rate unless ``bound_rate`` is 0.
        memory: bytes that activations may take at once while networks are compared, >= 1.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.01
    delta: float | Mapping[str, float] = DELTA
    bound_rate: float = BOUND_RATE
    bind: str | Mapping[str, str] = BIND
    grow: str = "nucleus"
    draw: int = 0
    similarity: str = "rsa"
    samples: int = 500
    parts: int = 1
    head: str = "own"
    as_released: bool = False
    memory: int = 512 * 2**20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("delta", "bind"):
            value = getattr(self, name)
            if isinstance(value, Mapping):  # a copy: the giver's can change
                object.__setattr__(self, name, dict(value))
        for where, delta in _entries("delta", self.delta):
            within(where, delta, 0, 1)
        for where, bind in _entries("bind", self.bind):
            if not isinstance(bind, str) or not bind:
                raise SettingError(
                    f"{where}: expected one of {', '.join(BINDINGS)} or a task's name, found {bind!r}"
                )
        within("bound_rate", self.bound_rate, 0, 1)
        one_of("grow", self.grow, GROWTHS)
        whole("draw", self.draw, 0)
        find(self.similarity)
        whole("samples", self.samples, LEAST)
        whole("parts", self.parts, 1)
        one_of("head", self.head, HEADS)
        whole("memory", self.memory, 1)
        if self.as_released and self.bound_rate not in (0, BOUND_RATE, 1):
            raise SettingError(
                "bound_rate: expected 0 or 1 with as_released, whose code freezes bound layers or trains them at the "
                f"full rate, found {self.bound_rate}"
            )
        if self.as_released and self.similarity != "rsa":
            raise SettingError(
                f"as_released: expected similarity='rsa', which the code has, found {self.similarity!r}"
            )

    def delta_of(self, task: str) -> float:
        """A task's grow coefficient."""
        return float(_value(self.delta, task, DELTA))

    def bind_of(self, task: str) -> str:
        """A task's rule of binding, or the name of the task to bind to."""
        return str(_value(self.bind, task, BIND))

    def bound_scale(self) -> float:
        """What the learning rate of bound layers is multiplied by; 0 where they are frozen."""
        return 1.0 if self.as_released and self.bound_rate > 0 else self.bound_rate


def _entries(name: str, value: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - what a user gave
    if isinstance(value, Mapping):
        return [(f"{name}[{task!r}]", found) for task, found in value.items()]
    return [(name, value)]


def _value(setting: Any, task: str, default: Any) -> Any:  # noqa: ANN401 - a setting's value
    if not isinstance(setting, Mapping):
        return setting
    return setting.get(task, setting.get(EVERY, default))
