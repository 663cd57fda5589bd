"""A basis of masks, ready to be summed, and what follows from tasks being sums of the same masks."""

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from stolon.masks.coefficients import mixed_weights
from stolon.masks.frozen import FrozenNet
from stolon.masks.inference import Candidates, Weights
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.mixing import Form, LayeredMasks
from stolon.masks.popup import MaskRule
from stolon.masks.selection import top_mask
from stolon.randomness import generator


def layered(basis: Sequence[StoredMask], frozen: FrozenNet, form: Form) -> LayeredMasks:
    """Masks ready for use."""
    rows = [mask.masks(frozen.shapes) for mask in basis]
    return LayeredMasks.of([torch.stack(layer) for layer in zip(*rows, strict=True)], form)


def random_mask(frozen: FrozenNet, rule: MaskRule, seed: int, index: int) -> StoredMask:
    """A mask of uniformly random weights, as many in each layer as a trained one has."""
    layers = []
    for layer, shape in enumerate(frozen.shapes):
        g = generator(seed, "masks", "random", index, layer)
        drawn = torch.rand(shape, generator=g)
        layers.append(drawn < 0.5 if rule.rule == "nonnegative" else top_mask(drawn, rule.keep(shape)))
    scales = [rule.scale(shape) for shape in frozen.shapes]
    return StoredMask.of(layers, scales, frozen.begin_statistics())


@torch.no_grad()
def summed(frozen: FrozenNet, masks: LayeredMasks, scales: Sequence[float], kept: Kept) -> list[Tensor]:
    """The weights of a task that is kept as coefficients."""
    found = mixed_weights(frozen, masks, scales, kept.alpha.float())
    if kept.last is not None:
        found[-1] = kept.last.last_weight(frozen)
    return found


@final
class Sums(Candidates):
    """Tasks that are all sums of one basis: their mixture is a sum too, and one projection gives all slopes.

    Args:
        frozen: the network.
        weights: gives the weights of each layer under a task, by its position.
        statistics: normalisation's of each task.
        masks: the basis.
        scales: what each layer's sum is multiplied by.
        alphas: each task's coefficients [T, d, m].
    """

    def __init__(
        self,
        frozen: FrozenNet,
        weights: Callable[[int], Weights],
        statistics: Sequence[Mapping[str, Tensor]],
        *,
        masks: LayeredMasks,
        scales: Sequence[float],
        alphas: Tensor,
    ) -> None:
        super().__init__(frozen, weights, statistics)
        self._masks, self._scales, self._alphas = masks, scales, alphas

    @torch.no_grad()
    def mixture(self, tasks: Sequence[int]) -> list[Tensor]:
        """The mean weights of some tasks."""
        return mixed_weights(self.frozen, self._masks, self._scales, self._alphas[list(tasks)].mean(0))

    @torch.no_grad()
    def slopes(self, gradients: Weights, tasks: Sequence[int]) -> Tensor:
        """The derivative by each task's share [K']."""
        by_mask = self._masks.project(
            [g * w * scale for g, w, scale in zip(gradients, self.frozen.weights, self._scales, strict=True)]
        )
        found: Tensor = (self._alphas[list(tasks)] * by_mask.T).sum((1, 2))
        return found
