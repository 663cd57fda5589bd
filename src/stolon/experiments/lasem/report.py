"""The report of a table on selective layer transfer: the table, how it was run, and what LASEM chose.

One page for all streams that the table was run on; each stream's results file draws a general report besides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stolon.experiments import reproduced
from stolon.experiments.lasem import choices
from stolon.experiments.lasem.measured import Measured
from stolon.experiments.lasem.methods import VARIANTS
from stolon.experiments.lasem.paper import SEEDS, Protocol
from stolon.experiments.lasem.plans import Plan
from stolon.experiments.lasem.tables import table
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.results import Record
from stolon.tasks import Stream


@final
@dataclass(frozen=True)
class Data:
    """What a stream's first task is.

    Attributes:
        tasks: how many the stream has.
        samples: training, validation and test images.
        classes: how many.
        shape: of an input.
    """

    tasks: int
    samples: tuple[int, int, int]
    classes: int
    shape: tuple[int, ...]

    @staticmethod
    def of(stream: Stream) -> "Data":
        """Of a stream that has been opened."""
        first = stream[0]
        samples = (len(first.train), len(first.val), len(first.test))
        return Data(len(stream), samples, len(first.classes), tuple(first.shape))


@final
@dataclass(frozen=True)
class Run:
    """A plan that was run, wholly or in part.

    Attributes:
        plan: what was asked for.
        data: what its tasks are.
        records: what it gave.
    """

    plan: Plan
    data: Data
    records: Sequence[Record]

    def figure(self) -> Section:
        """The paper's table."""
        return table(Measured(self.plan, self.records))


def publish(runs: Sequence[Run], folder: Path, command: str = "") -> Path:
    """Write ``report.html`` and ``report.md``, which tell the command; the path of the former.

    Raises:
        StoreError: the reports could not be written.
    """
    wanted = runs[0].plan.wanted
    told = [(run.plan.stream, sections(run, command)) for run in runs]
    return reproduced.publish(folder, f"{wanted.table}, {wanted.scale} scale", told)


def sections(run: Run, command: str = "") -> list[Section]:
    """The table, how it was run, each method's choices, where it comes from."""
    measured = Measured(run.plan, run.records)
    found = []
    for method in run.plan.methods:
        group = measured.group(method)
        chosen = None if group is None or method.probability else choices.section(group)
        if chosen is not None:
            found.append(chosen)
    explained = [Section("What was chosen", sections=found)] if found else []
    return [run.figure(), _settings(run), *explained, reproduced.origin(run.records, command)]


def compact(run: Run) -> dict[str, Any]:
    """The results without their epochs, as JSON values: what is worth keeping of a run."""
    tasks = [
        {
            "learner": r.learner,
            "seed": r.seed,
            **{key: r.data[key] for key in ("task", "row", "peak", "seconds")},
        }
        for r in run.records
        if r.kind == "task"
    ]
    section = run.figure()
    return {
        "experiment": run.plan.experiment.to_json(),
        "data": {"tasks": run.data.tasks, "samples": run.data.samples, "classes": run.data.classes},
        "done": [list(r.trial) for r in run.records if r.kind == "done"],
        "text": section.text,
        "tables": reproduced.kept_tables([section]),
        "tasks": tasks,
        "choices": _choices(run),
    }


def keep(runs: Sequence[Run], path: Path, command: str) -> None:
    """Write the compact results as JSON, durably."""
    reproduced.keep(path, command, {run.plan.stream: compact(run) for run in runs})


def _choices(run: Run) -> dict[str, dict[str, dict[str, str]]]:
    """By method, seed and task."""
    measured = Measured(run.plan, run.records)
    found: dict[str, dict[str, dict[str, str]]] = {}
    for method in run.plan.methods:
        group = measured.group(method)
        if group is not None and method.kind != "static":
            found[method.label] = {
                str(outcome.seed): {c.task: c.configuration for c in choices.choices(outcome)}
                for outcome in group.finished
            }
    return found


# How it was run


def _settings(run: Run) -> Section:
    plan, data = run.plan, run.data
    here, theirs = plan.setting.protocol, plan.setting.paper
    seeds = plan.experiment.seeds
    rows = [
        ("tasks", str(data.tasks), _of(theirs, "{0.tasks}")),
        ("classes in each", str(data.classes), _of(theirs, "{0.classes}")),
        (
            "training, validation, test images of the first task",
            ", ".join(map(str, data.samples)),
            "–" if theirs is None or theirs.samples is None else ", ".join(map(str, theirs.samples)),
        ),
        ("image side", f"{data.shape[-1]} pixels", _of(theirs, "{0.side} pixels")),
        ("network", here.net, _net(plan)),
        ("epochs for each task", str(here.epochs), _epochs(plan)),
        ("learning rate", f"{here.learning_rate:g}", _of(theirs, "{0.learning_rate:g}")),
        (
            "its decay d in rate / (1 + d epochs)",
            _decay(here.decay),
            "–" if theirs is None else _decay(theirs.decay),
        ),
        ("batch", str(here.batch_size), _of(theirs, "{0.batch_size}")),
        ("optimiser", "RMSProp as in TensorFlow 1", "RMSProp"),
        ("runs", f"{len(seeds)} (seed {', '.join(map(str, seeds))})", str(SEEDS)),
    ]
    changed = [name for name, ours, paper in rows[:-2] if paper not in ("–", ours)]
    changed += ["runs"] * (len(seeds) != SEEDS)
    done = sum(record.kind == "done" for record in run.records)
    wanted = len(seeds) * len(plan.methods)
    text = (
        f"Stream {plan.stream} at scale {plan.wanted.scale}, {done} of {wanted} trials done. "
        + (f"What differs from the paper's protocol: {', '.join(changed)}." if changed and theirs else "")
        + (" The protocol is the paper's." if theirs and not changed else "")
        + (" The paper has no such data." if theirs is None else "")
        + "\n\nTimes are ratios of the seconds that learning took in the same run, seed by seed: validation after each "
        "epoch included, looking at test data not. "
        f"{max(1, plan.experiment.workers)} trial(s) of one thread each ran at a time on a CPU that other work may "
        "have shared, so a ratio of a few per cent means nothing; the paper's are wall clock on GPUs."
        + _lasem_words(plan)
    )
    return Section("How it was run", text, [Table(("", "here", "paper"), rows, "Learning settings")])


def _lasem_words(plan: Plan) -> str:
    names = [name for name in plan.wanted.variants if plan.find(variant=name)]
    if not names:
        return ""
    told = "; ".join(f"{name} ({_words(VARIANTS[name]) or 'no setting changed'})" for name in names)
    return (
        f"\n\nLASEM ran as {told}. By default it is estimated: each sample of a mini-batch trains one configuration "
        "drawn from the posterior, and E-steps are as rare as their cost asks; the papers compute all configurations "
        "at every mini-batch, which exact does here."
    )


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in settings.items())


def _of(protocol: Protocol | None, shape: str) -> str:
    return "–" if protocol is None else shape.format(protocol)


def _net(plan: Plan) -> str:
    if plan.setting.paper is None:
        return "–"
    is_resnet = plan.setting.protocol.net == "resnet18-plain"
    return "resnet18-plain" if is_resnet and plan.wanted.table == "lasem-table2" else plan.setting.paper.net


def _epochs(plan: Plan) -> str:
    """The paper's; of its ResNet-18 they are printed nowhere."""
    if plan.setting.protocol.net == "resnet18-plain":
        return "not printed"
    return _of(plan.setting.paper, "{0.epochs}")


def _decay(decay: float) -> str:
    return f"1/{1 / decay:.0f}" if decay else "0"
