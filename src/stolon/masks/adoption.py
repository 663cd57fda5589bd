"""What is checked before a learner takes on what another one learned, so that nothing of it can fail later.

What is returned are copies: nobody else can change them any more.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stolon.errors import DataError
from stolon.masks.frozen import FrozenNet
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.popup import MaskRule, Values


def own_mask(mask: StoredMask, shapes: Sequence[torch.Size], statistics: Mapping[str, Tensor]) -> StoredMask:
    """The mask, if it is one of layers of these shapes, with statistics of the names, types and shapes of these.

    Raises:
        DataError: it is not.
    """
    if len(mask.layers) != len(shapes):
        raise DataError(f"expected a mask of {len(shapes)} layers, found {len(mask.layers)}")
    scales = mask.scales
    if scales.dtype != torch.float32 or list(scales.shape) != [len(shapes)] or not _is_finite(scales):
        raise DataError(f"expected {len(shapes)} finite scales in float32, found {_told(scales)}")
    for layer, shape in zip(mask.layers, shapes, strict=True):
        is_real = layer.dtype == torch.float16 and layer.shape == shape and _is_finite(layer)
        if layer.dtype != torch.uint8 and not is_real:
            raise DataError(
                f"expected a layer's mask as bits, or finite float16 {list(shape)}, found {_told(layer)}"
            )
    mask.masks(shapes)  # refuses bits that are none of these shapes
    layers = tuple(layer.clone() for layer in mask.layers)
    return StoredMask(layers, scales.clone(), _own_statistics(mask.statistics, statistics))


def own_coefficients(kept: Kept, frozen: FrozenNet, masks: int) -> Kept:
    """The coefficients, if they are for so many masks of this network.

    Raises:
        DataError: they are not.
    """
    expected = [len(frozen.shapes), masks]
    if kept.mask >= 0:
        raise DataError("expected a task's coefficients or its mask, found its place in somebody's basis")
    if kept.alpha.dtype != torch.float16 or list(kept.alpha.shape) != expected or not _is_finite(kept.alpha):
        raise DataError(f"expected finite coefficients in float16 {expected}, found {_told(kept.alpha)}")
    last = None if kept.last is None else own_mask(kept.last, frozen.shapes[-1:], {})
    statistics = _own_statistics(kept.statistics, frozen.begin_statistics())
    return Kept(-1, kept.alpha.clone(), statistics, last)


def own_basis(masks: Sequence[StoredMask], frozen: FrozenNet, rule: MaskRule) -> list[StoredMask]:
    """The masks, if each is what this rule could have made for this network.

    Raises:
        DataError: there are none, or one is not.
    """
    if not masks:
        raise DataError("expected a basis of at least one mask, found none")
    found = [own_mask(mask, frozen.shapes, frozen.begin_statistics()) for mask in masks]
    scales = torch.tensor([rule.scale(shape) for shape in frozen.shapes])
    for i, mask in enumerate(found):
        if values_of(mask, frozen.shapes) != rule.values:
            raise DataError(
                f"mask {i}: expected {rule.values} values as this learner's, found "
                f"{values_of(mask, frozen.shapes)} ones; make the learner with its author's values"
            )
        if not torch.equal(mask.scales, scales):
            raise DataError(
                f"mask {i}: expected the scales {scales.tolist()} of this learner, found {mask.scales.tolist()}; "
                "make the learner with its author's rule, density, densities and scaled"
            )
    return found


def fingerprint_of(masks: Sequence[StoredMask], frozen: FrozenNet, rule: MaskRule) -> str:
    """SHA-256 of a basis and of how it is scaled, hexadecimal: where it is equal, equal coefficients mean the same."""
    scales = torch.tensor([rule.scale(shape) for shape in frozen.shapes])
    digest = hashlib.sha256(repr((len(masks), rule.values)).encode() + scales.numpy().tobytes())
    for mask in masks:
        for layer in mask.layers:
            digest.update(layer.contiguous().numpy().tobytes())
    return digest.hexdigest()


def place_of(mask: StoredMask, basis: Sequence[StoredMask]) -> int:
    """Where a mask is in a basis; -1 where it is not.

    Example:
        >>> one, other = (StoredMask.of([torch.tensor([[bit]])], [1.0], {}) for bit in (True, False))
        >>> place_of(other, [one, other]), place_of(one, [other])
        (1, -1)
    """
    for place, other in enumerate(basis):
        pairs = zip((*mask.layers, mask.scales), (*other.layers, other.scales), strict=True)
        if all(torch.equal(one, another) for one, another in pairs):
            return place
    return -1


def values_of(mask: StoredMask, shapes: Sequence[torch.Size]) -> Values:
    """What a mask's values are, as in the settings; that of its first layer."""
    if mask.layers[0].is_floating_point():
        return "real"
    return "binary" if mask.layers[0].numel() == -(-shapes[0].numel() // 8) else "signed"


@torch.no_grad()
def try_out(frozen: FrozenNet, weights: Sequence[Tensor], statistics: Mapping[str, Tensor]) -> None:
    """Answer one input of ones.

    Raises:
        DataError: it cannot be answered, or not by numbers: one such task would spoil the inference of all.
    """
    try:
        scores = frozen(torch.ones(1, *frozen.input_shape), weights, statistics, training=False)
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"expected knowledge that answers, found that it fails: {error}") from error
    if not _is_finite(scores):
        raise DataError("expected knowledge that answers by finite numbers, found others")


def _own_statistics(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    mine, theirs = ({name: _told(each) for name, each in all_.items()} for all_ in (expected, found))
    if mine != theirs:
        raise DataError(f"expected the statistics {mine or 'of no layer'}, found {theirs or 'none'}")
    for name, value in found.items():
        if not _is_finite(value):
            raise DataError(f"statistics {name}: expected finite numbers, found others")
    return {name: found[name].clone() for name in expected}


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _told(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
