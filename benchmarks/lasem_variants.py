"""Which likelihood, prior, estimate and roll-back LASEM should have by default: variants side by side.

    python benchmarks/lasem_variants.py --root ../shared/data/datasets --folder FOLDER [--streams cifar100-lasem]
        [--variants All default exact] [--transfer hard] [--epochs 60] [--tasks 5] [--seeds 5] [--learning-rate 5e-4]
        [--workers 2]

Runs every variant on every stream and seed (killed, it goes on: results are kept in FOLDER) and prints mean peak
per-task accuracy, accuracy at the end, forgetting ratio, seconds of learning relative to "All", and the difference to
"default", seed by seed, with 95 % Student intervals. Adds an entry to benchmarks/results/lasem_variants.json.
"""

import argparse
import json
import math
from pathlib import Path

from results import FOLDER, write

from stolon import experiments, measure
from stolon.experiments import Experiment, LearnerSpec, StreamSpec
from stolon.experiments.results import Results
from stolon.experiments.summary import groups

RELEASED = {"likelihood": "mean-probability", "prior": "running-mean"}
VARIANTS = {
    "All": ("static", {"configuration": "all"}),
    "None": ("static", {"configuration": "none"}),
    "default": ("lasem", {}),
    "exact": ("lasem", {"exact": True}),
    "released, exact": ("lasem", {"exact": True, **RELEASED}),
    "released, sampled": ("lasem", RELEASED),
    "geometric mean": ("lasem", {"likelihood": "geometric-mean"}),
    "mean probability": ("lasem", {"likelihood": "mean-probability"}),
    "running mean": ("lasem", {"prior": "running-mean"}),
    "history": ("lasem", {"prior": "history"}),
    "related": ("lasem", {"prior": "related"}),
    "warm-up of 10": ("lasem", {"warm_up": 10}),
    "warm-up of 10, exact": ("lasem", {"warm_up": 10, "exact": True}),
    "no roll-back": ("lasem", {"rollback": "none"}),
    "two samples": ("lasem", {"samples": 2}),
    "E-step always": ("lasem", {"e_every": 1}),
    "brute force": ("brute-force", {}),
    "DARTS": ("darts", {}),
    "DARTS, released": ("darts", {"released": True}),
    **{
        name: ("static", {"configuration": name})
        for name in ("top-1", "top-2", "top-3", "bottom-1", "bottom-2", "bottom-3", "alternating")
    },
}
OPTIONS = {"pacs-office-home": {"size": 32}, "cifar10-stl": {"data_share": 0.8334}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True)
    parser.add_argument("--streams", nargs="+", default=["cifar100-lasem"])
    parser.add_argument("--variants", nargs="+", default=["All", "default"], choices=list(VARIANTS))
    parser.add_argument("--transfer", default="hard")
    parser.add_argument("--net", default="cifar-conv4")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--decay", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    training = {
        "epochs": given.epochs, "learning_rate": given.learning_rate, "decay": given.decay, "transfer": given.transfer,
    }  # fmt: skip
    kept = FOLDER / "lasem_variants.json"
    runs = json.loads(kept.read_text())["runs"] if kept.exists() else {}
    for stream in given.streams:
        protocol = (
            f"{given.tasks} tasks, {given.epochs} epochs, rate {given.learning_rate}, decay {given.decay}"
        )
        name = f"{stream}, {given.transfer}, {given.net}, {protocol}"
        for variant in given.variants:  # one folder each: variants can be added later
            kind, settings = VARIANTS[variant]
            experiment = Experiment(
                name=name,
                learners=[LearnerSpec(kind, given.net, variant, settings={**training, **settings})],
                streams=[StreamSpec(stream, given.root, options=OPTIONS.get(stream, {}), tasks=given.tasks)],
                seeds=list(range(given.seeds)),
                infer_tasks=False,
                count_macs=False,
                checkpoint_every_s=30.0,
                workers=given.workers,
            )
            for event in experiments.run(experiment, given.folder / name / variant):
                if event.record.kind == "task":
                    data = event.record.data
                    print(stream, variant, event.record.seed, data["task"], f"{data['peak']:.3f}", flush=True)
        runs[name] = {**runs.get(name, {}), **table(given.folder / name)}
    write("lasem_variants", {"runs": runs})


def table(folder: Path) -> dict:
    found = {}
    for place in sorted(folder.iterdir()):
        (group,) = groups(Results(place / "results.jsonl").read())
        found[place.name] = {o.seed: o for o in group.finished}
    rows = {}
    for name, outcomes in found.items():
        values = {
            "peak": {s: o.matrix.peak() for s, o in outcomes.items()},
            "final": {s: o.matrix.final() for s, o in outcomes.items()},
            "kept": {s: o.matrix.forgetting_ratio("end") for s, o in outcomes.items()},
            "seconds": {s: math.fsum(t["seconds"] for t in o.tasks) for s, o in outcomes.items()},
        }
        for other, key in (("default", "peak"), ("All", "seconds")):
            if other in found and name != other:
                both = sorted(set(outcomes) & set(found[other]))
                if key == "peak":
                    values["peak against default"] = {
                        s: values["peak"][s] - found[other][s].matrix.peak() for s in both
                    }
                else:
                    values["seconds against All"] = {
                        s: values["seconds"][s] / math.fsum(t["seconds"] for t in found[other][s].tasks)
                        for s in both
                    }
        rows[name] = {"seeds": len(outcomes)}
        for key, of in values.items():
            if of:
                interval = measure.interval(of.values())
                rows[name][key] = [
                    round(interval.mean, 4),
                    round(interval.half_width, 4) if math.isfinite(interval.half_width) else None,
                ]
        print(name, rows[name], flush=True)
    return rows


if __name__ == "__main__":
    main()
