"""Takes the best solution of a search that fits a size budget, and makes it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stolon import records
from stolon.errors import DataError, SettingError, StoreError, StoreMissingError
from stolon.experiments.config import StreamSpec
from stolon.experiments.search.plan import SearchPlan
from stolon.experiments.search.searching import CACHE, JOURNAL
from stolon.growth.bind_and_grow import BindAndGrow
from stolon.growth.cache import MOST_BYTES, GrowthCache
from stolon.growth.search import SearchSettings, Tried, Written, read
from stolon.growth.search_space import SearchSpace
from stolon.growth.sequence_run import learn_sequence
from stolon.growth.sequences import Outcome
from stolon.records import Json
from stolon.settings import at_least


@final
@dataclass(frozen=True)
class Picked:
    """A solution.

    Attributes:
        trial: which trial it is.
        outcome: what came of it.
        written: the search that it comes from.
    """

    trial: Tried
    outcome: Outcome
    written: Written

    def to_json(self) -> dict[str, Json]:
        """As JSON values: all there is to know of it."""
        return {
            "trial": self.trial.number,
            "gain": self.outcome.gain,
            "test_gain": self.outcome.test_gain,
            "error_change": self.outcome.error_change,
            **self.outcome.to_json(),
        }


def pick(folder: str | Path, *, max_parameters: int | None = None, max_bytes: int | None = None) -> Picked:
    """The solution of highest gain within a budget; of several the smallest, then the first.

    Args:
        folder: the search's.
        max_parameters: of the joint network, at most; >= 0.
        max_bytes: of all that is stored for answering, at most; >= 0.

    Raises:
        SettingError: no budget is given, or no solution is within it; says what the smallest takes.
        StoreMissingError: there is no search in the folder, or no trial of it is done.
        StoreDamagedError: its journal cannot be read.
    """
    if max_parameters is None and max_bytes is None:
        raise SettingError("expected a budget, found none; give --max-parameters or --max-bytes")
    for name, value in (("max_parameters", max_parameters), ("max_bytes", max_bytes)):
        if value is not None:
            at_least(name, value, 0)
    written = read(Path(folder) / JOURNAL)
    done = [(trial, trial.outcome) for trial in written.trials if trial.outcome is not None]
    if not done:
        raise StoreMissingError(f"{folder}: expected a trial that is done, found none; let the search go on")
    fit = [
        (trial, outcome)
        for trial, outcome in done
        if (max_parameters is None or outcome.parameters <= max_parameters)
        and (max_bytes is None or outcome.bytes <= max_bytes)
    ]
    if not fit:
        raise SettingError(
            f"no solution within the budget: the smallest has {min(o.parameters for _, o in done):,} parameters, and "
            f"the smallest takes {min(o.bytes for _, o in done):,} bytes; allow more, or try more trials"
        )
    trial, outcome = max(fit, key=lambda pair: (pair[1].gain, -pair[1].parameters, -pair[0].number))
    return Picked(trial, outcome, written)


def make(picked: Picked, folder: str | Path, out: str | Path, *, root: str | None = None) -> BindAndGrow:
    """Learn a solution's sequence, or take what is kept of it, and save the learner.

    Args:
        picked: the solution.
        folder: the search's, where shared work is kept.
        out: where the learner is saved.
        root: the folder that data are looked for in; by default where they were when the search was begun.

    Returns:
        The learner.

    Raises:
        DataError: the data are not there, or not what they should be.
        StoreError: a folder cannot be read or written, or ``out`` holds something else; it is as it was.
    """
    import torch

    _check_place(Path(out))

    begun, recipe = picked.written.about.get("data", {}), picked.written.recipe
    plan = _plan(recipe, root or begun.get("root"))
    tasks = plan.tasks()
    if plan.recipe(tasks)["data"] != recipe["data"]:
        raise DataError(
            f"{plan.stream.root}: expected the data that the search was made on, found others; a solution of other "
            "data would be another one: search again"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        learner = learn_sequence(
            picked.trial.sequence,
            tasks,
            net=plan.net,
            config=plan.config(),
            seed=plan.seed,
            cache=GrowthCache(Path(folder) / CACHE, begun.get("most_bytes", MOST_BYTES)),
        )
    finally:
        torch.set_num_threads(before)
    learner.save(out)
    return learner


def _check_place(out: Path) -> None:
    """Refuse a folder with anything but an earlier solution, before anything is learned."""
    if not out.exists() or not any(out.iterdir()):
        return
    if not records.exists(out) or records.document(out, "learner")["method"] != BindAndGrow.name:
        raise StoreError(
            f"{out}: expected no folder, an empty one, or one that a solution was saved in, found other files; choose "
            "another"
        )


def _plan(recipe: Any, root: str | None) -> SearchPlan:  # noqa: ANN401 - a JSON object
    """The plan that a recipe was made of, with data from elsewhere perhaps."""
    settings = {k: v for k, v in recipe["settings"].items() if k not in ("delta", "bind")}
    space = SearchSpace(**recipe["search"]["space"])
    search = SearchSettings(**{**recipe["search"], "space": space})
    if space.binds == "conflict":
        settings["bind"] = recipe["settings"]["bind"]
    stream = StreamSpec(recipe["stream"], root, options=recipe["options"], tasks=len(recipe["tasks"]))
    return dataclasses.replace(SearchPlan(stream, recipe["net"], settings, search), threads=recipe["threads"])
