"""The receiver's covariance: pooled from what all anchors brought, shrunk, and turned into whitening."""

import torch
from torch import Tensor


def ledoit_wolf(residuals: Tensor) -> float:
    r"""The share of the identity that Ledoit and Wolf (2004) give a covariance from centred rows [n, D].

    With :math:`S = R^\top R / n` and :math:`\mu = \operatorname{tr} S / D`, the share is
    :math:`\min(\beta, \delta) / \delta` where :math:`\delta = \lVert S - \mu I \rVert_F^2` and
    :math:`\beta = \frac{1}{n} \bigl(\frac{1}{n} \sum_i \lVert r_i \rVert^4 - \lVert S \rVert_F^2\bigr)`.

    Example:
        >>> ledoit_wolf(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        0.0
    """
    r = residuals.double()
    return _share(r, r.T @ r / len(r))


def _share(r: Tensor, sample: Tensor) -> float:
    """The same of float64 rows whose second moments [D, D] are known."""
    n, d = r.shape
    norm = float(sample.square().sum())
    squares = r.square().sum(1)
    delta = norm - float(squares.mean()) ** 2 / d
    beta = max(0.0, (float(squares.square().mean()) - norm) / n)
    return min(1.0, beta / delta) if delta > 0 else 1.0


def within(residuals: Tensor, shrinkage: float | str) -> tuple[Tensor, float]:
    """The shrunk covariance [D, D] of centred rows [n, D], float64, and the weight of one row in it.

    Without rows, or where all are zero, it is the identity: nothing is known of any direction.
    """
    r = residuals.double()
    n, d = r.shape
    eye = torch.eye(d, dtype=torch.float64, device=r.device)
    if not n or not bool(r.any()):
        return eye, 0.0
    sample = r.T @ r / n
    share = _share(r, sample) if isinstance(shrinkage, str) else shrinkage
    return (1 - share) * sample + share * sample.diagonal().mean() * eye, (1 - share) / n


def scatter(means: Tensor, weights: Tensor, owner: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
    r"""How far parts of a task lie from its middle, averaged over tasks, and the middles [T, D].

    :math:`B = \frac{1}{T} \sum_t \sum_k w_{tk} (\mu_{tk} - \mu_t)(\mu_{tk} - \mu_t)^\top` with
    :math:`\mu_t = \sum_k w_{tk} \mu_{tk}`. Every task counts the same, so one that is
    large, or claims to be, does not decide alone.

    Args:
        means: [K, D], float64.
        weights: [K], summing to 1 within each task.
        owner: the task of each row [K], int64.
        tasks: T.
    """
    middles = torch.zeros(tasks, means.shape[1], dtype=means.dtype, device=means.device)
    middles.index_add_(0, owner, weights[:, None] * means)
    away = (means - middles[owner]) * weights.sqrt()[:, None]
    return away.T @ away / tasks, middles


def whitener(covariance: Tensor) -> Tensor:
    r"""A matrix W [D, D] with :math:`\lVert v W \rVert^2 = v^\top \Sigma^{-1} v`, or the pseudo-inverse's.

    By Cholesky; a covariance without full rank (no shrinkage, fewer samples than dimensions) is inverted on
    its range alone, by its eigenvectors. Never by ``inv``, which returns finite nonsense there.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal()
    if not int(failed) and float(pivots.min()) > 1e-6 * float(pivots.max()):
        eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        whiten: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False).T.contiguous()
        return whiten
    roots, vectors = torch.linalg.eigh(covariance)
    kept = roots > 1e-10 * roots.max()
    inverted: Tensor = vectors * torch.where(kept, roots.clamp(min=1e-300).rsqrt(), 0)
    return inverted
