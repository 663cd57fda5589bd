r"""Name the task of an input by its nearest class, in a covariance that the receiver owns.

.. math::
    \hat t(x) = \mathrm{task}\Bigl(\arg\min_c\; \frac{d(x, \mu_c) + \gamma\, d(x, \mu_{t(c)})}
    {1 + \gamma}\Bigr),
    \qquad d(x, \mu) = (x - \mu)^\top \hat\Sigma^{-1} (x - \mu) \qquad\text{(Eq. 5 where } \gamma = 0)

    \hat\Sigma = (1 - a) S + a \tfrac{\operatorname{tr} S}{D} I + \beta B

S is the covariance of the examples around their class means, a the shrinkage, B the scatter of class means
around their task's mean, and :math:`\gamma` is ``task_weight``: an input of a task is near some class of it
*and* not far from its middle. The two distances are one, to a centre between class and task, plus a constant.

Source:
    Ge et al., TMLR 2023, section 5. Their released code inverts S alone, by a pseudo-inverse, and groups
    examples by the wrong value; :meth:`MahalanobisConfig.as_published` is the former without the latter. By
    default we add shrinkage, :math:`\beta = 1` and :math:`\gamma = 1`; see docs/decisions/0003-anchors.md.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from stolon.light.anchors.mahalanobis import MahalanobisAnchor, MahalanobisConfig
from stolon.light.mappers import covariance
from stolon.light.mappers.base import Parts, TaskMapper, common

CHUNK: Final = 4096
"""Examples that are left out at once: the distances of all to all classes of many large tasks would fill the memory."""


@final
class MahalanobisMapper(TaskMapper):
    """A task mapper made of Mahalanobis anchors.

    Args:
        anchors: by task name; in any order.
        config: the settings that they were fitted with; ``None``: the defaults.

    Raises:
        DataError: no anchor, one that is not what it should be, or of other dimensions than the rest.
        TaskError: a name is no task's name.

    Example:
        >>> from stolon.light.anchors import fit_mahalanobis
        >>> config = MahalanobisConfig(transform="none", unknown_quantile=None)
        >>> near, far, labels = torch.rand(50, 2), torch.rand(50, 2) + 9, torch.arange(50) % 2
        >>> anchors = {
        ...     "near": fit_mahalanobis(near, labels, config), "far": fit_mahalanobis(far, labels, config)
        ... }
        >>> mapper = MahalanobisMapper(anchors, config)
        >>> [mapper.tasks[t] for t in mapper.map(torch.tensor([[0.5, 0.5], [9.0, 9.5]])).tasks]
        ['near', 'far']
    """

    def __init__(
        self, anchors: Mapping[str, MahalanobisAnchor], config: MahalanobisConfig | None = None
    ) -> None:
        config = config or MahalanobisConfig()
        checked = {name: a.check(unit=config.transform != "none") for name, a in anchors.items()}
        self._names, self._dimensions = common({name: a.means for name, a in checked.items()})
        self._transform = config.transform
        ordered = [checked[name] for name in self._names]
        means = torch.cat([a.means.double() for a in ordered])
        counts = torch.cat([a.counts.double() for a in ordered])
        weights = torch.cat([a.counts.double() / a.counts.double().sum() for a in ordered])
        self._owner = torch.cat([torch.full((len(a.means),), t) for t, a in enumerate(ordered)]).to(
            means.device
        )
        firsts = torch.tensor([0, *(len(a.means) for a in ordered)]).cumsum(0).tolist()
        labels = torch.cat([a.labels + firsts[t] for t, a in enumerate(ordered)])
        examples = torch.cat([a.examples.double() for a in ordered])

        # the only example of a class is its mean: it says nothing of any spread
        several = counts[labels] > 1
        labels, examples = labels[several], examples[several]
        n = counts[labels]
        # a mean that saw the sample lies too near to it: the usual N / (N - 1)
        residuals = (examples - means[labels]) * (n / (n - 1)).sqrt()[:, None]
        sigma, weight = covariance.within(residuals, config.shrinkage)
        between, middles = covariance.scatter(means, weights, self._owner, len(ordered))
        whiten = covariance.whitener(sigma + config.spread * between)

        gamma = config.task_weight
        centres = (means + gamma * middles[self._owner]) / (1 + gamma)
        away = (means - middles[self._owner]) @ whiten
        offsets = -gamma / (1 + gamma) ** 2 * away.square().sum(1) / 2
        self._densities = Parts(centres, offsets, whiten)

        inside = self._densities.whiten(middles)
        best, arounds = [means.new_zeros(0, len(ordered)).float()], [means.new_zeros(0).float()]
        for rows in torch.arange(len(labels), device=means.device).split(CHUNK):
            # (x - mean) W and (x - middle) W out of x W, which is the one product as large as the examples
            of = labels[rows]
            z = self._densities.whiten(examples[rows])
            from_middle = z - inside[self._owner[of]]
            own = _Own(from_middle - away[of], from_middle, n[rows], self._sizes(counts)[of], gamma)
            left_out, around = _left_out(self._densities, z, own, weight, of)
            best.append(self._best(left_out.float()))
            arounds.append(around.float())
        probes = torch.cat([a.probes.float() for a in ordered])
        whose = torch.cat([torch.full((len(a.probes),), t) for t, a in enumerate(ordered)]).to(means.device)
        self._calibrate(
            torch.cat([*best, self._best(self._parts(probes))]),
            torch.cat([*arounds, self._background(probes)]),
            torch.cat([self._owner[labels], whose]),
            means,
            config,
        )

    def _sizes(self, counts: Tensor) -> Tensor:
        """Samples of the whole task that each class belongs to [C]."""
        sums = torch.zeros(len(self._names), dtype=counts.dtype, device=counts.device)
        return sums.index_add(0, self._owner, counts)[self._owner]

    def _parts(self, x: Tensor) -> Tensor:
        return self._densities(x)

    def _background(self, x: Tensor) -> Tensor:
        return self._densities.background(x)


class _Own(NamedTuple):
    """Distances of samples to their own class and task, as if these had been made without them.

    Attributes:
        from_class: whitened difference of each sample from its class mean [n, D].
        from_middle: and from its task's mean [n, D].
        counts: samples of its class [n].
        sizes: samples of its task [n].
        gamma: weight of the second distance.
    """

    from_class: Tensor
    from_middle: Tensor
    counts: Tensor
    sizes: Tensor
    gamma: float

    @property
    def residuals(self) -> Tensor:
        """What each sample brought to the covariance, whitened [n, D]."""
        return self.from_class * (self.counts / (self.counts - 1)).sqrt()[:, None]

    def densities(self, residuals: Tensor, gain: Tensor) -> Tensor:
        """Log densities [n]; ``gain`` [n] is Sherman and Morrison's factor for each sample."""
        total = torch.zeros(len(gain), dtype=gain.dtype, device=gain.device)
        for weight, v, n in (
            (1.0, self.from_class, self.counts),
            (self.gamma, self.from_middle, self.sizes),
        ):
            square = v.square().sum(1) + gain * (v * residuals).sum(1).square()
            total += weight * square * (n / (n - 1)).square()
        return -total / (1 + self.gamma) / 2


