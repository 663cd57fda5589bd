"""Multi-objective search over grow sequences: average gain up, parameters down, by Optuna.

"Learn to Bind and Grow Neural Structures", section 4, searches one delta for all tasks in steps of 0.05 by NSGA-II,
which is an evolutionary algorithm though the paper calls it Bayesian; a Gaussian process with expected hypervolume
improvement is the true Bayesian optimisation. Deliberate differences from what the paper ran:

- NSGA-II has a population of 10: with Optuna's default of 50 the paper's 20 trials never leave the random beginning;
- what a trial is, is a function of the seed, its number and the trials of earlier *rounds*: trials of one round are
  proposed together and can run side by side, so that neither the number of processes, nor which of them is faster, nor
  a stop and a restart change what is searched.

The study lies in a journal file of Optuna, one JSON value a line, which its own tools read too. A trial is written down
when it is proposed, and again with its outcome; one that was under way when the process was killed is open, and is what
is to be done first the next time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from stolon import durable
from stolon.errors import StoreDamagedError, StoreMissingError
from stolon.growth.journal import DIRECTIONS, as_json, check_recipe, is_begun, open_study, ours, repair
from stolon.growth.pareto import Point, front
from stolon.growth.search_space import Dimensions, SearchSpace
from stolon.growth.sequences import GrowSequence, Outcome
from stolon.randomness import number as seeded_number
from stolon.records import Json
from stolon.settings import one_of, whole

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SAMPLERS: Final = ("nsga2", "gp", "random", "grid")
_SIDE_BY_SIDE: Final = 10


@final
@dataclass(frozen=True)
class SearchSettings:
    """How sequences are chosen.

    Attributes:
        sampler: ``"nsga2"``, ``"gp"`` (Gaussian process), ``"random"`` or ``"grid"`` (all in order).
        space: what is chosen.
        population: of NSGA-II, >= 2.
        startup: how many random trials the Gaussian process begins with, >= 1.
        together: how many trials make a round, >= 1; 0 is the sampler's own: its population for NSGA-II, for the
            Gaussian process 1 (but its random beginning is one round), 10 for the others.
        seed: of the choices.

    Raises:
        SettingError: a value is out of its range.
    """

    sampler: str = "nsga2"
    space: SearchSpace = field(default_factory=SearchSpace)
    population: int = 10
    startup: int = 10
    together: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("sampler", self.sampler, SAMPLERS)
        whole("population", self.population, 2)
        whole("startup", self.startup, 1)
        whole("together", self.together, 0)
        whole("seed", self.seed, 0)

    def round_of(self, number: int) -> range:
        """The numbers of the trials that are proposed together with this one."""
        if self.sampler == "gp":
            if number < self.startup:
                return range(self.startup)
            size, first = self.together or 1, self.startup
        else:
            own = self.population if self.sampler == "nsga2" else _SIDE_BY_SIDE
            size, first = self.together or own, 0
        start = first + (number - first) // size * size
        return range(start, start + size)


@final
@dataclass(frozen=True)
class Tried:
    """A trial.

    Attributes:
        number: from 0.
        sequence: what is tried.
        outcome: what came of it; None while it is open, or where it failed.
        error: why it failed; empty where it did not.
    """

    number: int
    sequence: GrowSequence
    outcome: Outcome | None = None
    error: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done."""
        return self.outcome is None and not self.error

    @property
    def point(self) -> Point | None:
        """Its objectives, where it is done."""
        return None if self.outcome is None else Point(self.outcome.gain, self.outcome.parameters)


def best(trials: Sequence[Tried]) -> list[Tried]:
    """Those that no other dominates, by ascending parameters."""
    done = [(trial, trial.point) for trial in trials]
    pairs = [(trial, point) for trial, point in done if point is not None]
    return [pairs[place][0] for place in front([point for _, point in pairs])]


