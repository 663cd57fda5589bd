"""20 trials of a search over grow sequences with what they share kept, against the same trials from nothing.

    python benchmarks/growth_search.py
    python benchmarks/growth_search.py --stream cifar100-split --root ../shared/data --net growth-conv --epochs 5

NSGA-II chooses one delta for all tasks (the paper's setting). Each trial is run both ways, one after the other, so that
a busy moment of the machine hits both; the cached side pays for the independent networks, for what it writes, and for
its digests. Outcomes must be equal, to the bit. The ratio is of the seconds of all trials.
"""

import argparse
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
from stolon.growth.sequence_run import run_sequence


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stream", default="digits-split")
    parser.add_argument("--root", default=None)
    parser.add_argument("--tasks", type=int, default=None)
    parser.add_argument("--net", default="mlp-300-300-300")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache-gb", type=float, default=4.0)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    tasks = list(streams.make(wanted.stream, root=wanted.root, seed=wanted.seed)[: wanted.tasks])
    config = BindAndGrowConfig(epochs=wanted.epochs, learning_rate=wanted.learning_rate)
    how = {"net": wanted.net, "config": config, "seed": wanted.seed}

    with tempfile.TemporaryDirectory() as folder:
        cache = GrowthCache(Path(folder) / "cache", int(wanted.cache_gb * 2**30))
        names = [task.name for task in tasks]
        search = Search(Path(folder) / "journal.log", SearchSettings(seed=wanted.seed), names, {})
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
                print(f"trial {trial.number}: {between - begun:.2f} s, from nothing {ended - between:.2f} s")
        most = tasks and search.trials[0].outcome.parameters_apart
        points = [trial.point for trial in search.trials]
        figures = {
            **vars(wanted),
            "root": None if wanted.root is None else Path(wanted.root).name,
            "stream_tasks": len(tasks),
            "same_results": same,
            "seconds_cached": round(cached, 2),
            "seconds_from_nothing": round(from_nothing, 2),
            "ratio": round(cached / from_nothing, 3),
            "goal": 0.5,
            "tasks_learned": learned,
            "tasks_in_all": len(tasks) * len(points),
            "different_outcomes": len({(point.gain, point.parameters) for point in points}),
            "cache_bytes": cache.bytes(),
            "front": [[round(100 * t.point.gain, 2), t.point.parameters] for t in best(search.trials)],
            "hypervolume": round(hypervolume(points, Point(-0.5, most)) / most, 4),
        }
    print(figures)
    write("growth_search" if wanted.stream == "digits-split" else f"growth_search_{wanted.stream}", figures)


if __name__ == "__main__":
    main()
