"""Small tasks and nets for the tests of selective transfer, and their naive twins."""

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call

from stolon import learners
from stolon.learner import Learner
from stolon.tasks import Split, Task
from stolon.transfer.configurations import Configuration
from stolon.transfer.fit import Lesson
from stolon.transfer.mechanisms import find
from stolon.transfer.network import Layers, Network, Parts

MECHANISMS = ("hard", "tensor-factorization", "deconvolution")
SHAPE = (1, 8, 8)
FAST = {"batch_size": 8, "learning_rate": 1e-2, "optimizer": "adam", "epochs": 6}
"""Learns the contract's easy tasks in a fraction of a second."""


def tiny() -> nn.Sequential:
    """Two convolutions for 8 x 8 images; always the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )  # fmt: skip


def normed() -> nn.Sequential:
    """Two convolutions with batch normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )  # fmt: skip


def make(name: str, net: Callable[[], nn.Module] | str = tiny, **settings) -> Learner:
    """A learner of this name on the tiny net, quick by default."""
    return learners.make(name, net=net if isinstance(net, str) else net(), **{**FAST, **settings})


def random_task(
    name: str = "t", n: int = 24, classes: int = 3, shape: tuple[int, ...] = SHAPE, seed: int = 0
) -> Task:
    """Random inputs and labels: nothing to learn, but something to compute with."""
    g = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        return Split.of(
            torch.randn(count, *shape, generator=g), torch.randint(classes, (count,), generator=g)
        )

    return Task(name, tuple(map(str, range(classes))), split(n), split(8), split(8))


def linear_map(
    name: str = "map", n: int = 64, outputs: int = 2, shape: tuple[int, ...] = SHAPE, seed: int = 0
) -> Task:
    """Numbers that are a linear function of the input's quadrant means, with a little noise."""
    g = torch.Generator().manual_seed(seed)
    size = torch.Size(shape).numel()
    weight = torch.randn(size, outputs, generator=g) / size**0.5

    def split(count: int) -> Split:
        x = torch.randn(count, *shape, generator=g)
        return Split.of(x, x.flatten(1) @ weight + 0.05 * torch.randn(count, outputs, generator=g))

    return Task(name, tuple(f"y{i}" for i in range(outputs)), split(n), split(32), split(32))


def set_up(
    transfer: str = "hard",
    net: Callable[[], nn.Module] | str = tiny,
    task: Task | None = None,
    parts: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Lesson:
    """A network, what is shared and a task's own parts, all of them drawn apart."""
    task = random_task() if task is None else task
    network = Network(net if isinstance(net, str) else net(), task.shape, find(transfer), parts)
    shared = network.begin_shared(1)
    own = network.begin_task(task.name, len(task.classes), 2)
    g = torch.Generator().manual_seed(3)
    for layers in (shared, own.own, own.factors):
        for layer in layers:
            for name, value in layer.items():  # modules given start all alike: move them apart
                layer[name] = (value + 0.1 * torch.randn(value.shape, generator=g)).to(dtype)
    own.tail.to(dtype)
    return Lesson(network, shared, own, task, seed=0)


def naive_kernel(transfer: str, shape: torch.Size, name: str, shared: dict, factors: dict) -> torch.Tensor:
    """A shared layer's weight, by the formulas of papers/methods.md 1.5 as sums over explicit indices."""
    if transfer == "hard":
        return shared[f"{name}/weight"]
    if transfer == "tensor-factorization":
        found = shared[f"{name}/core"]
        for mode in range(len(shape)):
            factor = factors[f"{name}/u{mode}"]
            found = torch.stack(
                [
                    sum(factor[j, i] * found.select(mode, i) for i in range(shape[mode]))
                    for j in range(shape[mode])
                ],
                mode,
            )
        return found
    base = shared[f"{name}/base"][0]  # [c_kb, h, h]
    deconvolution, bias = factors[f"{name}/deconvolution"], factors[f"{name}/deconvolution_bias"]
    h = base.shape[-1]
    k = 2 * h - 1
    # a transposed convolution of stride 2 writes each input pixel, times the 3 x 3 window, around position 2 i
    out = [[bias for _ in range(k)] for _ in range(k)]
    for i in range(h):
        for j in range(h):
            for a in range(3):
                for b in range(3):
                    row, column = 2 * i + a - 1, 2 * j + b - 1
                    if 0 <= row < k and 0 <= column < k:
                        out[row][column] = out[row][column] + base[:, i, j] @ deconvolution[:, :, a, b]
    deconvolved = torch.stack([torch.stack(row) for row in out])  # [k, k, c_ts]
    return torch.einsum("xym,mio->oixy", deconvolved, factors[f"{name}/contraction"])


def naive_parameters(
    transfer: str, lesson: Lesson, layer: int, row: tuple[bool, ...], shared: Layers, parts: Parts
) -> dict[str, torch.Tensor]:
    """A layer's parameters under one configuration, part by part of the output channels."""
    stage = lesson.network.stages[layer]
    found = {}
    for name, own in parts.own[layer].items():
        if name in stage.kernels:
            common = (
                naive_kernel(transfer, own.shape, name, shared[layer], parts.factors[layer])
                if any(row)
                else own
            )
        else:
            common = (shared if transfer == "hard" else parts.factors)[layer].get(name, own)
        pieces = zip(row, common.tensor_split(len(row)), own.tensor_split(len(row)), strict=True)
        found[name] = torch.cat([a if is_shared else b for is_shared, a, b in pieces])
    return found


def naive_features(
    transfer: str, lesson: Lesson, configuration: Configuration, x: torch.Tensor,
    shared: Layers | None = None, parts: Parts | None = None,
) -> torch.Tensor:  # fmt: skip
    """One forward pass of one configuration's layers, stage by stage."""
    shared, parts = shared or lesson.shared, parts or lesson.parts
    for layer, (stage, row) in enumerate(zip(lesson.network.stages, configuration.shared, strict=True)):
        made = naive_parameters(transfer, lesson, layer, row, shared, parts)
        x = functional_call(stage, made, (x,))
    return x


METHODS = {
    "static": {"configuration": "top-1"},
    "lasem": {"e_every": 2},
    "exact": {"exact": True},
    "running mean": {"prior": "running-mean"},
    "related": {"prior": "related"},
    "history": {"prior": "history"},
    "brute-force": {},
    "darts": {},
    "darts as released": {"released": True},
}


def method(which, **settings):
    name = {"darts as released": "darts"}.get(which, which if which in learners.names() else "lasem")
    net = settings.pop("net", tiny)
    return make(
        name, net, **{"epochs": 2, "batch_size": 12, "optimizer": "rmsprop-tf", **METHODS[which], **settings}
    )
