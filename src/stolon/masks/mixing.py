r"""Weighted sums of many masks, forwards and backwards: :math:`z = \alpha M` and :math:`\partial\alpha = M g`.

ImpressLearn, Eq. 1: layer l of a new task's network is :math:`W_l \odot \sum_i \alpha_{il} M_{il}`, with m masks that
are there and coefficients that are trained. :class:`Masks` holds the masks of one vector of weights,
:class:`LayeredMasks` those of a network's layers, with coefficients for each. Three forms give the same sums:

=========  =======================  ========================================================================
form       bytes per mask entry     how
=========  =======================  ========================================================================
``fast``   0.11 to 0.24             look-ups by groups of masks, :class:`~stolon.masks.tables.PatternTables`
``bits``   1/8                      the same where that fits, else :class:`~stolon.masks.tables.ByteTables`
``plain``  4 (2 of half floats)     a matrix product; for masks of real numbers the only one
=========  =======================  ========================================================================

(Of 250 masks over 266,200 entries. Masks of -1, 0 and 1 take up to twice as much in the first two. The fewer the masks
the more bytes per entry: the fast form takes 2 bytes for each group of masks, the small one 1 for every eight.)

Sums are of float32. Every z is within :math:`(m + 2) u \sum_i |\alpha_i M_{ij}|` of the exact sum,
:math:`u = 2^{-24}`, as the naive sum is. Backwards the bound of summation over n entries is far from what is seen: the
tests hold it to :math:`2 \cdot 10^{-6} \sum_j |M_{ij} g_j|`. One coefficient of 1 and zeros otherwise give exactly that
mask (in the plain form as long as torch's matrix products are not set to a lower precision). On CPUs the same call
gives the same bits; on CUDA devices the backward pass adds in no fixed order.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, final, get_args

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stolon.errors import DataError, SettingError
from stolon.masks.held import Held, Plain, Signed, is_ternary
from stolon.masks.tables import ByteTables, PatternTables
from stolon.settings import one_of

Form = Literal["fast", "bits", "plain"]
FORMS: Final = get_args(Form)


@final
class Masks:
    """m masks over one flat vector of n entries; made by :meth:`of`.

    Example:
        >>> masks = Masks.of(torch.tensor([[1, 0, 1], [0, 1, 1]], dtype=torch.bool))
        >>> alpha = torch.tensor([0.5, 2.0], requires_grad=True)
        >>> masks.mix(alpha).tolist()
        [0.5, 2.0, 2.5]
        >>> masks.mix(alpha).sum().backward()
        >>> alpha.grad
        tensor([2., 2.])
    """

    def __init__(self, layered: "LayeredMasks") -> None:
        self._layered = layered

    @classmethod
    def of(cls, masks: Tensor, form: Form = "fast") -> "Masks":
        """Hold these masks.

        Args:
            masks: [m, n], m and n at least 1: bool, or numbers -1, 0 and 1; other numbers in the plain form only.
            form: see the module.

        Raises:
            SettingError: another shape, an unknown form, or masks that are not of this form.
            DataError: values that are not finite.
        """
        if masks.ndim != 2:
            raise SettingError(f"masks: expected a tensor [m, n], found shape {list(masks.shape)}")
        return cls(LayeredMasks.of([masks], form))

    @classmethod
    def from_packed(cls, packed: Tensor, entries: int, form: Form = "fast") -> "Masks":
        """Hold the masks that :meth:`to_packed` gave, of so many entries; see :meth:`LayeredMasks.from_packed`."""
        return cls(LayeredMasks.from_packed(packed, [(entries,)], form))

    @property
    def count(self) -> int:
        """How many masks, m."""
        return self._layered.count

    @property
    def entries(self) -> int:
        """Of how many entries each, n."""
        return self._layered.entries

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._layered.nbytes

    def mix(self, alpha: Tensor) -> Tensor:
        """The weighted sum of the masks, float32 [n]; gradients flow to the coefficients.

        Args:
            alpha: coefficients [m], of any float type; where the masks are.

        Raises:
            SettingError: another shape or device.
            DataError: coefficients that are not finite.
        """
        _check_shape("coefficients", alpha, [self.count], self._layered.device)
        return self._layered.mix(alpha[:, None])[0]

    def mix_many(self, alphas: Tensor) -> Tensor:
        """The weighted sums for several tasks at once, without gradients: [T, m] to [T, n]; as :meth:`mix`."""
        tasks = len(alphas) if alphas.ndim else 0
        _check_shape("coefficients", alphas, [tasks, self.count], self._layered.device)
        return self._layered.mix_many(alphas[:, :, None])[0]

    def project(self, g: Tensor) -> Tensor:
        """The sum of g over each mask, M g: float32 [m]; what :meth:`mix` does backwards.

        Args:
            g: [n].

        Raises:
            SettingError: another shape or device.
        """
        return self._layered.project([g])[:, 0]

    def row(self, i: int) -> Tensor:
        """Mask i, float32 [n].

        Raises:
            SettingError: there is none.
        """
        return self._layered.row(i)[0]

    def to_packed(self) -> Tensor:
        """All masks as bits; see :meth:`LayeredMasks.to_packed`."""
        return self._layered.to_packed()


@final
class LayeredMasks:
    """m masks of a network's d layers, with coefficients for each mask and layer; made by :meth:`of`.

    The layers are held as one vector, and are mixed together.

    Args:
        held: the masks of that vector, in d segments.
        count: how many masks, m.
        shapes: the layers'.
        device: where they are.
        is_signed: whether there are -1 among them.
    """

    def __init__(
        self,
        held: Held,
        count: int,
        shapes: Sequence[Sequence[int]],
        device: torch.device,
        *,
        is_signed: bool,
    ) -> None:
        self._held, self._is_signed = held, is_signed
        self.count = count
        """How many masks, m."""
        self.device = device
        """Where they are."""
        self.shapes = tuple(torch.Size(shape) for shape in shapes)
        """The layers'."""
        self._lengths = [shape.numel() for shape in self.shapes]

    @classmethod
    def of(cls, layers: Sequence[Tensor], form: Form = "fast") -> "LayeredMasks":
        """Hold the masks of these layers.

        Args:
            layers: for each layer its masks, [m, ...]; values as for :meth:`Masks.of`.
            form: see the module.

        Raises:
            SettingError: no layers, masks or entries; layers of different m or devices; an unknown form, or masks that
                are not of this form.
            DataError: values that are not finite.
        """
        one_of("form", form, FORMS)
        if not layers or any(layer.ndim < 2 or layer.numel() == 0 for layer in layers):
            raise SettingError(
                "masks: expected layers [m, ...] of at least one mask and entry, found "
                f"{[list(layer.shape) for layer in layers]}"
            )
        if len({(len(layer), layer.device) for layer in layers}) > 1:
            raise SettingError(
                "masks: expected as many for each layer, on one device, found "
                f"{[(len(layer), str(layer.device)) for layer in layers]}"
            )
        shapes = [layer.shape[1:] for layer in layers]
        lowest = min(_lowest(layer, form) for layer in layers)
        held = Plain(layers) if form == "plain" else _in_tables(layers, form, is_signed=lowest < 0)
        return cls(held, len(layers[0]), shapes, layers[0].device, is_signed=lowest < 0)

    @classmethod
    def from_packed(
        cls, packed: Tensor, shapes: Sequence[Sequence[int]], form: Form = "fast"
    ) -> "LayeredMasks":
        """Hold the masks that :meth:`to_packed` gave.

        Args:
            packed: uint8 [m, bytes]; whether they are signed follows from the width.
            shapes: the layers'.
            form: see the module.

        Raises:
            SettingError: an unknown form, or bytes of another shape or type than these layers'.
        """
        sizes = [torch.Size(shape) for shape in shapes]
        lengths = [size.numel() for size in sizes]
        n, width = sum(lengths), -(-sum(lengths) // 8)
        is_valid = packed.dtype == torch.uint8 and packed.ndim == 2 and packed.shape[1] in (width, 2 * width)
        if not is_valid or 0 in (len(packed), n, *lengths):
            raise SettingError(
                f"packed masks: expected uint8 [m, {width}], or [m, {2 * width}] of signed ones, for layers {shapes}; "
                f"found {packed.dtype} {list(packed.shape)}"
            )
        bits = np.unpackbits(packed.cpu().numpy().reshape(len(packed), -1, width), axis=2, count=n)
        planes = torch.from_numpy(bits)  # [m, 1 or 2, n]: where it is not 0, and where it is negative
        masks = planes[:, 0].bool() if planes.shape[1] == 1 else planes[:, 0].char() - 2 * planes[:, 1].char()
        layers = masks.to(packed.device).split(lengths, 1)
        return cls.of(
            [layer.unflatten(1, size) for layer, size in zip(layers, sizes, strict=True)], form=form
        )

    @property
    def entries(self) -> int:
        """Entries of all layers, n."""
        return sum(self._lengths)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._held.nbytes

    def mix(self, alpha: Tensor) -> list[Tensor]:
        """For each layer the weighted sum of its masks, float32, of its shape; gradients flow to the coefficients.

        Args:
            alpha: coefficients [m, d], of any float type; where the masks are.

        Raises:
            SettingError: another shape or device.
            DataError: coefficients that are not finite.
        """
        self._check(alpha, [self.count, len(self.shapes)])
        return self._layers(_Mix.apply(alpha, self._held))  # type: ignore[no-untyped-call]  # not in torch's stubs

    @torch.no_grad()
    def mix_many(self, alphas: Tensor) -> list[Tensor]:
        """The same for several tasks at once, without gradients: [T, m, d] to layers [T, ...]."""
        self._check(alphas, [len(alphas) if alphas.ndim else 0, self.count, len(self.shapes)])
        return self._layers(self._held.mix(alphas.float()))

    def project(self, gradients: Sequence[Tensor]) -> Tensor:
        """For each mask and layer the sum of a gradient over the mask, float32 [m, d]: :meth:`mix` backwards.

        Args:
            gradients: for each layer, of its shape.

        Raises:
            SettingError: other shapes or another device.
        """
        if len(gradients) != len(self.shapes):
            raise SettingError(f"gradients: expected {len(self.shapes)} layers, found {len(gradients)}")
        for g, shape in zip(gradients, self.shapes, strict=True):
            _check_shape("gradient", g, list(shape), self.device)
        with torch.no_grad():
            return self._held.project(torch.cat([g.float().flatten() for g in gradients]))

    def row(self, i: int) -> list[Tensor]:
        """Mask i, float32, layer by layer.

        Raises:
            SettingError: there is none.
        """
        if not 0 <= i < self.count:
            raise SettingError(f"mask: expected 0 to {self.count - 1}, found {i}")
        return self._layers(self._held.row(i))

    def to_packed(self) -> Tensor:
        """All masks as bits, on the CPU.

        Returns:
            uint8 [m, ceil(n / 8)]: a row is a mask, layer after layer, the first entry in the highest bit, zeros behind
            the last. If any mask is signed [m, 2 ceil(n / 8)]: first where it is not 0, then where it is negative.

        Raises:
            SettingError: masks of real numbers have no such form.
        """
        if isinstance(self._held, Plain) and not self._held.is_ternary:
            raise SettingError(
                "masks of real numbers: expected values -1, 0 and 1 to pack; store them as floats"
            )
        rows = list[Tensor]()
        for i in range(self.count):
            mask = self._held.row(i).cpu().numpy()
            planes = (mask != 0, mask < 0) if self._is_signed else (mask != 0,)
            rows.append(torch.from_numpy(np.concatenate([np.packbits(plane) for plane in planes])))
        return torch.stack(rows)

    def _layers(self, flat: Tensor) -> list[Tensor]:
        """[..., n] by layers."""
        parts = flat.split(self._lengths, -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _check(self, alpha: Tensor, shape: list[int]) -> None:
        _check_shape("coefficients", alpha, shape, self.device)
        if not bool((is_finite := alpha.float().isfinite()).all()):
            raise DataError(
                f"coefficients: expected finite numbers of float32, found {int((~is_finite).sum())} others of "
                f"{alpha.numel()}; lower the learning rate or scale the data"
            )


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, alpha: Tensor, held: Held) -> Tensor:  # noqa: ANN401 - torch's
        ctx.held, ctx.dtype = held, alpha.dtype
        return held.mix(alpha.float()[None])[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's
        return ctx.held.project(gradients[0].contiguous()).to(ctx.dtype), None


def _in_tables(layers: Sequence[Tensor], form: Form, *, is_signed: bool) -> Held:
    """Masks of -1, 0 and 1 in tables."""
    flat, device = [layer.flatten(1) for layer in layers], layers[0].device
    lengths = [layer.shape[1] for layer in flat]
    planes = len(flat[0]) * (2 if is_signed else 1)

    def plane(i: int) -> Tensor:
        # both planes of a mask next to each other: in one group, where few of their patterns can occur
        return torch.cat(
            [(layer[i // 2] == 1 - 2 * (i % 2)) if is_signed else (layer[i] != 0) for layer in flat]
        )

    held: Held = PatternTables(plane, planes, lengths, device)
    if form == "bits" and 8 * held.nbytes > planes * sum(lengths):
        held = ByteTables(plane, planes, lengths, device)
    return Signed(held) if is_signed else held


def _lowest(layer: Tensor, form: Form) -> float:
    """The lowest value of masks; refuses what the form does not take."""
    if layer.dtype == torch.bool:
        return 0.0
    lowest, highest = (float(value) for value in layer.aminmax())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise DataError(f"masks: expected finite values, found values from {lowest} to {highest}")
    if form != "plain" and not (lowest >= -1 and highest <= 1 and all(is_ternary(row) for row in layer)):
        raise SettingError(
            f"form={form!r}: expected masks of 0 and 1, or of -1, 0 and 1, found other values between {lowest} and "
            f"{highest}; choose form='plain'"
        )
    return lowest


def _check_shape(name: str, given: Tensor, shape: list[int], device: torch.device) -> None:
    if list(given.shape) != shape or given.device != device:
        raise SettingError(
            f"{name}: expected shape {shape} on {device}, found {list(given.shape)} on {given.device}"
        )
