"""The report of a figure on impressions: the figure with its numbers, how it was run, where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stolon.experiments import reproduced
from stolon.experiments.impress.measured import Measured
from stolon.experiments.impress.paper import BACKBONES, DENSITIES, NETS, SEEDS, Protocol
from stolon.experiments.impress.plans import Plan
from stolon.experiments.impress.settings import WEIGHTS
from stolon.experiments.impress.tables import figure
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.results import Record
from stolon.masks.fitting import MaskTraining
from stolon.tasks import Task


@final
@dataclass(frozen=True)
class Run:
    """A plan that was run, wholly or in part.

    Attributes:
        plan: what was asked for.
        samples: training and test images of the first task.
        records: what it gave.
    """

    plan: Plan
    samples: tuple[int, int]
    records: Sequence[Record]

    @staticmethod
    def of(plan: Plan, first: Task, records: Sequence[Record]) -> "Run":
        """With the first task of its stream."""
        return Run(plan, (len(first.train), len(first.test)), records)

    def figure(self) -> Section:
        """The paper's figure."""
        return figure(Measured(self.plan, self.records))


def publish(runs: Sequence[Run], folder: Path, command: str = "") -> Path:
    """Write ``report.html`` and ``report.md``, which tell the command; the path of the former.

    Raises:
        StoreError: the reports could not be written.
    """
    wanted = runs[0].plan.wanted
    told = [(run.plan.stream, sections(run, command)) for run in runs]
    return reproduced.publish(folder, f"{wanted.figure}, {wanted.scale} scale", told)


def sections(run: Run, command: str = "") -> list[Section]:
    """The figure, how it was run, where it comes from."""
    return [run.figure(), settings(run), reproduced.origin(run.records, command)]


def settings(run: Run) -> Section:
    """How it was run, beside the paper's protocol."""
    plan, setting = run.plan, run.plan.setting
    theirs = setting.paper
    alphas = setting.alphas
    rows = [
        ("network", setting.net, "–" if theirs is None else theirs.net),
        ("its weights", WEIGHTS, "Kaiming normal"),
        ("training, test images of a task", f"{run.samples[0]:,}, {run.samples[1]:,}", "–"),
        ("densities", _listed(setting.densities), _listed(DENSITIES)),
        ("bases", _listed(setting.sizes), "–" if theirs is None else f"up to {theirs.largest}"),
        ("heterogeneous ones", _listed(plan.sizes("heterogeneous")), "–"),
        ("new tasks", str(setting.new), "–" if theirs is None else str(theirs.new)),
        ("runs", _runs(plan), f"{BACKBONES} backbones, {SEEDS} seeds each"),
        ("masks", _training(setting.masks), "not printed"),
        (
            "kept weights",
            "divided by the root of their share" if setting.scaled else "as they are",
            "not said (SupSup: as they are)",
        ),
        ("masks trained at once", str(setting.at_once), "–"),
        ("coefficients", _training(alphas), "–" if theirs is None else _theirs(theirs)),
        ("λ", f"{setting.penalty:g}", "–" if theirs is None else f"{theirs.penalty:g}"),
        ("options of the stream", _options(plan), "–"),
    ]
    units = len(plan.units())
    seconds = sum(record.data["seconds"] for record in run.records if record.kind in ("epoch", "task"))
    took = f" Work took {seconds / 60:.1f} minutes in all by the clock, on one thread each."
    shared = (
        " Runs that share a backbone enter intervals as if they did not."
        if 0 < setting.backbones < setting.runs
        else ""
    )
    small = (
        f" The network is smaller than the paper's {theirs.net}."
        if theirs is not None and setting.net != NETS[theirs.net]
        else ""
    )
    text = (
        f"Stream {plan.stream} at scale {plan.wanted.scale}: {units} units of work, each one basis (or one mask for "
        f"each new task) of one density in one run.{took}{small}{shared} "
        "Smaller bases are the first masks of the largest. Masks are binary, the same share in every layer, of the "
        "largest scores by magnitude. "
        "Coefficients are kept and measured in half precision. Nothing is chosen by results while it runs: what "
        "validation data a task has are left aside."
        + ("" if theirs is not None else " The paper has nothing on these data.")
        + _statistics(Measured(plan, run.records))
    )
    return Section("How it was run", text, [Table(("", "here", "paper"), rows, "Settings")])


def compact(run: Run) -> dict[str, Any]:
    """The results as JSON values: what is worth keeping of a run."""
    found = Measured(run.plan, run.records)
    parts = run.figure()
    columns = [*found.inferences()]
    return {
        "recipe": run.plan.recipe(),
        "runs": run.plan.setting.runs,
        "new": run.plan.setting.new,
        "samples": run.samples,
        "done": found.done(),
        "text": [part.text for part in (parts, *parts.sections)],
        "tables": reproduced.kept_tables(parts.sections),
        "inferences": [list(column) for column in columns],
        "results": [
            [
                record.learner,
                record.seed,
                *record.where,
                record.data.get("accuracy"),
                record.data.get("found"),
                record.data.get("found_each"),
            ]
            for record in run.records
            if record.kind == "task"
        ],
    }


def keep(runs: Sequence[Run], path: Path, command: str) -> None:
    """Write the compact results as JSON, durably."""
    reproduced.keep(path, command, {run.plan.stream: compact(run) for run in runs})


def _statistics(found: Measured) -> str:
    count = found.facts.get("statistics_bytes")
    if not count:
        return ""
    return (
        f" Every task, with a mask or with coefficients, also keeps {count:,} bytes of normalisation's statistics in "
        "float32, which the paper does not count."
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "–"


def _runs(plan: Plan) -> str:
    setting = plan.setting
    return (
        f"{setting.runs}, on {min(setting.backbones, setting.runs)} backbones in turn"
        if setting.backbones
        else f"{setting.runs}, each with a backbone of its own"
    )


def _options(plan: Plan) -> str:
    options = {"tasks": plan.tasks, **plan.setting.options}
    order = "; tasks in random order" if plan.setting.shuffled else ""
    return ", ".join(f"{key} = {value}" for key, value in options.items()) + order


def _training(training: MaskTraining) -> str:
    decay = f", weight decay {training.weight_decay:g}" if training.weight_decay else ""
    return (
        f"{training.optimizer} {training.learning_rate:g} ({training.schedule}), batches of {training.batch_size}, "
        f"{training.epochs} epochs{decay}"
    )


def _theirs(protocol: Protocol) -> str:
    decay = ", weight decay 0.1" if protocol.optimizer == "Adam" else ""
    return (
        f"{protocol.optimizer} {protocol.learning_rate:g}, batches of {protocol.batch_size}, epochs not "
        f"printed{decay}"
    )