@final
class Search:
    """A search that is written down. Only one process may have a file open like this; any may :func:`read` it.

    Args:
        path: the journal file; made if it is not there.
        settings: how sequences are chosen.
        tasks: names, in the stream's order.
        recipe: all that outcomes depend on, as JSON values; a file of another recipe is refused.
        about: what else to write down when it is begun, as JSON values.

    Raises:
        RecipeChangedError: the file holds a search of another recipe; names the difference. It is as it was.
        StoreDamagedError: the file is no journal of a search.
        StoreFullError: the disk refused.
        SettingError: a grid of a searched order.
    """

    def __init__(
        self,
        path: Path,
        settings: SearchSettings,
        tasks: Sequence[str],
        recipe: Mapping[str, Json],
        about: Mapping[str, Json] | None = None,
    ) -> None:
        if settings.sampler == "grid":
            settings.space.count(tasks)
        self._settings, self._tasks = settings, tuple(tasks)
        whole_recipe = as_json({"search": asdict(settings), **recipe, "tasks": list(tasks)})
        durable.make_folder(path.parent)
        if path.exists():
            check_recipe(path, whole_recipe)
            repair(path)
        with ours(path):
            self._study = open_study(path)
            if "recipe" not in self._study.user_attrs:
                self._study.set_user_attr("about", dict(about or {}))
                self._study.set_user_attr("recipe", whole_recipe)
        self._path = path

    @property
    def trials(self) -> tuple[Tried, ...]:
        """All of them, by number."""
        return tuple(_tried(trial) for trial in self._study.get_trials(deepcopy=False))

    def most(self, wanted: int) -> int:
        """How many trials there can be of so many wanted: a grid has an end."""
        grid = self._settings.sampler == "grid"
        return min(wanted, self._settings.space.count(self._tasks)) if grid else wanted

    def open(self, wanted: int) -> tuple[Tried, ...]:
        """The trials of the next round that are to be done, proposed if need be; none if all are done.

        Args:
            wanted: how many trials there shall be in all.

        Raises:
            StoreFullError: the disk refused.
        """
        wanted = self.most(wanted)
        for start in range(wanted):
            numbers = self._settings.round_of(start)
            if start != numbers.start:
                continue
            self._propose(numbers, wanted)
            opened = [trial for trial in self.trials[numbers.start : numbers.stop] if trial.is_open]
            if opened:
                return tuple(opened)
        return ()

    def tell(self, number: int, outcome: Outcome) -> None:
        """Write down what came of a trial.

        Raises:
            StoreFullError: the disk refused.
        """
        self._end(number, "outcome", outcome.to_json(), [outcome.gain, float(outcome.parameters)])

    def fail(self, number: int, error: str) -> None:
        """Write down that a trial failed, and why; it is not tried again.

        Raises:
            StoreFullError: the disk refused.
        """
        self._end(number, "error", error, None)

    def _end(self, number: int, key: str, value: Json, values: list[float] | None) -> None:
        from optuna.trial import Trial, TrialState

        with ours(self._path):
            frozen = self._study.get_trials(deepcopy=False)[number]
            # The study's own sampler draws nothing (see journal.open_study), so that this makes nothing but a handle.
            trial = Trial(self._study, frozen._trial_id)
            trial.set_user_attr(key, value)
            self._study.tell(number, values, state=None if values is not None else TrialState.FAIL)

    def _propose(self, numbers: range, wanted: int) -> None:
        """Write down the round's trials as far as they are not."""
        from optuna.trial import TrialState, create_trial

        with ours(self._path):
            for number in range(len(self._study.get_trials(deepcopy=False)), min(numbers.stop, wanted)):
                before = self._study.get_trials(deepcopy=False)
                chosen, distributions, attributes = self._choose(number, before[: numbers.start], before)
                sequence = self._settings.space.sequence(chosen, self._tasks)
                # In one line of the journal: a kill leaves the whole trial or none.
                self._study.add_trial(
                    create_trial(
                        state=TrialState.RUNNING,
                        params=chosen,
                        distributions=distributions,
                        user_attrs={"sequence": sequence.to_json()},
                        system_attrs=attributes,
                    )
                )

    def _choose(
        self, number: int, history: Sequence["FrozenTrial"], before: Sequence["FrozenTrial"]
    ) -> tuple[dict[str, Any], dict[str, "BaseDistribution"], dict[str, Any]]:
        """A trial's parameters, what they were chosen from, and what the sampler remembers by it."""
        import optuna
        from optuna.trial import TrialState, create_trial

        dimensions = self._settings.space.dimensions(self._tasks)
        distributions = _distributions(dimensions)
        if self._settings.sampler == "grid":
            point = self._settings.space.point(number, self._tasks)
            return dict(point), distributions, {}
        # A study in memory that knows earlier rounds, and what else this one tries, but not how that ends.
        scratch = optuna.create_study(directions=DIRECTIONS, sampler=self._sampler(number))
        scratch.add_trials(history)
        scratch.add_trials(
            create_trial(
                state=TrialState.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                system_attrs=trial.system_attrs,
            )
            for trial in before[len(history) :]
        )
        scratch.ask(distributions)
        asked = scratch.get_trials(deepcopy=False)[-1]
        return dict(asked.params), distributions, dict(asked.system_attrs)

    def _sampler(self, number: int) -> "BaseSampler":
        import warnings

        import optuna

        settings = self._settings
        seed = seeded_number(settings.seed, "search", number) % 2**32
        if settings.sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=settings.population, seed=seed)
        if settings.sampler == "gp":
            with warnings.catch_warnings():
                # That outcomes have no noise is an argument on trial; without it the fit is the worse, not wrong.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=settings.startup, deterministic_objective=True
                )
        return optuna.samplers.RandomSampler(seed=seed)


