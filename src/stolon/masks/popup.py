r"""Edge-popup: a score for every weight, trained by gradient, says which weights a task uses.

Ramanujan et al., "What's Hidden in a Randomly Weighted Neural Network?" (CVPR 2020). Forwards a layer's weight is
:math:`W \odot M(S)`, the mask M keeping the scores S that are largest by magnitude; backwards the mask is taken for the
scores themselves (straight through), so that :math:`\partial L / \partial S = \mathrm{sign}(S) \, W \odot
\partial L / \partial (W \odot M)`. How many weights a layer keeps is set beforehand.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import torch
from torch import Tensor

from stolon.errors import SettingError
from stolon.masks.selection import mark_top_
from stolon.randomness import generator
from stolon.settings import above, flags, one_of, within

Rule = Literal["top", "nonnegative"]
RULES: Final = ("top", "nonnegative")
Values = Literal["binary", "signed", "real"]
VALUES: Final = ("binary", "signed", "real")
Densities = Literal["uniform", "erdos-renyi"]
DENSITIES: Final = ("uniform", "erdos-renyi")


@final
@dataclass(frozen=True)
class MaskRule:
    """How scores become a mask.

    Attributes:
        rule: ``"top"``: the largest scores of each layer; ``"nonnegative"``: scores >= 0 (SupSup's faster way for
            MNIST), whose share is about a half and not set.
        density: share of a layer's weights that are kept, above 0 up to 1; the factor s of ``"erdos-renyi"``, > 0.
        densities: ``"uniform"``: the same in all layers; ``"erdos-renyi"``: min(0.5, s (outputs + inputs) / weights)
            (SupSup for CIFAR-100: s from 1 to 32).
        magnitude: whether scores are ranked by magnitude (SupSup) or as they are (ImpressLearn's code for MNIST).
        values: of the mask: ``"binary"``: 0 or 1; ``"signed"``: the kept ones with the score's sign; ``"real"``: the
            kept ones with the score itself (both ImpressLearn, section 5).
        scaled: whether kept weights are divided by the root of their share, so that signals keep their size
            (edge-popup's scaled weights; off in SupSup's configurations): sparse masks learn faster, and tasks are
            found less surely, since sure outputs are no sign of the right mask any more.

    Raises:
        SettingError: a value is out of its range.
    """

    rule: Rule = "top"
    density: float = 0.1
    densities: Densities = "uniform"
    magnitude: bool = True
    values: Values = "binary"
    scaled: bool = False

    def __post_init__(self) -> None:
        flags(self)
        one_of("rule", self.rule, RULES)
        one_of("densities", self.densities, DENSITIES)
        one_of("values", self.values, VALUES)
        above("density", self.density, 0)
        if self.densities == "uniform":
            within("density", self.density, 0, 1)
        if self.values != "binary" and (self.rule != "top" or not self.magnitude):
            raise SettingError(
                f"values {self.values!r}: expected rule='top' and magnitude=True, found "
                f"rule={self.rule!r}, magnitude={self.magnitude}"
            )

    def keep(self, shape: Sequence[int]) -> int:
        """How many weights a layer of this shape [outputs, inputs, ...] keeps: all but int((1 - density) n), or one."""
        count = math.prod(shape)
        share = self.density
        if self.densities == "erdos-renyi":
            share = min(0.5, self.density * (shape[0] + shape[1]) / count)
        return max(1, count - int((1 - share) * count))

    def scale(self, shape: Sequence[int]) -> float:
        """What a layer's kept weights are multiplied by."""
        if not self.scaled:
            return 1.0
        share = 0.5 if self.rule == "nonnegative" else self.keep(shape) / math.prod(shape)
        return 1 / math.sqrt(share)

    def mask(self, scores: Tensor) -> Tensor:
        """The mask of a layer's scores, of their shape: bool where it is binary, int8 where signed, else float32.

        Raises:
            SettingError: scores that are not finite numbers have no largest ones.
        """
        found = self.factors(scores)
        match self.values:
            case "binary":
                return found.bool()
            case "signed":
                return found.to(torch.int8)
            case "real":
                return found

    def factors(self, scores: Tensor, room: "Room | None" = None, row: int = 0) -> Tensor:
        """The mask as what a layer's weights are multiplied by, float32: a new tensor, or a row of the room's."""
        scores = scores.detach()
        ranking = torch.empty_like(scores) if room is None else room.rows()[row]
        if self.magnitude and self.rule == "top":
            torch.abs(scores, out=ranking)
        else:
            ranking.copy_(scores)
        if not bool(ranking.sum().isfinite()):
            raise SettingError("scores: expected finite numbers, found others; lower the learning rate")
        if self.rule == "nonnegative":
            return ranking.ge_(0)
        near = math.nan if room is None else room.thresholds[row]
        found, kept = mark_top_(ranking, self.keep(scores.shape), near), ranking
        if room is not None:
            room.thresholds[row] = found
        match self.values:
            case "binary":
                return kept
            case "signed":
                return kept.mul_(scores.sign())
            case "real":
                return kept.mul_(scores)


def scaled(weights: Sequence[Tensor], rule: MaskRule) -> list[Tensor]:
    """The weights of each layer, multiplied so that a mask of them keeps the size of signals."""
    scales = [rule.scale(weight.shape) for weight in weights]
    return [weight if scale == 1 else weight * scale for weight, scale in zip(weights, scales, strict=True)]


def begin_scores(shape: Sequence[int], rule: MaskRule, seed: int, *purpose: str | int) -> Tensor:
    """Scores before training: uniform between plus and minus 1 / sqrt(fan_in), as torch draws weights.

    Real-valued masks begin with deviation 1, so that the network begins as large as a binary mask's.
    """
    fan_in = math.prod(shape[1:])
    limit = math.sqrt(3) if rule.values == "real" else 1 / math.sqrt(fan_in)
    drawn = torch.rand(tuple(shape), generator=generator(seed, "masks", "scores", *purpose))
    return drawn.mul_(2).sub_(1).mul_(limit)


def masked(scores: Tensor, weight: Tensor, rule: MaskRule, room: "Room | None" = None) -> Tensor:
    """The weight a task uses, of the shape of the scores; gradients flow to these, straight through the mask.

    Args:
        scores: of a layer, or of K layers of the same shape [K, ...]: each has a mask of its own.
        weight: of the layer, scaled where masks are (see :func:`scaled`).
        rule: how scores become a mask.
        room: memory that is used again; what it was used for before must have been differentiated.
    """
    room = room or Room(scores, weight)
    found: Tensor = _StraightThrough.apply(scores, weight, rule, room)  # type: ignore[no-untyped-call]  # torch has no types
    return found


@final
class Room:
    """Memory for one layer's masked weight and its gradient, to be used at every step.

    Tensors of a megabyte are given back to the system and taken anew at every step otherwise: a third of a step.

    Args:
        scores: of the layer, or of K layers.
        weight: of the layer.
    """

    def __init__(self, scores: Tensor, weight: Tensor) -> None:
        self._like, self._shape = scores.detach(), weight.shape
        self._masked: Tensor | None = None
        self._gradient: Tensor | None = None
        count = 1 if scores.ndim == weight.ndim else len(scores)
        self.thresholds = [math.nan] * count
        """Where each mask's threshold was a step before."""

    def masked(self) -> Tensor:
        """For the masked weight."""
        if self._masked is None:
            self._masked = torch.empty_like(self._like)
        return self._masked

    def rows(self) -> Tensor:
        """The same, for K layers [K, ...]."""
        return self.masked().view(-1, *self._shape)

    def gradient(self) -> Tensor:
        """For the scores' gradient."""
        if self._gradient is None:
            self._gradient = torch.empty_like(self._like)
        return self._gradient


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, weight: Tensor, rule: MaskRule, room: Room) -> Tensor:  # noqa: ANN401 - torch's
        ctx.by_magnitude = rule.rule == "top" and rule.magnitude and rule.values == "binary"
        ctx.room = room
        ctx.save_for_backward(scores if ctx.by_magnitude else None, weight)
        for row, each in enumerate(scores.view(-1, *weight.shape)):
            rule.factors(each, room, row)
        # detached: what is given out is this step's, the memory is not
        return room.masked().mul_(weight).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's
        scores, weight = ctx.saved_tensors
        found = torch.mul(gradients[0], weight, out=ctx.room.gradient())
        if ctx.by_magnitude:
            # the masked weight is needed no more: whoever was given it has been differentiated
            found.mul_(torch.sign(scores, out=ctx.room.masked()))
        return found, None, None, None