def _left_out(parts: Parts, z: Tensor, own: _Own, weight: float, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""Log densities [n, C] of examples, and around the middle [n], each as if made without that example.

    Taking the share :math:`w r r^\top` of a residual out of the covariance changes every squared distance
    (Sherman and Morrison): :math:`v^\top (\Sigma - w r r^\top)^{-1} v
    = v^\top \Sigma^{-1} v + \frac{w (r^\top \Sigma^{-1} v)^2}{1 - w\, r^\top \Sigma^{-1} r}`. The scatter
    between classes, and the middle of the task in the distances to its *other* classes, stay as they are: a
    single sample hardly moves them.

    Args:
        parts: the log densities with everything in.
        z: whitened examples [n, D].
        own: distances to an example's own class and task without it.
        weight: w, the share of one residual in the covariance.
        labels: the class of each example [n].
    """
    residuals = own.residuals
    # 1e-6: where a direction is seen in one sample alone, leaving it out leaves an infinite distance
    gain = weight / (1 - weight * residuals.square().sum(1)).clamp(min=1e-6)
    from_middle = (residuals * z).sum(1)
    along = from_middle[:, None] - residuals @ parts.centres.T
    densities = parts.exact(z) - gain[:, None] * along.square() / 2
    around = -(z.square().sum(1) + gain * from_middle.square()) / 2
    return densities.scatter(1, labels[:, None], own.densities(residuals, gain)[:, None]), around
