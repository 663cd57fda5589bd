"""What supermasks and impressions cost: each part's figures against its naive twin, in the same run.

    python benchmarks/masks_speed.py [--parts mixing popup at-once] [--rounds 9] [--threads 1] [--dry]

Parts:

    mixing   a training step of coefficients (ImpressLearn, Eq. 1): LeNet-300-100 without biases (784-300-100-10), a
             mini-batch of 128, loss, backward pass and RMSprop on alpha [250, 3], with the weights mixed of 250 masks
             in each form. "naive" is sum_i alpha_i (M_i * W) as autograd does it, mask by mask, of float32 masks (its
             fastest: 4 bytes per mask entry); "naive, bool" the same of bool masks (1 byte); "network" the step with
             weights that are there, the part that no mixing saves.

    popup    a training step of a mask by edge-popup at a density of 0.1: the same net, batch and optimiser, against
             the dense net's step and against the usual way, which sorts all scores.
    at-once  steps of many masks together (stacked, one network), against one after the other; for LeNet-300-100 and
             mini-batches of 128, and for a small net (64-100-10) and 16, where most of a step is overhead.

Variants take turns of about a tenth of a second, round after round, so that what else the machine does hits all alike;
the median over rounds of the ratio to the naive twin is kept, and the median time. Writes
benchmarks/results/masks_speed.json; the parts that were not run keep their figures.
"""

# ruff: noqa: ARG004, D102 - a script's classes

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from results import FOLDER, write
from torch.nn.functional import cross_entropy, linear, relu

from stolon.masks.fitting import Job, MaskTraining, PopupFit
from stolon.masks.frozen import FrozenNet
from stolon.masks.mixing import FORMS, LayeredMasks
from stolon.masks.popup import MaskRule, Room, begin_scores, masked, scaled
from stolon.randomness import generator, number
from stolon.tasks import Split, Task

SHAPES = [(300, 784), (100, 300), (10, 100)]
MASKS, BATCH = 250, 128


TURN_S = 0.1  # one step after the other, as in a training: between two of another variant caches are cold


