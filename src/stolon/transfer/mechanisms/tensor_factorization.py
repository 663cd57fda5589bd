r"""Tensor factorization: a shared core tensor, multiplied along every mode by a task's own square factors.

:math:`W = G \times_1 U_1 \times_2 U_2 \times_3 U_3 \times_4 U_4`, a Tucker form of full rank (Bulat et al. 2020, as
LASEM uses it). The factors are kept near orthogonal by :math:`\lambda \sum_i \lVert U_i^\top U_i - I \rVert_F` (the
norm, not its square), which is differentiated with respect to the factors, and only for layers that are shared.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from stolon.transfer.mechanisms.base import Mechanism, Tensors, glorot


@final
class TensorFactorization(Mechanism):
    """A shared core of the kernel's own shape, and a task's factor matrix for each of its modes.

    Core and factors begin as Glorot-uniform draws, and so does the bias, which is the task's own: as released. (A
    random square factor is far from orthogonal at first; the penalty, scaled by the learner's ``orthogonality``, turns
    it.) Weights of linear layers have two modes.
    """

    name: ClassVar[str] = "tensor-factorization"

    def shared(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """The core, in the kernel's shape."""
        c_out, c_in, *window = initial.shape
        area = torch.Size(window).numel()
        return {"core": glorot(initial.shape, c_in * area, c_out * area, generator)}

    def factors(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """A square matrix for each mode."""
        return {f"u{mode}": glorot((n, n), n, n, generator) for mode, n in enumerate(initial.shape)}

    def kernel(self, index: int, shared: Tensors, factors: Tensors) -> Tensor:  # noqa: ARG002
        """The core times its factors."""
        return multiply_modes(shared["core"], [factors[f"u{mode}"] for mode in range(shared["core"].ndim)])

    def bias(self, initial: Tensor, generator: torch.Generator) -> Tensor:
        """Glorot uniform too."""
        return glorot(initial.shape, len(initial), len(initial), generator)

    def penalty(self, factors: Tensors) -> Tensor:
        """Sum over the factors of the Frobenius norm of U^T U - I."""
        terms = [torch.linalg.norm(u.T @ u - torch.eye(len(u))) for u in factors.values()]
        return torch.stack(terms).sum()


def multiply_modes(core: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """A tensor multiplied along each mode i by a matrix [n_i, m_i]: ``W[j...] = sum core[i...] U[j, i]...``.

    Example:
        >>> multiply_modes(torch.ones(2, 3), [2 * torch.eye(2), torch.eye(3)]).sum()
        tensor(12.)
    """
    for factor in factors:
        # the first mode is contracted and comes back as the last: after all of them the order is what it was
        core = core.flatten(1).T.matmul(factor.T).unflatten(0, core.shape[1:])
    return core
