"""The running agent as its page sees it (:class:`stolon.shell.web.facade.AgentView`)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, final

from torch import Tensor

import stolon
from stolon.agent import Agent
from stolon.sharing.keys import fingerprint
from stolon.shell.jobs import Jobs
from stolon.shell.learning import input_size
from stolon.shell.web import facade

LEAST: Final = 0.01
"""Other classes of the task are told where they are at least so likely."""
KINDS: Final = {
    "blob": "modules",
    "envelope": "their signatures",
    "index": "who holds what",
    "hint": "hints",
}
"""What the page calls the kinds of :class:`stolon.sharing.exchange.ports.Traffic`."""


@final
class View:
    """What the page shows.

    Args:
        agent: whom it shows.
        jobs: what it is learning.
    """

    def __init__(self, agent: Agent, jobs: Jobs) -> None:
        self._agent, self._jobs = agent, jobs
        self._since = datetime.now(UTC)

    @property
    def size(self) -> int:
        """Side of the pictures that the backbone takes."""
        return input_size(self._agent.store.learner.backbone)

    def identity(self) -> facade.Identity:
        """Who the agent is."""
        key = self._agent.key.public
        return facade.Identity(
            name=self._agent.folder.resolve().name,
            fingerprint=fingerprint(key),
            key=key,
            backbone=self._agent.store.learner.backbone.name,
            version=stolon.__version__,
            since=self._since,
        )

    def tasks(self) -> Sequence[facade.KnownTask]:
        """Everything in the bank that is of use, or held back."""
        return [
            facade.KnownTask(
                name=status.name,
                classes=status.classes,
                author=status.author_name,
                fingerprint=fingerprint(status.author),
                own=status.is_own,
                arrived=datetime.fromtimestamp(status.arrived, UTC),
                size=status.bytes,
                active=status.active,
                reason=status.reason,
                accuracy=status.metrics.get("test_accuracy"),
            )
            for status in self._agent.modules()
        ]

    def peers(self) -> Sequence[facade.Peer]:
        """The agents that were heard, or are linked."""
        now = self._agent.clock()
        found = []
        for peer in self._agent.peers():
            author = self._agent.trust.author(peer.id)
            found.append(
                facade.Peer(
                    name="" if author is None else author.name,
                    fingerprint=fingerprint(peer.id),
                    heard_s=None if peer.heard is None else max(0.0, now - peer.heard),
                    in_step=peer.equal,
                    ignored_s=0.0 if peer.ignored_until is None else max(0.0, peer.ignored_until - now),
                    rejects=peer.rejects,
                )
            )
        return sorted(found, key=lambda peer: (peer.name, peer.fingerprint))

    def costs(self) -> facade.Costs:
        """What sharing and learning cost."""
        sent, received = self._agent.traffic()
        modules = sent.blob + sent.envelope + received.blob + received.envelope
        rest = sent.total + received.total - modules
        statuses = self._agent.modules()
        own = [status.costs for status in statuses if status.is_own]
        return facade.Costs(
            traffic=[
                facade.Traffic(words, getattr(sent, kind), getattr(received, kind))
                for kind, words in KINDS.items()
            ],
            bank=sum(status.bytes for status in statuses),
            shared=modules,
            overhead=rest / modules if modules else None,
            teacher_macs=sum(cost["macs"] for cost in own if "macs" in cost) or None,
            teacher_s=sum(cost["seconds"] for cost in own if "seconds" in cost) or None,
        )

    def confusion(self) -> facade.Confusion | None:
        """Which task the agent takes its probes for."""
        found = self._agent.confusion()
        return None if found is None else facade.Confusion(*found)

    def offers(self) -> Sequence[facade.Offer]:
        """What unknown authors offer."""
        return [facade.Offer(author, fingerprint(author), task) for author, task in self._agent.offers()]

    def learning(self) -> facade.Progress | None:
        """The learning under way, if any."""
        epoch = self._jobs.progress
        if epoch is None:
            return None
        return facade.Progress(epoch.task, epoch.phase, epoch.number, epoch.total, epoch.val_accuracy)

    def classify(self, pixels: Tensor) -> facade.Answer:
        """Name one picture's task and class."""
        answering = self._agent.answering()
        answer = answering.predict(pixels)
        task, label = answer.tasks[0], answer.classes[0]
        if task is None or label is None:
            return facade.Answer(known=False)
        confidence = float(answer.confidence[0])
        shares = answering.logits(pixels, task)[0].softmax(0)  # of remembered features, but for biases
        shares *= confidence / shares[answer.labels[0]]
        others = [
            facade.Alternative(task, name, share)
            for name, share in zip(answering.classes[task], shares.tolist(), strict=True)
            if name != label and share >= LEAST
        ]
        others.sort(key=lambda other: -other.confidence)
        return facade.Answer(known=True, task=task, label=label, confidence=confidence, alternatives=others)