@final
@dataclass(frozen=True)
class Written:
    """What a journal file holds.

    Attributes:
        recipe: what the search depends on.
        about: what was written down beside it when it was begun.
        trials: by number.
    """

    recipe: Mapping[str, Json]
    about: Mapping[str, Json]
    trials: tuple[Tried, ...]


def read(path: Path) -> Written:
    """Read a search, also while another process goes on with it.

    Raises:
        StoreMissingError: there is no such file.
        StoreDamagedError: it is no journal of a search.
    """
    if not path.is_file():
        raise StoreMissingError(f"expected a search at {path}, found none; is this the right folder?")
    if not is_begun(path):
        raise StoreDamagedError(
            f"expected a search in {path}, found one that was never begun; start it again"
        )
    with ours(path):
        study = open_study(path, is_new=False)
        attributes = study.user_attrs
        if "recipe" not in attributes:
            raise StoreDamagedError(
                f"expected a search in {path}, found one that was never begun; start it again"
            )
        trials = tuple(_tried(trial) for trial in study.get_trials(deepcopy=False))
    return Written(attributes["recipe"], attributes.get("about", {}), trials)


def _distributions(dimensions: Dimensions) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, BaseDistribution] = {}
    for name, choices in dimensions.items():
        if choices is None:
            found[name] = FloatDistribution(0.0, 1.0)
        elif name.startswith("delta"):  # ordered: neighbours are alike
            found[name] = FloatDistribution(0.0, 1.0, step=choices[1] - choices[0])
        else:
            found[name] = CategoricalDistribution(choices)
    return found


def _tried(trial: "FrozenTrial") -> Tried:
    from optuna.trial import TrialState

    attributes = trial.user_attrs
    outcome = attributes["outcome"] if trial.state == TrialState.COMPLETE else None
    return Tried(
        trial.number,
        GrowSequence.of_json(attributes["sequence"]),
        None if outcome is None else Outcome.of_json(outcome),
        str(attributes["error"]) if trial.state == TrialState.FAIL else "",
    )
