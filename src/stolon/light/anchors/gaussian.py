r"""Gaussian mixture anchors: a task's inputs as a handful of Gaussian clusters.

.. math::
    f(x) = \sum_{i=1}^{k} \phi_i\, \mathcal N(x \mid \mu_i, \Sigma_i), \qquad \sum_i \phi_i = 1
    \qquad\text{(Eq. 3; } \Sigma_i \text{ diagonal)}

Source:
    Ge et al., "Lightweight Learner for Shared Knowledge Lifelong Learning", TMLR 2023, section 5.
    :meth:`GaussianConfig.as_published` is the paper's; by default we differ, because tasks of a few
    hundred images leave too few for each of 25 diagonal covariances (docs/decisions/0003-anchors.md):
    features are divided by their length, a component has at least 20 training samples, a task's components
    share one variance, and the receiver makes one covariance for all tasks out of everything it got.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from stolon import randomness, settings
from stolon.errors import DataError, SettingError
from stolon.light.anchors import values


@dataclass(frozen=True)
class GaussianConfig:
    """How Gaussian anchors are fitted and read; agents that share anchors share this.

    Attributes:
        components: most clusters of a task (k), at least 1.
        samples_per_component: a task of N samples has at most N / this many clusters, at least 1.
        iterations: most steps of expectation maximisation, at least 1.
        regularization: added to every variance as a share of the features' mean variance (or, with
            ``relative=False``, as it is, in squared feature units); above 0.
        relative: whether ``regularization`` is a share.
        transform: what is done to features first: ``"none"``, ``"l2"``, ``"sqrt-l2"``.
        covariance: ``"pooled"``: the receiver makes one covariance for all components of all tasks;
            ``"own"``: each component keeps its diagonal, as published.
        spread: for ``"pooled"``: weight of the scatter of components around their task's mean in that
            covariance; at least 0.
        shrinkage: for ``"own"``: how far each component's variance is drawn to the mean of all; 0 to 1.
        prior: a component's weight in Eq. 4: ``"none"``, ``"weights"`` (phi) or ``"counts"`` (phi N).
        probes: most samples held out of the fit and carried along for the receiver's threshold; 0: none.
        unknown_quantile: share of known tasks' own inputs that stay within the thresholds, above 0
            and below 1; ``None``: nothing is ever unknown.
        temperature: divides log densities before they become a confidence, above 0; ``None``: fitted to
            what the anchors carry.

    Raises:
        SettingError: a setting is out of its range.
    """

    components: int = 25
    samples_per_component: int = 20
    iterations: int = 100
    regularization: float = 1e-3
    relative: bool = True
    transform: str = "l2"
    covariance: str = "pooled"
    spread: float = 3.0
    shrinkage: float = 0.0
    prior: str = "none"
    probes: int = 32
    unknown_quantile: float | None = 0.99
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ("components", "samples_per_component", "iterations"):
            settings.at_least(name, getattr(self, name), 1)
        settings.above("regularization", self.regularization, 0)
        settings.one_of("transform", self.transform, values.TRANSFORMS)
        settings.one_of("covariance", self.covariance, ("pooled", "own"))
        settings.one_of("prior", self.prior, ("none", "weights", "counts"))
        settings.within("spread", self.spread, 0, 1e6)
        settings.within("shrinkage", self.shrinkage, 0, 1)
        settings.at_least("probes", self.probes, 0)
        check_decision(self.unknown_quantile, self.temperature)

    @classmethod
    def as_published(cls) -> Self:
        """25 clusters of raw features, each with its diagonal; no "unknown".

        Weighted by phi times N, as in the released code; Eq. 4 has phi alone (``prior="weights"``).
        """
        return cls(
            samples_per_component=1,
            regularization=1e-6,
            relative=False,
            transform="none",
            covariance="own",
            prior="counts",
            probes=0,
            unknown_quantile=None,
            temperature=1.0,
        )


class GaussianAnchor(NamedTuple):
    """One task's clusters, in the space of ``config.transform``.

    Attributes:
        means: [K, D].
        variances: diagonals [K, D], or [1, D] where all components share one; above 0.
        weights: phi [K], at least 0, summing to 1.
        samples: how many samples were fitted, int64, no dimensions.
        probes: samples that the fit did not see [P, D]; may be none.
    """

    means: Tensor
    variances: Tensor
    weights: Tensor
    samples: Tensor
    probes: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, as safetensors wants them."""
        return self._asdict()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "GaussianAnchor":
        """The inverse of :meth:`tensors`; checked.

        Raises:
            DataError: tensors are missing, of other shapes, or not finite.
        """
        return cls(*values.take("Gaussian anchor", tensors, cls._fields)).check()

    def check(self, *, unit: bool = False) -> "GaussianAnchor":
        """Itself, if every value is possible; ``unit``: rows no longer than 1 are demanded.

        Raises:
            DataError: says which tensor is not what it should be.
        """
        values.check_matrix("means", self.means)
        k, d = self.means.shape
        values.check_matrix("variances", self.variances, columns=d)
        values.check_matrix("probes", self.probes, columns=d)
        values.check_matrix("weights", self.weights.reshape(1, -1), 1, k)
        if k < 1 or len(self.variances) not in {1, k} or not bool((self.variances > 0).all()):
            raise DataError(f"variances: expected 1 or {k} rows above 0, found {list(self.variances.shape)}")
        total = float(self.weights.double().sum())
        if not bool((self.weights >= 0).all()) or abs(total - 1) > 0.01:
            raise DataError(f"weights: expected at least 0 and a sum of 1, found a sum of {total:.3g}")
        if self.samples.ndim or self.samples.dtype != torch.int64 or int(self.samples) < 1:
            raise DataError(f"samples: expected one int64 of at least 1, found {self.samples}")
        if unit:
            values.check_unit("means", self.means)
            values.check_unit("probes", self.probes)
        return self


