"""Many configurations at the price of few: common prefixes are computed once.

Configurations that agree in their first l layers have the same activations there. A :class:`Plan` says, layer by
layer, which activations (*nodes*) are fed to which variant of the layer; the nodes of a layer are one tensor, so each
variant is one convolution over all its nodes. With two variants of each of d layers, layer l is computed 2^l times
instead of 2^d times. What comes out equals one forward pass per configuration up to rounding (tested against it).

Tried and slower by half on CPUs: both weights of a layer side by side in one convolution, whose outputs then have to be
taken apart again (channels-last: a strided copy of everything).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import conv2d, relu_

from stolon.nets.stages import Stage
from stolon.transfer.configurations import Configuration

Parameters = Mapping[str, Tensor]
"""A stage's parameters by their names within it."""
Variant = tuple[bool, ...]
"""Which parts of a layer are shared."""


@final
@dataclass(frozen=True)
class Level:
    """One layer of a plan.

    Attributes:
        variants: each variant that occurs, with the number of nodes that it is fed; the outputs, in this order, are the
            next layer's nodes.
        fed: the positions of these nodes, one variant's after the other's; None where each is fed all, in order.
    """

    variants: tuple[tuple[Variant, int], ...]
    fed: Tensor | None

    @property
    def nodes(self) -> int:
        """How often the layer is computed."""
        return sum(count for _, count in self.variants)


@final
class Plan:
    """How to compute some configurations together.

    Args:
        configurations: of one network, in the order in which results are wanted.
        inputs: the input that each is given, by its position; by default all are given the whole mini-batch, as one.
            With others the samples of a mini-batch go different ways: every layer is still computed once per sample.
    """

    def __init__(self, configurations: Sequence[Configuration], inputs: Sequence[int] | None = None) -> None:
        depth = len(configurations[0].shared)
        node_of = [0] * len(configurations) if inputs is None else list(inputs)
        self.inputs = nodes = max(node_of) + 1
        levels = list[Level]()
        for layer in range(depth):
            pairs = [(c.shared[layer], node) for c, node in zip(configurations, node_of, strict=True)]
            fed: dict[Variant, list[int]] = {}
            for variant, node in sorted(set(pairs)):
                fed.setdefault(variant, []).append(node)
            position = {pair: i for i, pair in enumerate((v, n) for v, found in fed.items() for n in found)}
            is_full = all(found == list(range(nodes)) for found in fed.values())
            positions = None if is_full else torch.tensor([node for found in fed.values() for node in found])
            levels.append(Level(tuple((variant, len(found)) for variant, found in fed.items()), positions))
            node_of, nodes = [position[pair] for pair in pairs], len(position)
        self.levels = tuple(levels)
        self.rows = torch.tensor(node_of)
        """Which node of the last layer each configuration ends in, int64 [K]."""
        self._is_sorted = node_of == list(range(nodes))

    def __len__(self) -> int:
        return len(self.rows)

    def in_order(self, nodes: Tensor) -> Tensor:
        """What was computed for the last layer's nodes [N, ...], by configuration [K, ...]."""
        return nodes if self._is_sorted else nodes[self.rows]


def run(
    stages: Sequence[Stage], parameters: Sequence[Mapping[Variant, Parameters]], plan: Plan, x: Tensor
) -> Tensor:
    """Activations behind the last stage, for all nodes of a plan.

    Args:
        stages: the layers' structure.
        parameters: for each layer, the parameters of each variant that occurs in the plan.
        plan: what to compute.
        x: inputs [B, ...]; as many as the plan has, or one mini-batch where it has one.

    Returns:
        [N * B, ...], node by node; see :meth:`Plan.in_order`.
    """
    count = len(x) // plan.inputs
    for stage, made, level in zip(stages, parameters, plan.levels, strict=True):
        fed: Sequence[Tensor] = [x] * len(level.variants)
        if level.fed is not None:
            # gathered once: the gradient of each gathering would be a tensor as large as x
            fed = _rows(x, level.fed, count).split([nodes * count for _, nodes in level.variants])
        out = [
            _each(stage, made[variant], given, count)
            for (variant, _), given in zip(level.variants, fed, strict=True)
        ]
        x = torch.cat(out) if len(out) > 1 else out[0]
    return x


def _rows(x: Tensor, nodes: Tensor, count: int) -> Tensor:
    if count == 1 and x.ndim == 4:  # whole rows of memory, and channels stay last
        rows = x.permute(0, 2, 3, 1)
        gathered = rows.flatten(1).index_select(0, nodes).view(-1, *rows.shape[1:])
        return gathered.permute(0, 3, 1, 2)
    found: Tensor = x.unflatten(0, (-1, count))[nodes].flatten(0, 1)
    return found


def _each(stage: Stage, parameters: Parameters, x: Tensor, count: int) -> Tensor:
    """A stage on several nodes, of ``count`` inputs each."""
    if stage.takes_whole_batches:  # a node is a mini-batch of its own to normalisation
        return torch.cat([apply(stage, parameters, node) for node in x.split(count)])
    return apply(stage, parameters, x)


def apply(stage: Stage, parameters: Parameters, x: Tensor) -> Tensor:
    """A stage with these parameters in place of its own."""
    return pooled(stage, body(stage, parameters, x))


def body(stage: Stage, parameters: Parameters, x: Tensor) -> Tensor:
    """A stage up to its pooling, with these parameters in place of its own."""
    if not stage.is_plain:
        x = x.clone()  # a block may work in place on what others are fed too
        return functional_call(stage.body, _of_body(parameters), (x,))  # type: ignore[no-any-return]  # not in torch's stubs
    # functional_call swaps parameters in and out: tens of microseconds that small layers feel
    x = _convolve(stage.body[0], parameters["body.0.weight"], parameters.get("body.0.bias"), x)
    for i, module in enumerate(list(stage.body)[1:]):
        # in place: the convolution's result is nobody else's, and its backward pass does not need it
        x = relu_(x) if i == 0 and type(module) is nn.ReLU else module(x)
    return x


def pooled(stage: Stage, x: Tensor) -> Tensor:
    """What follows a stage's body."""
    for module in stage.pool:
        x = module(x)
    return x


def _convolve(module: nn.Module, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    assert isinstance(module, nn.Conv2d)
    y: Tensor = conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)
    return y


def _of_body(parameters: Parameters) -> dict[str, Tensor]:
    return {name.removeprefix("body."): value for name, value in parameters.items()}