def timed(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each variant in each round, after a first one that does not count."""
    steps, seconds = dict.fromkeys(variants, 1), {name: list[float]() for name in variants}
    for i in range(rounds + 2):
        for name, run in variants.items():
            began = time.perf_counter()
            for _ in range(steps[name]):
                run()
            found = (time.perf_counter() - began) / steps[name]
            if i == 1:
                steps[name] = max(1, round(TURN_S / found))
            elif i > 1:
                seconds[name].append(found)
    return seconds


def compared(seconds: dict[str, list[float]], base: str) -> dict:
    """Median milliseconds, and how many times faster than the base each is: median and range over rounds."""
    found = {}
    for name, times in seconds.items():
        ratios = sorted(b / t for b, t in zip(seconds[base], times, strict=True))
        found[name] = {
            "ms": round(1e3 * statistics.median(times), 2),
            "times faster": round(statistics.median(ratios), 2),
            "range": [round(ratios[0], 2), round(ratios[-1], 2)],
        }
    return found


def step_of(weights: Callable[[], list[torch.Tensor]], leaves: list[torch.Tensor], seed: int) -> Callable:
    """One step of training: random inputs and labels."""
    draw = generator(seed, "masks-speed", "batch")
    x = torch.randn(BATCH, SHAPES[0][1], generator=draw)
    y = torch.randint(0, SHAPES[-1][0], (BATCH,), generator=draw)
    optimizer = torch.optim.RMSprop(leaves, lr=0.002)

    def step() -> None:
        first, second, third = weights()
        loss = cross_entropy(linear(relu(linear(relu(linear(x, first)), second)), third), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def mixing(options: argparse.Namespace) -> list[dict]:
    """Training steps of coefficients."""
    seed, rows = options.seed, []
    for density in options.densities:
        draw = generator(seed, "masks-speed", "mixing", number(0, str(density)))
        fixed = [torch.randn(shape, generator=draw) * (2 / shape[1]) ** 0.5 for shape in SHAPES]
        layers = [torch.rand(MASKS, *shape, generator=draw) < density for shape in SHAPES]
        entries = sum(layer.numel() for layer in layers)

        def begin() -> torch.Tensor:
            return torch.full((MASKS, len(SHAPES)), 1 / MASKS, requires_grad=True)

        def naive(kept: list[torch.Tensor], fixed: list[torch.Tensor] = fixed) -> Callable[[], None]:
            alpha = begin()

            def weights() -> list[torch.Tensor]:
                return [
                    sum(alpha[i, k] * (kept[k][i] * weight) for i in range(MASKS))
                    for k, weight in enumerate(fixed)
                ]

            return step_of(weights, [alpha], seed)

        def mixed(held: LayeredMasks, fixed: list[torch.Tensor] = fixed) -> Callable[[], None]:
            alpha = begin()
            return step_of(
                lambda: [z * weight for z, weight in zip(held.mix(alpha), fixed, strict=True)], [alpha], seed
            )

        held = {form: LayeredMasks.of(layers, form) for form in FORMS}
        own = [weight.clone().requires_grad_() for weight in fixed]
        variants = {
            "naive": naive([layer.float() for layer in layers]),
            "naive, bool": naive(layers),
            **{form: mixed(kept) for form, kept in held.items()},
            "network": step_of(lambda own=own: own, [begin()], seed),
        }
        row = {
            "density": density,
            "masks": MASKS,
            "weights": entries // MASKS,
            "bytes per entry": {form: round(kept.nbytes / entries, 3) for form, kept in held.items()},
            "against naive": compared(seconds := timed(variants, options.rounds), "naive"),
            "against naive, bool": compared(seconds, "naive, bool"),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


class Sorted(torch.autograd.Function):
    """The mask of the usual way."""

    @staticmethod
    def forward(ctx, scores, density):
        _, order = scores.flatten().sort()
        mask, zeros = torch.empty_like(scores).flatten(), int((1 - density) * scores.numel())
        mask[order[:zeros]], mask[order[zeros:]] = 0, 1
        return mask.view_as(scores)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def popup(options: argparse.Namespace) -> list[dict]:
    """Training steps of a mask."""
    rule = MaskRule(density=0.1)
    frozen = FrozenNet("lenet-300-100", (784,), 10, seed=options.seed)
    fixed = scaled(frozen.weights, rule)

    def begin() -> list[torch.Tensor]:
        return [begin_scores(shape, rule, options.seed, i).requires_grad_() for i, shape in enumerate(SHAPES)]

    dense = [weight.clone().requires_grad_() for weight in fixed]
    ours, usual = begin(), begin()
    rooms = [Room(layer, weight) for layer, weight in zip(ours, fixed, strict=True)]
    variants = {
        "dense": step_of(lambda: dense, dense, options.seed),
        "edge-popup": step_of(
            lambda: [masked(*each[:2], rule, each[2]) for each in zip(ours, fixed, rooms, strict=True)],
            ours,
            options.seed,
        ),
        "sorting": step_of(
            lambda: [
                Sorted.apply(layer.abs(), 0.1) * weight for layer, weight in zip(usual, fixed, strict=True)
            ],
            usual,
            options.seed,
        ),
    }
    row = compared(timed(variants, options.rounds), "dense")
    ratios = {name: round(1 / each["times faster"], 2) for name, each in row.items()}
    print(json.dumps({**row, "times dense": ratios}), flush=True)
    return [{"density": 0.1, "against dense": row, "times dense": ratios}]


def at_once(options: argparse.Namespace) -> list[dict]:
    """Steps of many masks."""
    rows = []
    for net, inputs, batch, count in (("lenet-300-100", 784, 128, 50), ("mlp-100", 64, 16, 50)):
        draw = generator(options.seed, "masks-speed", "at-once")
        split = Split.of(torch.rand(4 * batch, inputs, generator=draw), torch.arange(4 * batch) % 10)
        classes = tuple("0123456789")
        tasks = [Task(str(i), classes, split, split, split) for i in range(count)]
        frozen, rule = FrozenNet(net, (inputs,), 10), MaskRule(density=0.1)
        training = MaskTraining(epochs=1, batch_size=batch)

        def fits(
            size: int, count=count, tasks=tasks, frozen=frozen, rule=rule, training=training
        ) -> list[PopupFit]:
            groups = [tasks[i : i + size] for i in range(0, count, size)]
            return [PopupFit(frozen, [Job(task, 0) for task in group], rule, training) for group in groups]

        made = {str(size): fits(size) for size in (1, 5, 10, 25, 50)}
        variants = {
            name: lambda found=found: [fit._one_epoch() for fit in found] for name, found in made.items()
        }
        row = {
            "net": net,
            "batch": batch,
            "masks": count,
            "together": compared(timed(variants, options.rounds), "1"),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


PARTS = {"mixing": mixing, "popup": popup, "at-once": at_once}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {part: {"rounds": options.rounds, "rows": PARTS[part](options)} for part in options.parts}
    if not options.dry:
        kept = FOLDER / "masks_speed.json"
        before = json.loads(kept.read_text())["parts"] if kept.exists() else {}
        write("masks_speed", {"seed": options.seed, "parts": {**before, **found}})


if __name__ == "__main__":
    main()
