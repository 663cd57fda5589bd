"""Grow sequences: in which order tasks are learned, whom each is bound to, and how much it grows.

"Learn to Bind and Grow Neural Structures", section 3: a grow sequence pi = [(t, b_t, delta_t)] says all that there is
to say about how one joint network is made of many tasks, where all of their data are at hand. What comes of it
(:class:`Outcome`) is what a search over sequences weighs: the gain over networks that share nothing, and parameters.

Deliberate differences from the paper:

- b_t may be left open: the task is then bound by the learner's own rule, by default to the task of least conflict;
- the first task's delta and binding, which decide nothing, are there for the form's sake and are not looked at;
- gains are of validation accuracy, as a search chooses by them; test accuracy is told apart from it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from stolon.errors import SettingError, TaskExistsError, TaskUnknownError
from stolon.growth.config import BINDINGS, BindAndGrowConfig
from stolon.growth.explanation import Growth
from stolon.records import Json
from stolon.settings import within


@final
@dataclass(frozen=True)
class Step:
    """One task of a grow sequence.

    Attributes:
        task: its name.
        delta: its grow coefficient, 0 (share everything) to 1 (share nothing).
        bind: the earlier task that it is bound to; None leaves it to the learner's rule.
    """

    task: str
    delta: float
    bind: str | None = None


@final
@dataclass(frozen=True)
class GrowSequence:
    """A grow sequence, as a value.

    Attributes:
        steps: one for each task, in the order in which they are learned; at least one.

    Raises:
        SettingError: there is no step, a delta is outside [0, 1], or a task that others are bound to has the name of
            one of the learner's rules.
        TaskExistsError: a task comes twice.
        TaskUnknownError: a task is bound to one that does not come before it.

    Example:
        >>> sequence = GrowSequence((Step("a", 0.5), Step("b", 0.25, bind="a")))
        >>> GrowSequence.of_json(sequence.to_json()) == sequence
        True
        >>> print(sequence)
        a, b to a at delta 0.25
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise SettingError("grow sequence: expected at least one task, found none")
        before: list[str] = []
        for step in self.steps:
            _check(step, before)
            before.append(step.task)

    @staticmethod
    def shared(tasks: Sequence[str], delta: float) -> "GrowSequence":
        """The paper's searched kind: tasks in the order given, one delta for all, bindings by the learner's rule."""
        return GrowSequence(tuple(Step(task, delta) for task in tasks))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(step.task for step in self.steps)

    def configured(self, config: BindAndGrowConfig) -> BindAndGrowConfig:
        """A learner's settings with this sequence's deltas and bindings in place of its own.

        Args:
            config: all other settings; its rule of binding holds where the sequence leaves it open.
        """
        return dataclasses.replace(
            config,
            delta={step.task: float(step.delta) for step in self.steps},
            bind={step.task: step.bind or config.bind_of(step.task) for step in self.steps},
        )

    def to_json(self) -> list[Json]:
        """As JSON values: a list of objects with ``task``, ``bind`` and ``delta``."""
        return [{"task": step.task, "bind": step.bind, "delta": step.delta} for step in self.steps]

    @staticmethod
    def of_json(values: Any) -> "GrowSequence":  # noqa: ANN401 - any JSON value
        """Take back what :meth:`to_json` gave, with the class's checks.

        Raises:
            SettingError: it is no such list; or what the class raises.
        """
        try:
            return GrowSequence(
                tuple(Step(value["task"], value["delta"], value.get("bind")) for value in values)
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SettingError(
                "grow sequence: expected a list of objects with task, delta and, where it is given, bind; found "
                f"{values!r}"
            ) from error

    def __str__(self) -> str:
        first, *later = self.steps
        deltas = {step.delta for step in later}
        end = f" at delta {deltas.pop():g}" if len(deltas) == 1 else ""
        told = [
            f"{step.task}{f' to {step.bind}' if step.bind else ''}{'' if end else f' (delta {step.delta:g})'}"
            for step in later
        ]
        return ", ".join([first.task, *told]) + end


@final
@dataclass(frozen=True)
class Outcome:
    """What came of a grow sequence. Accuracies are shares of 0 to 1, measured after the last task.

    Attributes:
        sequence: which.
        val: on each task's validation data, in the sequence's order.
        test: on each task's test data; None where it has none.
        alone_val: of each task's independent network on its validation data.
        alone_test: of each task's independent network on its test data; None where it has none.
        inputs: how many validation inputs each task has.
        parameters: of the joint network's nodes and heads: what is to be few.
        parameters_apart: what they would be if no two tasks shared anything.
        bytes: of all that is stored for answering, statistics of normalisation included.
        growths: what was decided for each task, and by what.
        learned: the tasks that were learned for it; the others' learning was taken from a cache. Not compared.
        seconds: that it took. Not compared.
    """

    sequence: GrowSequence
    val: Mapping[str, float]
    test: Mapping[str, float | None]
    alone_val: Mapping[str, float]
    alone_test: Mapping[str, float | None]
    inputs: Mapping[str, int]
    parameters: int
    parameters_apart: int
    bytes: int
    growths: tuple[Growth, ...]
    learned: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    seconds: float = dataclasses.field(default=0.0, compare=False)

    @property
    def gain(self) -> float:
        """Average gain: validation accuracy less that of the independent network, mean over tasks; higher is better."""
        return math.fsum(self.val[task] - self.alone_val[task] for task in self.val) / len(self.val)

    @property
    def test_gain(self) -> float | None:
        """The same of test accuracy; None where a task has no test data. No choice is made by it."""
        pairs = [(self.test[task], self.alone_test[task]) for task in self.test]
        found = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
        return math.fsum(found) / len(found) if len(found) == len(pairs) else None

    @property
    def error_change(self) -> float:
        r"""The paper's :math:`\Delta = \sum_t (E_\pi(t) - E_\phi(t)) / E_\phi(t)` of validation errors.

        E_pi is the joint network's error and E_phi the independent one's, so that LOWER is better and below 0 is a
        gain, though the paper calls it a gain to be maximised (papers/methods.md 4.4). Where E_phi is 0 the quotient
        is undefined; half an input's error stands in its place there, which is ours.
        """
        return math.fsum(
            ((1 - self.val[task]) - (1 - alone)) / max(1 - alone, 0.5 / self.inputs[task])
            for task, alone in self.alone_val.items()
        )

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "sequence": self.sequence.to_json(),
            "growths": [growth.to_json() for growth in self.growths],
            "learned": list(self.learned),
            **{
                name: dict(getattr(self, name))
                for name in ("val", "test", "alone_val", "alone_test", "inputs")
            },
        }

    @staticmethod
    def of_json(values: Mapping[str, Any]) -> "Outcome":
        """Take back what :meth:`to_json` gave."""
        return Outcome(
            **{
                **values,
                "sequence": GrowSequence.of_json(values["sequence"]),
                "growths": tuple(Growth.of_json(growth) for growth in values["growths"]),
                "learned": tuple(values["learned"]),
            }
        )


def _check(step: Step, before: Sequence[str]) -> None:
    if not isinstance(step.task, str) or not step.task:
        raise SettingError(f"grow sequence: expected a task's name, found {step.task!r}")
    if step.task in before:
        raise TaskExistsError(
            f"grow sequence: expected each task once, found {step.task!r} again; leave one out"
        )
    if isinstance(step.delta, bool):
        raise SettingError(f"delta[{step.task!r}]: expected a number, found {step.delta!r}")
    within(f"delta[{step.task!r}]", step.delta, 0, 1)
    if step.bind is None:
        return
    if step.bind not in before:
        raise TaskUnknownError(
            f"grow sequence: task {step.task!r}: expected to bind to a task before it, one of "
            f"{', '.join(before) or 'none: it is the first'}, found {step.bind!r}"
        )
    if step.bind in BINDINGS:
        raise SettingError(
            f"grow sequence: task {step.task!r}: {step.bind!r} is a task and a rule of binding; rename the task"
        )
