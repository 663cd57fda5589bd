"""Representational similarity of a 5-layer network: time against the textbook's form, memory, and their difference.

    python benchmarks/rsa_speed.py [--rounds 3] [--images 500] [--side 32] [--threads 2] [--dry]

Two networks ("growth-conv", freshly drawn: time and memory do not depend on the weights) are compared layer by layer
on the same images, as for one new task and one candidate: both networks' activations, their dissimilarity matrices, the
comparison. "Naive" is the formula: all activations kept, ``numpy.corrcoef``, ``scipy.stats.spearmanr``. Both are timed
in turn, round after round, so that what else the machine does hits both alike; the median over rounds of the ratio is
kept, and the processor's seconds beside those of the clock. Memory is the largest resident size of a process of its own
that does nothing else, libraries and networks included; once with the default bound on activations and once with a
small one. Writes benchmarks/results/rsa_speed.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from results import write
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from stolon.growth.independent import Independent
from stolon.growth.similarity import dissimilarities, signatures
from stolon.growth.structure import Structure

SMALL = 64 * 2**20


def networks(side: int) -> list[Independent]:
    structure = Structure("growth-conv", (3, side, side))
    return [Independent(structure, task, 10, seed=0) for task in ("one", "other")]


def images(count: int, side: int) -> torch.Tensor:
    """Smooth noise, so that images differ in kind."""
    g = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, side // 4, side // 4, generator=g)
    return torch.nn.functional.interpolate(small, size=(side, side), mode="bilinear")


@torch.no_grad()
def fast(pair: list[Independent], x: torch.Tensor, memory: int = 512 * 2**20) -> list[float]:
    return dissimilarities(*(signatures(network.activations, x, memory=memory) for network in pair))


@torch.no_grad()
def naive(pair: list[Independent], x: torch.Tensor) -> list[float]:
    upper = np.triu_indices(len(x), 1)
    rdms = [[1 - np.corrcoef(a.numpy())[upper] for a in network.activations(x)] for network in pair]
    return [1 - float(spearmanr(a, b)[0]) for a, b in zip(*rdms, strict=True)]


def timed(function, *given) -> tuple[tuple[float, float], list[float]]:
    """Seconds of the clock and of the processor."""
    began = time.perf_counter(), time.process_time()
    found = function(*given)
    return (time.perf_counter() - began[0], time.process_time() - began[1]), found


def peak_mib(options: argparse.Namespace, memory: int) -> dict[str, float]:
    """Of a process that compares once, and of one that stops before."""
    found = {}
    for name, bound in (("before", 0), ("comparing", memory)):
        command = [sys.executable, __file__, "--child", str(bound), "--images", str(options.images)]
        command += ["--side", str(options.side), "--threads", str(options.threads)]
        out = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
        found[name] = round(json.loads(out)["peak_kib"] / 1024)
    return found


def child(options: argparse.Namespace) -> None:
    pair, x = networks(options.side), images(options.images, options.side)
    if options.child:
        fast(pair, x, options.child)
    status = Path(
        "/proc/self/status"
    ).read_text()  # getrusage would count the parent's memory before the exec
    print(json.dumps({"peak_kib": int(status.split("VmHWM:")[1].split()[0])}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print only")
    parser.add_argument("--child", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)  # numpy's
    if options.child >= 0:
        child(options)
        return
    pair, x = networks(options.side), images(options.images, options.side)
    timed(fast, pair, x[:32])
    ours, theirs, difference = [], [], 0.0
    for _ in range(options.rounds):
        seconds, found = timed(fast, pair, x)
        ours.append(seconds)
        seconds, expected = timed(naive, pair, x)
        theirs.append(seconds)
        difference = max(difference, *(abs(a - b) for a, b in zip(found, expected, strict=True)))
    bounded = fast(pair, x, SMALL)
    figures = {
        "net": "growth-conv",
        "images": options.images,
        "side": options.side,
        "rounds": options.rounds,
        "seconds": {"fast": [round(s, 2) for s, _ in ours], "naive": [round(s, 2) for s, _ in theirs]},
        "processor_seconds": {
            "fast": [round(s, 2) for _, s in ours],
            "naive": [round(s, 2) for _, s in theirs],
        },
        "median_seconds": round(statistics.median(s for s, _ in ours), 2),
        "median_ratio": round(
            statistics.median(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True)), 3
        ),
        "load": round(os.getloadavg()[0], 2),
        "largest_difference": difference,
        "largest_difference_bounded": max(abs(a - b) for a, b in zip(bounded, expected, strict=True)),
        "dissimilarities": [round(value, 4) for value in found],
        "peak_mib": {"512 MiB": peak_mib(options, 2**29), "64 MiB": peak_mib(options, SMALL)},
    }
    print(json.dumps(figures, indent=1))
    if not options.dry:
        write("rsa_speed", figures)


if __name__ == "__main__":
    main()
