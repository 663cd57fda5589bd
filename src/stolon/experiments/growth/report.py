"""The report of an experiment on growth: the figure with its numbers, how it was run, where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from stolon.experiments import reproduced
from stolon.experiments.growth.fronts import Fronts
from stolon.experiments.growth.measured import Measured
from stolon.experiments.growth.plans import POPULATION, SPACE, Plan
from stolon.experiments.growth.settings import DRAWS
from stolon.experiments.growth.tables import figure, words
from stolon.experiments.report_parts import Section, Table
from stolon.experiments.results import Record


@final
@dataclass(frozen=True)
class Run:
    """A plan that was run, wholly or in part.

    Attributes:
        plan: what was asked for.
        records: what it gave.
    """

    plan: Plan
    records: Sequence[Record]

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
    """How it was run, beside the paper's protocol (papers/methods.md 4.1 and 4.4)."""
    plan, setting = run.plan, run.plan.setting
    found = Measured(plan, run.records)
    is_search = plan.wanted.figure == "growth-pareto"
    is_theirs = plan.stream in ("cifar100-split", "mnist-permuted")
    theirs = {
        "cifar100-split": ("three convolutions, two fully connected layers", "own"),
        "mnist-permuted": ("1024-300-300-300 (images padded to 32 x 32)", "shared"),
    }.get(plan.stream, ("–", "–"))
    rows = [
        ("network", setting.net, theirs[0]),
        ("heads", setting.head, theirs[1]),
        ("tasks", str(setting.tasks), "10" if is_theirs else "–"),
        ("training, test images of a task", _images(found), "all, the official test data"),
        ("optimiser", f"SGD {setting.learning_rate:g}, momentum 0.9", "SGD 0.01, momentum 0.9"),
        ("batch", str(setting.batch_size), "64"),
        ("epochs", str(setting.epochs), "5"),
        ("inputs that conflicts are measured on", _compared(found), "not printed (code: 500, training)"),
        (
            "grow coefficients",
            ", ".join(f"{delta:g}" for delta in plan.deltas),
            "searched by NSGA-II in steps of 0.05" if is_search else "0.1, 0.2, ... 0.9",
        ),
    ]
    if "searched" in plan.kinds:
        trials = f"{setting.draws} trials of NSGA-II, the first {POPULATION} at random"
        ours = f"{trials}, a coefficient for each task in steps of {SPACE.step:g}"
        rows.append(("search of each seed", ours, "20 trials of NSGA-II, a coefficient for all tasks"))
    if "random" in plan.kinds:
        rows.append(("random growths of each seed", str(setting.draws), f"not printed ({DRAWS} taken)"))
    if "rcl" in plan.kinds:
        trials = f"{setting.rcl_trials} children of {setting.rcl_epochs} epochs"
        rows.append(("RCL", f"{trials}, begun with {setting.net}", "50 of 15, begun with 312 and 128 units"))
    rows += [
        ("seeds", str(setting.seeds), "1 (1111)"),
        ("options of the stream", ", ".join(f"{k} = {v}" for k, v in setting.options.items()), "–"),
    ]
    text = (
        f"Stream {plan.stream} at scale {plan.wanted.scale}. Work took {found.worked() / 60:.1f} minutes in all by the "
        "clock, on one thread each. A seed decides the stream's validation data and permutations, weights and orders. "
        "Independent networks are trained once for each seed; beginnings of grow sequences that come to the same "
        "decisions are learned once. Nothing is chosen by test accuracy while it runs."
        + ("" if is_theirs else " The paper has nothing on these data.")
    )
    return Section("How it was run", text, [Table(("", "here", "paper"), rows, "Settings")])


def compact(run: Run) -> dict[str, Any]:
    """The results as JSON values: what is worth keeping of a run."""
    found, plan = Measured(run.plan, run.records), run.plan
    parts = run.figure()
    value = {
        "recipe": plan.recipe(),
        "seeds": plan.setting.seeds,
        "done": found.done(),
        "text": [part.text for part in (parts, *parts.sections)],
        "tables": reproduced.kept_tables(parts.sections),
        "results": [
            {
                "label": item.label,
                "words": words(item),
                "seed": unit.seed,
                "accuracy": solution.accuracy,
                "gain": solution.gain,
                "relative_gain": solution.relative_gain,
                "error_change": solution.error_change,
                "val_gain": solution.val_gain,
                "parameters": solution.parameters,
                "share": solution.share,
                "forgetting_ratio": solution.forgetting,
                "seconds": solution.seconds,
                "final": list(solution.matrix.rows[-1]),
            }
            for unit in plan.units()
            for item in plan.items(unit.kind)
            if (solution := found.solution(item, unit.seed)) is not None
        ],
    }
    if "random" in plan.kinds:
        fronts = Fronts(found)
        value["reference"] = fronts.reference()
        value["hypervolumes"] = {kind: dict(fronts.hypervolumes(kind)) for kind in fronts.kinds}
    return value


def keep(runs: Sequence[Run], path: Path, command: str) -> None:
    """Write the compact results as JSON, durably."""
    reproduced.keep(path, command, {run.plan.stream: compact(run) for run in runs})


def line(record: Record) -> str | None:
    """What is told of a record while it runs; None for nothing."""
    name = f"{record.stream} {record.seed}, {record.learner}"
    if record.kind == "failed":
        return f"{name}: failed: {record.data['error']}: {record.data['message']}"
    if record.kind == "task":
        row = record.data["row"]
        return (
            f"{name}: {record.data['index'] + 1} of {record.data['of']} tasks, mean accuracy {_mean(row):.1%}"
        )
    if record.kind == "done":
        last = record.data["rows"][-1] if "rows" in record.data else record.data.get("test")
        return f"{name}: done" if last is None else f"{name}: mean accuracy {_mean(last):.1%}"
    return None


def _compared(found: Measured) -> str:
    """On how many inputs, and which, as the runs tell."""
    plan = found.plan
    growths = [
        growth
        for kind in plan.kinds
        for item in plan.items(kind)
        for seed in range(plan.setting.seeds)
        for growth in found.growths(item, seed)
        if growth.inputs
    ]
    by_source = {
        growth.source: [g.inputs for g in growths if g.source == growth.source] for growth in growths
    }
    told = [f"{_span(counts)}, {source}" for source, counts in sorted(by_source.items(), reverse=True)]
    return "; ".join(told) or f"at most {plan.setting.samples}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _images(found: Measured) -> str:
    facts = found.facts
    if not facts:
        return "–"
    return ", ".join(_span(facts[key]) for key in ("train", "inputs"))
