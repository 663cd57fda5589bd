"""20 trials of a search over grow sequences with what they share kept, against the same trials from nothing.

    python benchmarks/growth_search.py --seeds 5
    python benchmarks/growth_search.py --seeds 5 --deltas each
    python benchmarks/growth_search.py --stream cifar100-split --root ../shared/data --net growth-conv --epochs 5

NSGA-II chooses one delta for all tasks (the paper's setting), or one for each. Each trial is run both ways, one after
the other, so that a busy moment of the machine hits both; the cached side pays for the independent networks, for what
it writes, and for its digests. Outcomes must be equal, to the bit. The ratio is of the seconds of all trials of a seed.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import torch
from results import write

from stolon import streams
from stolon.growth.cache import GrowthCache
from stolon.growth.config import BindAndGrowConfig
from stolon.growth.pareto import Point, hypervolume
from stolon.growth.search import Search, SearchSettings, best
from stolon.growth.search_space import SearchSpace
from stolon.growth.sequence_run import run_sequence
from stolon.measure.intervals import interval


def one(wanted: argparse.Namespace, seed: int) -> dict:
    """A search with this seed, both ways."""
    tasks = list(streams.make(wanted.stream, root=wanted.root, seed=seed)[: wanted.tasks])
    config = BindAndGrowConfig(epochs=wanted.epochs, learning_rate=wanted.learning_rate)
    how = {"net": wanted.net, "config": config, "seed": seed}
    settings = SearchSettings(seed=seed, space=SearchSpace(deltas=wanted.deltas))
    with tempfile.TemporaryDirectory() as folder:
        cache = GrowthCache(Path(folder) / "cache", int(wanted.cache_gb * 2**30))
        search = Search(Path(folder) / "journal.log", settings, [task.name for task in tasks], {})
        warm = search.open(1)[0].sequence
        run_sequence(warm, tasks, **how)  # torch's first optimiser imports a second's worth of modules
        cached = from_nothing = 0.0
        learned, same = 0, True
        while opened := search.open(wanted.trials):
            for trial in opened:
                begun = time.perf_counter()
                outcome = run_sequence(trial.sequence, tasks, **how, cache=cache)
                between = time.perf_counter()
                same &= run_sequence(trial.sequence, tasks, **how) == outcome
                ended = time.perf_counter()
                cached, from_nothing = cached + between - begun, from_nothing + ended - between
                learned += len(outcome.learned)
                search.tell(trial.number, outcome)
                print(
                    f"seed {seed}, trial {trial.number}: {between - begun:.2f} s, "
                    f"from nothing {ended - between:.2f} s"
                )
        most = search.trials[0].outcome.parameters_apart
        points = [trial.point for trial in search.trials]
        return {
            "seed": seed,
            "stream_tasks": len(tasks),
            "same_results": same,
            "seconds_cached": round(cached, 2),
            "seconds_from_nothing": round(from_nothing, 2),
            "ratio": round(cached / from_nothing, 3),
            "tasks_learned": learned,
            "tasks_in_all": len(tasks) * len(points),
            "different_outcomes": len({(point.gain, point.parameters) for point in points}),
            "cache_bytes": cache.bytes(),
            "front": [[round(100 * t.point.gain, 2), t.point.parameters] for t in best(search.trials)],
            "hypervolume": round(hypervolume(points, Point(-0.5, most)) / most, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stream", default="digits-split")
    parser.add_argument("--root", default=None)
    parser.add_argument("--tasks", type=int, default=None)
    parser.add_argument("--net", default="mlp-300-300-300")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--deltas", choices=("shared", "each"), default="shared")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache-gb", type=float, default=4.0)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    runs = [one(wanted, seed) for seed in range(wanted.seeds)]
    ratio = interval(run["ratio"] for run in runs)
    figures = {
        **vars(wanted),
        "root": None if wanted.root is None else Path(wanted.root).name,
        "same_results": all(run["same_results"] for run in runs),
        "ratio": round(ratio.mean, 3),
        "ratio_half_width": round(ratio.half_width, 3) if math.isfinite(ratio.half_width) else None,
        "goal": 0.5,
        "runs": runs,
    }
    print(figures)
    kind = "" if wanted.deltas == "shared" else f"_{wanted.deltas}"
    stream = "" if wanted.stream == "digits-split" else f"_{wanted.stream}"
    write(f"growth_search{kind}{stream}", figures)


if __name__ == "__main__":
    main()
