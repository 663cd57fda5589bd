r"""Deconvolutional factorization (DF-CNN; Lee et al. 2019): a small shared tensor, from which tasks make kernels.

For a kernel k x k from C_in to C_out channels all tasks share :math:`L` [c_kb, h, h] with h = (k + 1) / 2. A task
deconvolves it (3 x 3, stride 2, to c_ts channels: h becomes 2 h - 1 = k) into :math:`D` [c_ts, k, k] and contracts that
with :math:`U` [c_ts, C_in, C_out]: :math:`W_{o i x y} = \sum_m D_{m x y} U_{m i o}`. There is no activation in between
(the released runs pass none). The bias is the task's own.
"""

from collections.abc import Sequence
from typing import ClassVar, Final, final

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

from stolon.errors import SettingError
from stolon.transfer.mechanisms.base import Mechanism, Tensors, glorot

# Kernels as (k, C_in, C_out) of the papers' nets, and for each (c_kb, c_ts) as in the released code; h follows from k.
_CIFAR: Final = ((3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64))
_OFFICE: Final = ((11, 3, 64), (5, 64, 256), (3, 256, 256), (3, 256, 256))
_STL: Final = ((3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128))
_STL9: Final = (
    (3, 3, 32), (3, 32, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128),
    (3, 128, 128),
)  # fmt: skip
PUBLISHED: Final = {
    _CIFAR: ((16, 24), (24, 48), (32, 64), (36, 72)),
    _OFFICE: ((24, 48), (64, 128), (64, 128), (64, 128)),
    _STL: ((12, 24), (24, 48), (32, 64), (48, 96), (64, 128), (96, 192)),
    _STL9: (
        (12, 24), (24, 48), (24, 48), (32, 64), (48, 96), (48, 96), (64, 128), (96, 192), (96, 192),
    ),
}  # fmt: skip
"""Channels of shared tensor and deconvolution of the papers' nets; all others follow the paper's rule."""


@final
class Deconvolution(Mechanism):
    """A shared tensor of half the kernel's size; a deconvolution and a contraction of the task's own.

    The papers' nets get the released code's sizes. Other nets follow the paper's rule, c_kb = (C_in + C_out) / 3 and
    c_ts twice that, which the released sizes follow only roughly. All begins as Glorot-uniform draws, biases too.
    The L2 terms of 1e-7 are left out: as released they have next to no gradient.

    Raises:
        SettingError: a weight is not that of a convolution with a square kernel of odd size.
    """

    name: ClassVar[str] = "deconvolution"

    def __init__(self, kernels: Sequence[torch.Size]) -> None:
        super().__init__(kernels)
        for shape in kernels:
            if len(shape) != 4 or shape[2] != shape[3] or shape[2] % 2 == 0:
                raise SettingError(
                    "transfer by deconvolution: expected kernels [C_out, C_in, k, k] of odd size k, found "
                    f"{list(shape)}; "
                    "choose transfer='tensor-factorization' or 'hard'"
                )
        seen = tuple((shape[2], shape[1], shape[0]) for shape in kernels)
        self._channels = PUBLISHED.get(seen) or tuple(_rule(shape) for shape in kernels)

    def shared(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The knowledge base [1, c_kb, h, h]."""
        h, (c_kb, _) = (initial.shape[2] + 1) // 2, self._channels[index]
        # fans as TensorFlow counts them for a tensor [1, h, h, c_kb]
        return {"base": glorot((1, c_kb, h, h), h * h, h * c_kb, generator)}

    def factors(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Deconvolution weight [c_kb, c_ts, 3, 3] and bias [c_ts], contraction [c_ts, C_in, C_out]."""
        (c_out, c_in, _, _), (c_kb, c_ts) = initial.shape, self._channels[index]
        return {
            "deconvolution": glorot((c_kb, c_ts, 3, 3), 9 * c_ts, 9 * c_kb, generator),
            "deconvolution_bias": glorot((c_ts,), 1, c_ts, generator),  # [1, 1, 1, c_ts] there
            "contraction": glorot((c_ts, c_in, c_out), c_in * c_ts, c_out * c_ts, generator),
        }

    def kernel(self, index: int, shared: Tensors, factors: Tensors) -> Tensor:
        """Deconvolve, then contract."""
        c_out, c_in, k, _ = self.kernels[index]
        deconvolved = conv_transpose2d(
            shared["base"], factors["deconvolution"], factors["deconvolution_bias"], stride=2, padding=1
        )
        contraction = factors["contraction"]
        weight = deconvolved.reshape(-1, k * k).T @ contraction.flatten(1)  # [k k, C_in C_out]
        return weight.view(k, k, c_in, c_out).permute(3, 2, 0, 1)

    def bias(self, initial: Tensor, generator: torch.Generator) -> Tensor:
        """Glorot uniform too."""
        return glorot(initial.shape, len(initial), len(initial), generator)


def _rule(shape: torch.Size) -> tuple[int, int]:
    """Channels by the paper's rule (appendix A)."""
    c_kb = max(1, round((shape[0] + shape[1]) / 3))
    return c_kb, 2 * c_kb