def fit_gaussian(features: Tensor, config: GaussianConfig | None = None, seed: int = 0) -> GaussianAnchor:
    """Cluster a task's training features (Eq. 3) by k-means, then expectation maximisation.

    Args:
        features: raw features of the frozen backbone [N, D], N at least 1.
        config: settings; ``None``: the defaults.
        seed: same seed and features, same anchor.

    Returns:
        An anchor in float32.

    Raises:
        DataError: features are not finite floats [N, D], or there are none.

    Example:
        >>> anchor = fit_gaussian(torch.rand(100, 3), GaussianConfig(probes=10))
        >>> anchor.means.shape, anchor.probes.shape
        (torch.Size([4, 3]), torch.Size([10, 3]))
    """
    from sklearn.exceptions import ConvergenceWarning  # a second to import, and only fitting needs it
    from sklearn.mixture import GaussianMixture

    config = config or GaussianConfig()
    x = values.transform(features, config.transform).float().cpu()
    if len(x) < 1:
        raise DataError("features: expected at least one row, found none")
    # a fifth at most: a task of a few samples needs them for its clusters
    held = min(config.probes, len(x) // 5)
    order = randomness.permutation(len(x), seed, "anchor", "probes")
    probes, x = x[order[:held]], x[order[held:].sort().values]
    distinct = len(np.unique(x.numpy(), axis=0))
    k = max(1, min(config.components, len(x) // config.samples_per_component, distinct))
    floor = config.regularization
    if config.relative:
        floor *= float(x.var(0, correction=0).mean()) or 1e-6  # 1e-6: all samples are equal
    mixture = GaussianMixture(  # scikit-learn ships no types
        k,
        covariance_type="diag",
        reg_covar=floor,
        max_iter=config.iterations,
        random_state=randomness.number(seed, "anchor", "mixture") % 2**32,
    )
    # at the origin: scikit-learn's variances are differences of squares, which float32 would cancel
    middle = x.mean(0)
    x = x - middle
    # OpenBLAS raises the "invalid" flag for right results of very small products, on some processors and not
    # always; a result that is really not a number is refused by check() below
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # Stopping at max_iter is a setting here, not a failure: any iterate is a mixture, and likelihood only
        # rises with each. k-means may also find fewer clusters than asked for among near-duplicates; EM
        # then keeps a component of the floor's variance, which the pooled covariance makes harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # scikit-learn wants two samples; one sample twice is the same mixture
        points = (x if len(x) > 1 else x.expand(2, -1)).numpy()
        try:
            mixture.fit(points)
        except ValueError:
            # a cluster of one sample, and a floor below what float32 can tell from zero: only the published
            # settings get here, and twice the digits are enough
            mixture.fit(points.astype(np.float64))
    weights = torch.from_numpy(mixture.weights_).float()
    variances = torch.from_numpy(mixture.covariances_).float()
    if config.covariance == "pooled":
        variances = weights[None] @ variances
    means = torch.from_numpy(mixture.means_).float() + middle
    return GaussianAnchor(means, variances, weights / weights.sum(), torch.tensor(len(x)), probes).check()


def check_decision(unknown_quantile: float | None, temperature: float | None) -> None:
    """Refuse settings of the decision that are out of range.

    Raises:
        SettingError: says which.
    """
    if unknown_quantile is not None and not 0 < unknown_quantile < 1:
        raise SettingError(
            f"unknown_quantile: expected None, or above 0 and below 1, found {unknown_quantile}"
        )
    if temperature is not None:
        settings.above("temperature", temperature, 0)
