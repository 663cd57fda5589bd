r"""Name the task of an input by its nearest Gaussian cluster.

.. math::
    P(m \mid x) = \frac{\phi_m \mathcal N(x \mid \mu_m, \Sigma_m)}
                       {\sum_{n=1}^{kT} \phi_n \mathcal N(x \mid \mu_n, \Sigma_n)}, \qquad
    \hat t(x) = \mathrm{task}\bigl(\arg\max_m P(m \mid x)\bigr) \qquad\text{(Eq. 4)}

Source:
    Ge et al., TMLR 2023, section 5. With ``covariance="own"`` (as published) each component has its
    diagonal. By default all share one covariance that the receiver makes: the mean of their diagonals, plus
    ``spread`` times the scatter of components around their task's mean. That scatter is what varies *within*
    tasks, and so says little about *which* task; and no anchor can win inputs by claiming a wide covariance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from stolon.light.anchors.gaussian import GaussianAnchor, GaussianConfig
from stolon.light.mappers import covariance
from stolon.light.mappers.base import Parts, TaskMapper, common


@final
class GaussianMapper(TaskMapper):
    """A task mapper made of Gaussian anchors.

    Args:
        anchors: by task name; in any order.
        config: the settings that they were fitted with; ``None``: the defaults.

    Raises:
        DataError: no anchor, one that is not what it should be, or of other dimensions than the rest.
        TaskError: a name is no task's name.

    Example:
        >>> from stolon.light.anchors import fit_gaussian
        >>> config = GaussianConfig(transform="none", unknown_quantile=None)
        >>> near, far = torch.rand(50, 2), torch.rand(50, 2) + 9
        >>> anchors = {"near": fit_gaussian(near, config), "far": fit_gaussian(far, config)}
        >>> mapper = GaussianMapper(anchors, config)
        >>> [mapper.tasks[t] for t in mapper.map(torch.tensor([[0.5, 0.5], [9.0, 9.5]])).tasks]
        ['near', 'far']
    """

    def __init__(self, anchors: Mapping[str, GaussianAnchor], config: GaussianConfig | None = None) -> None:
        config = config or GaussianConfig()
        self._names, self._dimensions, ordered = in_order(anchors, config)
        self._transform = config.transform
        means = torch.cat([a.means.double() for a in ordered])
        weights = torch.cat([shares(a) for a in ordered])
        self._owner = torch.cat([torch.full((len(a.means),), t) for t, a in enumerate(ordered)]).to(
            means.device
        )
        variances = torch.cat([a.variances.double().expand_as(a.means) for a in ordered])
        prior = log_priors(config.prior, ordered)
        # every task counts the same, whatever size it claims
        pooled = (weights @ variances) / len(ordered)
        self._densities: Parts | _Diagonal
        if config.covariance == "pooled":
            between, _ = covariance.scatter(means, weights, self._owner, len(ordered))
            whiten = covariance.whitener(torch.diag(pooled) + config.spread * between)
            self._densities = Parts(means, prior, whiten)
        else:
            shrunk = (1 - config.shrinkage) * variances + config.shrinkage * pooled
            self._densities = _Diagonal(means, prior, shrunk)
        probes = torch.cat([a.probes.float() for a in ordered])
        whose = torch.cat([torch.full((len(a.probes),), t) for t, a in enumerate(ordered)]).to(means.device)
        rows = self._best(self._parts(probes))
        around = self._background(probes)
        self._calibrate(rows, around, whose, means, config)

    @torch.no_grad()
    def responsibilities(self, features: Tensor) -> Tensor:
        """Eq. 4: the probability of every component [B, K] of all tasks in the order of :attr:`tasks`.

        Args:
            features: raw features of the frozen backbone [B, D].

        Raises:
            DataError: not finite floats [B, D].
        """
        return torch.softmax(self._parts(self._prepare(features)), 1)

    def _parts(self, x: Tensor) -> Tensor:
        return self._densities(x)

    def _background(self, x: Tensor) -> Tensor:
        return self._densities.background(x)


class _Diagonal:
    r"""Log densities of Gaussians with a diagonal each, in two matrix products.

    :math:`-\tfrac12 \sum_d (x_d - \mu_d)^2 / v_d = -\tfrac12\, x^2 \cdot \tfrac1v + x \cdot \tfrac{\mu}{v}
    - \tfrac12 \mu \cdot \tfrac{\mu}{v}`, after everything was moved to the mean of all means and divided by
    the mean standard deviation of each dimension, so that float32 has nothing large to cancel.
    """

    def __init__(self, means: Tensor, prior: Tensor, variances: Tensor) -> None:
        middle, scale = means.mean(0), variances.mean(0).sqrt()
        m, v = (means - middle) / scale, variances / scale.square()
        constants = prior - (variances.log().sum(1) + means.shape[1] * math.log(2 * math.pi)) / 2
        self._middle, self._scale = middle.float(), scale.float()
        self._precisions = (-0.5 / v).T.float().contiguous()
        self._linear = (m / v).T.float().contiguous()
        self._constants = (constants - (m.square() / v).sum(1) / 2).float()

    def background(self, x: Tensor) -> Tensor:
        """Log densities [B] around the mean of all means, of float32 x [B, D], up to a constant."""
        return -((x - self._middle) / self._scale).square().sum(1) / 2

    def __call__(self, x: Tensor) -> Tensor:
        """Log densities [B, K] of float32 x [B, D]."""
        x = (x - self._middle) / self._scale
        return torch.addmm(torch.addmm(self._constants, x.square(), self._precisions), x, self._linear)


def in_order(
    anchors: Mapping[str, GaussianAnchor], config: GaussianConfig
) -> tuple[tuple[str, ...], int, list[GaussianAnchor]]:
    """Task names, sorted, the dimensions that all share, and the anchors in that order, checked.

    Raises:
        DataError: no anchor, one that is not what it should be, or of other dimensions than the rest.
        TaskError: a name is no task's name.
    """
    checked = {name: a.check(unit=config.transform != "none") for name, a in anchors.items()}
    names, dimensions = common({name: a.means for name, a in checked.items()})
    return names, dimensions, [checked[name] for name in names]


def shares(anchor: GaussianAnchor) -> Tensor:
    """Weights of a task's components [K], float64, summing to 1."""
    weights = anchor.weights.double()
    return weights / weights.sum()


def log_priors(name: str, ordered: Sequence[GaussianAnchor]) -> Tensor:
    """Log prior of every component of all tasks [K], float64; ``name`` as in the configuration."""
    share = torch.cat([shares(a) for a in ordered])
    if name == "none":
        return torch.zeros_like(share)
    if name == "counts":
        share *= torch.cat([a.samples.double().expand(len(a.means)) for a in ordered])
    # a component of no weight has nothing: minus infinity would be right, but then minus infinity less
    # minus infinity is NaN in a posterior; the smallest positive number loses as surely
    return (share / share.sum()).clamp(min=1e-300).log()
