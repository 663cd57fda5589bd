"""The networks of all tasks: one structure, and the parameters that a task composes for it."""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import SettingError
from stolon.measure import flop_counter
from stolon.nets.heads import new_head
from stolon.nets.stages import Stage, Staged, split, takes_whole_batches
from stolon.randomness import generator, number
from stolon.transfer import prefix
from stolon.transfer.configurations import Configuration
from stolon.transfer.mechanisms import Mechanism
from stolon.transfer.prefix import Parameters, Plan, Variant

Layers = list[dict[str, Tensor]]
"""Tensors by layer and name; those that a mechanism makes of a weight are called ``"body.0.weight/core"``."""

OWN: Final[Variant] = (False,)
SHARED: Final[Variant] = (True,)
APART: Final = 0.01
"""How far, relatively, what is shared begins from a module that was passed."""


@final
@dataclass
class Parts:
    """What a task has of its own.

    Attributes:
        own: parameters of the layers, for where they are not shared.
        factors: what makes parameters of shared layers out of what is shared.
        statistics: normalisation's running statistics, by layer and name.
        tail: what follows the layers, the head included.
    """

    own: Layers
    factors: Layers
    statistics: Layers
    tail: nn.Sequential

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for saving and counting."""
        return {
            **flat("own", self.own),
            **flat("factors", self.factors),
            **flat("statistics", self.statistics),
            **{f"tail/{name}": value for name, value in self.tail.state_dict().items()},
        }

    def leaves(self) -> list[Tensor]:
        """What is trained."""
        layers = [tensor for layer in (*self.own, *self.factors) for tensor in layer.values()]
        return [*layers, *self.tail.parameters()]


@final
class Network:
    """Structure and mechanism; the parameters are passed to it.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential``: every task's own parts, and what is shared,
            begin as freshly drawn ones of that name, or as copies of the module; what is shared then a hundredth
            off, or both would get the same gradients and stay alike.
        input_shape: of one input.
        transfer: how shared layers are made.
        parts: into how many parts a layer's output channels are divided, each shared or not.

    Raises:
        SettingError: the net cannot be split or divided, or the mechanism cannot make its weights.
    """

    def __init__(
        self, net: str | nn.Module, input_shape: tuple[int, ...], transfer: type[Mechanism], parts: int = 1
    ) -> None:
        self._net, self._shape = net, input_shape
        structure = self._fresh(0, "structure")
        self.stages: list[Stage] = list(structure)
        self.has_statistics = any(True for stage in self.stages for _ in stage.buffers())
        self.takes_whole_batches = takes_whole_batches(structure)
        """Whether samples of a mini-batch act on each other anywhere, the tail included."""
        modules = [module for stage in self.stages for module in stage.modules()]
        self._dropouts = [module for module in modules if isinstance(module, nn.modules.dropout._DropoutNd)]
        if parts > 1 and any(isinstance(m, nn.modules.conv._ConvTransposeNd) for m in modules):
            raise SettingError(
                "parts: expected 1 with transposed convolutions, whose rows are input channels; share them whole"
            )
        shapes, self._kernels = list[torch.Size](), list[dict[str, int]]()
        for stage in self.stages:
            tensors = dict(stage.named_parameters())
            self._kernels.append({name: len(shapes) + i for i, name in enumerate(stage.kernels)})
            shapes += [tensors[name].shape for name in stage.kernels]
        self.mechanism = transfer(shapes)
        for stage in self.stages:
            stage.requires_grad_(requires_grad=False)  # structure only

    @property
    def depth(self) -> int:
        """How many layers can be transferred."""
        return len(self.stages)

    @cached_property
    def macs(self) -> tuple[int, ...]:
        """Multiply-accumulates of each layer for one input."""
        counts, x = [], torch.zeros(1, *self._shape)
        for stage in self.stages:
            with torch.no_grad(), flop_counter() as counter:
                x = stage.eval()(x)
            counts.append(int(counter.get_total_flops()) // 2)
        return tuple(counts)

    @property
    def has_dropout(self) -> bool:
        """Whether anything drops out before the tail."""
        return bool(self._dropouts)

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Nothing drops out in the layers meanwhile; normalisation still takes each mini-batch by itself."""
        before = [(module, module.training) for module in self._dropouts]
        for module in self._dropouts:
            module.eval()
        try:
            yield
        finally:
            for module, was_training in before:
                module.train(was_training)

    # Beginnings

    def begin_shared(self, seed: int) -> Layers:
        """What tasks share, freshly drawn: a function of the seed."""
        staged, g = self._fresh(seed, "shared"), generator(seed, "shared", "mechanism")
        if isinstance(self._net, nn.Module):
            with torch.no_grad():
                for begun in staged.layers.parameters():
                    begun.mul_(1 + APART * torch.randn(begun.shape, generator=g))
        made: Layers = []
        for stage, kernels in zip(staged, self._kernels, strict=True):
            layer = {}
            for name, value in _parameters(stage).items():
                if name in kernels:
                    found = self.mechanism.shared(kernels[name], value, g)
                    layer.update({f"{name}/{key}": tensor for key, tensor in found.items()})
                elif self.mechanism.shares_all:
                    layer[name] = value
            made.append(layer)
        return made

    def begin_task(self, task: str, classes: int, seed: int) -> Parts:
        """What a new task has of its own, freshly drawn: a function of seed and task."""
        staged, g = self._fresh(seed, "own", task), generator(seed, "factors", task)
        own: Layers = [_parameters(stage) for stage in staged]
        factors: Layers = []
        for layer, kernels in zip(own, self._kernels, strict=True):
            made = {}
            for name, value in layer.items():
                if name in kernels:
                    found = self.mechanism.factors(kernels[name], value, g)
                    made.update({f"{name}/{key}": tensor.clone() for key, tensor in found.items()})
                elif not self.mechanism.shares_all:
                    is_bias = f"{name.removesuffix('bias')}weight" in kernels  # else it is normalisation's
                    made[name] = (self.mechanism.bias(value, g) if is_bias else value).clone()
            factors.append(made)
        statistics: Layers = [
            {name: value.clone() for name, value in stage.named_buffers()} for stage in staged
        ]
        head = new_head(staged, self._shape, classes, seed, task)
        return Parts(own, factors, statistics, nn.Sequential(*staged.tail, head))

    def tail(self, tensors: Mapping[str, Tensor]) -> nn.Sequential:
        """The tail whose ``state_dict`` this is."""
        staged = self._fresh(0, "structure")
        classes = len(tensors[f"{len(staged.tail)}.bias"])
        tail = nn.Sequential(*staged.tail, new_head(staged, self._shape, classes, 0, ""))
        tail.load_state_dict(dict(tensors))
        return tail

    def _fresh(self, seed: int, *purpose: str) -> Staged:
        return split(nets.build(self._net, input_shape=self._shape, seed=number(seed, "transfer", *purpose)))

    # Composing

    def compose(
        self, shared: Layers, parts: Parts, wanted: Sequence[Collection[Variant]]
    ) -> list[dict[Variant, Parameters]]:
        """For each layer the parameters of each wanted variant; gradients flow to what they are made of."""
        made = []
        for i, variants in enumerate(wanted):
            paths: dict[bool, Parameters] = {}
            if any(map(any, variants)):
                paths[True] = self._shared_path(i, shared[i], parts.factors[i])
            if not all(map(all, variants)):
                paths[False] = parts.own[i]
            layer: dict[Variant, Parameters] = {}
            for variant in variants:
                if all(variant) or not any(variant):
                    layer[variant] = paths[variant[0]]
                else:
                    layer[variant] = {
                        name: by_parts(variant, paths[True][name], value)
                        for name, value in paths[False].items()
                    }
            made.append(layer)
        return made

    def _shared_path(self, i: int, shared: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> Parameters:
        made = {name: tensor for name, tensor in (*shared.items(), *factors.items()) if "/" not in name}
        for name, index in self._kernels[i].items():
            start = f"{name}/"
            made[name] = self.mechanism.kernel(index, _below(start, shared), _below(start, factors))
        return made

    def penalty(self, parts: Parts, weights: Iterable[float] | Tensor) -> Tensor | None:
        """The mechanism's penalty, each layer's times its weight (how surely it is shared); None where it has none."""
        total = None
        for i, weight in enumerate(weights):
            for name in self._kernels[i]:
                term = self.mechanism.penalty(_below(f"{name}/", parts.factors[i]))
                if term is None:
                    return None
                total = weight * term if total is None else total + weight * term
        return total

    # Running

    def features(self, parameters: Sequence[Mapping[Variant, Parameters]], plan: Plan, x: Tensor) -> Tensor:
        """What comes out of the layers for all configurations of a plan, [N B, ...]; see :func:`prefix.run`."""
        return prefix.run(self.stages, parameters, plan, as_input(x))

    @torch.no_grad()
    def answer(self, shared: Layers, parts: Parts, configuration: Configuration, x: Tensor) -> Tensor:
        """Outputs [B, C] of a task's network, in evaluation mode."""
        chosen = self.chosen(shared, parts, configuration)
        scores: Tensor = parts.tail.eval()(self.activations(chosen, parts.statistics, x))
        return scores

    def chosen(self, shared: Layers, parts: Parts, configuration: Configuration) -> list[Parameters]:
        """The parameters of each layer under one configuration."""
        made = self.compose(shared, parts, [{variant} for variant in configuration.shared])
        return [layer[variant] for layer, variant in zip(made, configuration.shared, strict=True)]

    @torch.no_grad()
    def activations(self, parameters: Sequence[Parameters], statistics: Layers, x: Tensor) -> Tensor:
        """What comes out of the layers for inputs [B, ...], in evaluation mode."""
        x = as_input(x)
        for stage, made, measured in zip(self.stages, parameters, statistics, strict=True):
            x = prefix.apply(stage.eval(), {**made, **measured}, x)
        return x

    def keep(self, parts: Parts, configuration: Configuration) -> Parts:
        """What of a task's own parts a configuration needs."""
        rows = configuration.shared
        return Parts(
            own=[layer if not all(row) else {} for layer, row in zip(parts.own, rows, strict=True)],
            factors=[layer if any(row) else {} for layer, row in zip(parts.factors, rows, strict=True)],
            statistics=parts.statistics,
            tail=parts.tail,
        )


def as_input(x: Tensor) -> Tensor:
    """Images as CPU convolutions like them."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def by_parts(variant: Variant, shared: Tensor, own: Tensor) -> Tensor:
    """A parameter whose first dimension is divided into parts, each taken from one of two tensors.

    Example:
        >>> by_parts((True, False), torch.ones(4), torch.zeros(4))
        tensor([1., 1., 0., 0.])
    """
    pieces = zip(variant, shared.tensor_split(len(variant)), own.tensor_split(len(variant)), strict=True)
    return torch.cat([from_shared if is_shared else from_own for is_shared, from_shared, from_own in pieces])


def flat(group: str, layers: Layers) -> dict[str, Tensor]:
    """Tensors of layers by one name each, such as ``"own/0/body.0.weight"``."""
    return {f"{group}/{i}/{name}": value for i, layer in enumerate(layers) for name, value in layer.items()}


def unflat(group: str, tensors: Mapping[str, Tensor], depth: int) -> Layers:
    """Take back what :func:`flat` gave; copies."""
    layers: Layers = [{} for _ in range(depth)]
    for key, value in tensors.items():
        found, _, rest = key.partition("/")
        if found == group:
            index, _, name = rest.partition("/")
            layers[int(index)][name] = value.clone()
    return layers


def copied(layers: Layers) -> Layers:
    """A copy that nothing else changes."""
    return [{name: value.detach().clone() for name, value in layer.items()} for layer in layers]


def copied_parts(parts: Parts) -> Parts:
    """A copy that nothing else changes."""
    return Parts(
        copied(parts.own), copied(parts.factors), copied(parts.statistics), copy.deepcopy(parts.tail)
    )


def _parameters(stage: Stage) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in stage.named_parameters()}


def _below(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
