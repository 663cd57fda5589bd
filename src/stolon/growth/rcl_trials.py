"""What RCL tries for a task, what that is worth, and what is kept of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

from stolon.records import Json


def reward(accuracy: float, added: int, price: float) -> float:
    """What a child is worth."""
    return accuracy - price * added


@final
class Trial(NamedTuple):
    """One child.

    Attributes:
        units: added to each hidden layer.
        accuracy: on the held data, 0 to 1.
        reward: the accuracy less the price of the units.
        advantage: what the controller learned from: the reward less what was expected.
    """

    units: tuple[int, ...]
    accuracy: float
    reward: float
    advantage: float

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {**self._asdict(), "units": list(self.units)}

    @staticmethod
    def of_json(values: Mapping[str, Json]) -> "Trial":
        """Take back what :meth:`to_json` gave."""
        return Trial(**{**values, "units": tuple(values["units"])})


@final
@dataclass(frozen=True)
class Grown:
    """What a task was given.

    Attributes:
        units: added to each hidden layer; the net's widths for the first task.
        trials: of which it is the best; empty for the first task.
    """

    units: tuple[int, ...]
    trials: tuple[Trial, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {"units": list(self.units), "trials": [trial.to_json() for trial in self.trials]}

    @staticmethod
    def of_json(values: Mapping[str, Json]) -> "Grown":
        """Take back what :meth:`to_json` gave."""
        return Grown(tuple(values["units"]), tuple(Trial.of_json(each) for each in values["trials"]))
