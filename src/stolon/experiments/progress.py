"""What a trial measured so far: a value that is kept in its checkpoint."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, final

from stolon.learner import Epoch
from stolon.measure import AccuracyMatrix


@final
@dataclass
class Progress:
    """Accuracies, MACs and seconds; those of the task under way, and those of all before.

    Counting MACs slows small networks down, so the first step of each phase is counted and the others cost in
    proportion to what they did (an epoch, or so many samples of features). What a method does after its last
    epoch is counted too, unless the phase stopped early.

    Attributes:
        matrix: of the tasks learned.
        unnamed: False once the learner said that it cannot infer tasks.
        epochs: validation and test accuracy of the task under way, where they were looked at.
        best: the best validation accuracy among them.
        last: phase, number and total of the last epoch.
        rates: MACs per unit of each phase.
        macs: of the task under way.
        total_macs: of the tasks learned.
        seconds: of learning the task under way.
        total_seconds: of learning the tasks learned.
        evaluation_seconds: of asking.
    """

    matrix: AccuracyMatrix = field(default_factory=AccuracyMatrix)
    unnamed: bool = True
    epochs: list[tuple[float | None, float | None]] = field(default_factory=list)
    best: float = -1.0
    last: tuple[str, int, int] = ("", 0, 0)
    rates: dict[str, float] = field(default_factory=dict)
    macs: int = 0
    total_macs: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def wants_count(self) -> bool:
        """Whether the next step is one whose MACs are not known from an earlier one."""
        phase, number, total = self.last
        return phase not in self.rates or number >= total

    def count(self, epoch: Epoch | None, macs: int | None) -> None:
        """Take note of a step: its epoch, None after the last one; its MACs where they were counted."""
        if epoch is None:
            self.macs += macs or 0
            return
        phase, number, _ = self.last
        before = number if epoch.phase == phase else 0
        if macs is None:
            self.macs += round(self.rates.get(epoch.phase, 0.0) * (epoch.number - before))
        else:
            self.macs += macs
            if epoch.phase not in self.rates and epoch.number > before:
                rate = self.rates[epoch.phase] = macs / (epoch.number - before)
                self.macs += round(rate * before)  # steps of this phase that came before it was known
        self.last = (epoch.phase, epoch.number, epoch.total)

    def next_task(self) -> None:
        """Add what the task under way took to that of all before, and begin with the next one."""
        self.total_macs, self.total_seconds = self.total_macs + self.macs, self.total_seconds + self.seconds
        self.epochs, self.best, self.last, self.rates, self.macs, self.seconds = (
            [],
            -1.0,
            ("", 0, 0),
            {},
            0,
            0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; :meth:`from_json` is the way back."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {**values, "matrix": self.matrix.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        phase, number, total = value["last"]
        return cls(
            **{
                **value,
                "matrix": AccuracyMatrix.from_json(value["matrix"]),
                "epochs": [(val, test) for val, test in value["epochs"]],
                "last": (phase, number, total),
            }
        )
