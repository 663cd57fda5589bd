"""Plans so small that they run in a second or two, and records with numbers that are known beforehand."""

from dataclasses import replace

from stolon.experiments.growth.plans import LEARNERS, Plan, Wanted
from stolon.experiments.growth.settings import STREAMS
from stolon.experiments.results import Record
from stolon.growth.explanation import Growth
from stolon.growth.sequences import GrowSequence

TINY = replace(
    STREAMS["digits-split"]["quick"],
    net="mlp-6-6",
    tasks=3,
    epochs=1,
    batch_size=128,
    samples=40,
    deltas=(0.0, 0.5, 1.0),
    draws=2,
    seeds=1,
    rcl_trials=1,
    rcl_epochs=1,
)
NAMES = ("a", "b")


LAYERS = ("1", "2")
GROWTHS = [
    Growth("a", None, "first task", None, LAYERS, LAYERS).to_json(),
    Growth(
        "b", "a", "least-conflict", 0.5, LAYERS, ("2",), {"a": (0.125, 0.375)}, {"a": 0.25}, (0.25, 0.75), 30,
        "validation", (600, 400),
    ).to_json(),
]  # fmt: skip


def plan(figure="growth-figure2", *, workers=0, **changes):
    """A figure on the digits."""
    return Plan(Wanted(figure, workers=workers), "digits-split", replace(TINY, **changes))


def results(records):
    """What was found, without how long it took and how much of it was there."""
    return {
        (record.kind, record.learner, record.seed, record.where): {
            key: value
            for key, value in record.data.items()
            if key not in ("seconds", "learned", "evaluation_seconds")
        }
        for record in records
        if record.kind in ("task", "done")
    }


def made(plan, gain, share, *, leave_out=lambda item, seed: False):
    """Records of two tasks, alone at 0.8: items have so much more accuracy, and such a share of 1000 parameters.

    Args:
        plan: whose items.
        gain: from an item and a seed to a number.
        share: from an item to a number.
        leave_out: which are missing.
    """
    found = [Record("experiment", plan.name, data={"recipe": plan.recipe(), "command": "one"})]
    for unit in plan.units():
        for item in plan.items(unit.kind):
            if leave_out(item, unit.seed):
                continue
            about = (plan.name, item.label, plan.stream, unit.seed)
            facts = {"tasks": list(NAMES), "inputs": [100, 50], "train": [30, 30]}
            last = 0.8 + gain(item, unit.seed)
            if item.kind == "independent":
                data = {"val": [0.7, 0.7], "test": [0.8, 0.8], "seconds": [1.0, 2.0], "parameters": 1000}
            elif item.kind in LEARNERS:
                facts, data = {}, {"seconds": 9.0, "macs": None}
                for i, row in enumerate(([0.8], [last, last])):
                    size = {"parameters": int(1000 * share(item))}
                    task = {"task": NAMES[i], "index": i, "of": 2, "row": row, "size": size}
                    found.append(Record("task", *about, task, (NAMES[i],)))
            else:
                data = {
                    "rows": [[0.8], [last, last]], "val": [last - 0.1] * 2, "parameters": int(1000 * share(item)),
                    "growths": GROWTHS, "seconds": 4.0, "bytes": 1,
                    "alone": {"random": 0, "as-released": 1}.get(item.kind, 2),
                }  # fmt: skip
                if item.kind == "searched":
                    data["sequence"] = GrowSequence.shared(NAMES, 0.5).to_json()
                if item.kind != "random":
                    data["learned"] = 1 if item.delta == 1 else 2
            found.append(Record("trial", *about, facts, versions={"torch": "2"}, hardware={"cores": 2}))
            found.append(Record("done", *about, data))
    return found
