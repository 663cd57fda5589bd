"""What choosing the configuration costs: training time against one static configuration, in the same run.

    python benchmarks/lasem_speed.py [--rounds 7] [--nets cifar-conv4 ...] [--batches 10 100] [--threads 1]

For each net, mechanism and batch size training steps of each method are timed in turn, round after round (so that what
else the machine does hits all alike), and the median over rounds of the ratio to "All" (one static configuration) is
kept. Steps are those of the learners: loss, backward pass, optimiser. "naive" computes every configuration by
itself; brute force costs as many times "All" as there are configurations. Writes benchmarks/results/lasem_speed.json.
"""

# ruff: noqa: ARG002, D102 - a script's classes

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from results import FOLDER, write

from stolon.nets import GROUPS
from stolon.tasks import Split, Task
from stolon.training import make_optimizer
from stolon.transfer.configurations import Space, parse
from stolon.transfer.darts import DartsConfig, Mixture
from stolon.transfer.em import batch_log_likelihood
from stolon.transfer.fit import Lesson, Strategy
from stolon.transfer.lasem import EM, LasemConfig
from stolon.transfer.mechanisms import find
from stolon.transfer.network import Network
from stolon.transfer.objectives import log_likelihood, loss
from stolon.transfer.prefix import Plan
from stolon.transfer.static import One

SHAPES = {"cifar-conv4": 32, "stl-conv6": 96, "office-conv4": 128, "resnet18-plain": 32}


class Naive(Strategy):
    """Every configuration by itself: E-step, then M-step."""

    def __init__(self, lesson: Lesson, space: Space) -> None:
        self.lesson, self.space = lesson, space
        self.belief = LasemConfig(likelihood="mean-probability", prior="running-mean").belief(
            space, lesson.network.depth, None
        )

    @property
    def configuration(self):
        return self.space.choices[0]

    def leaves(self):
        return [*(t for layer in self.lesson.shared for t in layer.values()), *self.lesson.parts.leaves()]

    def outputs(self, configuration, x):
        network, parts = self.lesson.network, self.lesson.parts
        made = network.compose(self.lesson.shared, parts, [{variant} for variant in configuration.shared])
        return parts.tail(network.features(made, Plan([configuration]), x))

    def losses(self, x, y, epoch, step):
        tail = self.lesson.parts.tail
        tail.eval()
        with torch.no_grad():
            samples = torch.stack(
                [log_likelihood(self.outputs(c, x)[None], y)[0] for c in self.space.choices]
            )
            weights = self.belief.see(batch_log_likelihood(samples, "mean-probability"))
        tail.train()
        total = 0.0
        for weight, c in zip(weights.float(), self.space.choices, strict=True):
            found = weight * loss(self.outputs(c, x)[None], y)[0]
            penalty = self.lesson.network.penalty(self.lesson.parts, [float(any(v)) for v in c.shared])
            total = total + found + (0.0 if penalty is None else 0.1 * weight * penalty)
        yield total


class Timed:
    """One method, ready to step."""

    def __init__(self, make: Callable[[Lesson], Strategy], net: str, transfer: str, batch: int) -> None:
        side = SHAPES[net]
        x = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
        y = torch.arange(batch) % 10
        task = Task("t", tuple("0123456789"), Split.of(x, y), Split.of(x, y), Split.of(x, y))
        network = Network(net, (3, side, side), find(transfer))
        lesson = Lesson(network, network.begin_shared(0), network.begin_task("t", 10, 0), task, 0)
        self.strategy = make(lesson)
        leaves = list(self.strategy.leaves())
        for leaf in leaves:
            leaf.requires_grad_()
            leaf.grad = torch.zeros_like(leaf)
        self.optimizer = make_optimizer(leaves, LasemConfig())
        self.x, self.y, self.steps = x, y, 0

    def run(self, steps: int) -> float:
        """Seconds per step."""
        began = time.perf_counter()
        for _ in range(steps):
            for found in self.strategy.losses(self.x, self.y, 0, self.steps):
                self.optimizer.zero_grad(set_to_none=False)
                found.backward()
                self.optimizer.step()
            self.steps += 1
        return (time.perf_counter() - began) / steps


def methods(net: str, groups: int | None) -> dict[str, Callable[[Lesson], Strategy]]:
    def lasem(**settings):
        def make(lesson: Lesson) -> Strategy:
            depth = lesson.network.depth
            tied = None if groups is None else [list(group) for group in GROUPS[net][groups]]
            config = LasemConfig(groups=tied, **settings)
            space = Space.every(depth, groups=tied)
            return EM(lesson, space, config.belief(space, depth, None), config)

        return make

    found = {
        "All": lambda lesson: One(lesson, parse("all", lesson.network.depth), 0.1),
        "default": lasem(),
    }
    if groups is None:
        found["DARTS"] = lambda lesson: Mixture(lesson, DartsConfig())
    if net == "cifar-conv4":
        found["exact, broad"] = lasem(exact=True, likelihood="mean-probability", prior="running-mean")
        found["exact, joint"] = lasem(exact=True)
        found["naive"] = lambda lesson: Naive(lesson, Space.every(lesson.network.depth))
    return found


def measure(net: str, transfer: str, batch: int, groups: int | None, rounds: int) -> dict:
    timed = {name: Timed(make, net, transfer, batch) for name, make in methods(net, groups).items()}
    for each in timed.values():
        each.run(1)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, each in timed.items():
            # one round of the default holds one E-step at least, and as many M-steps as there are between two
            every = getattr(timed["default"].strategy, "_every", 1)
            seconds[name].append(each.run(1 if name in ("naive", "exact, broad", "exact, joint") else every))
    base = seconds["All"]
    row = {
        "net": net,
        "transfer": transfer,
        "batch": batch,
        "groups": groups,
        "all_ms": 1e3 * statistics.median(base),
    }
    for name, times in seconds.items():
        if name != "All":
            ratios = sorted(t / b for t, b in zip(times, base, strict=True))
            row[name] = round(statistics.median(ratios), 2)
            row[name + ", range"] = [round(ratios[0], 2), round(ratios[-1], 2)]
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--nets", nargs="+", default=["cifar-conv4", "stl-conv6", "resnet18-plain"])
    parser.add_argument("--transfers", nargs="+", default=["hard", "deconvolution", "tensor-factorization"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for net in options.nets:
        for transfer in options.transfers:
            for batch in options.batches:
                tied = [4, 5, 6, 7] if net == "resnet18-plain" else [None]
                rows += [measure(net, transfer, batch, groups, options.rounds) for groups in tied]
    if not options.dry:
        kept = FOLDER / "lasem_speed.json"
        before = json.loads(kept.read_text())["rows"] if kept.exists() else []
        new = {key(row) for row in rows}
        merged = [row for row in before if key(row) not in new] + rows
        write("lasem_speed", {"rounds": options.rounds, "rows": merged})


def key(row: dict) -> tuple:
    """What a line is of; a later one takes its place."""
    return row["net"], row["transfer"], row["batch"], row["groups"]


if __name__ == "__main__":
    main()
