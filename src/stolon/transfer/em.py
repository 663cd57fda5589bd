r"""What LASEM believes about a task's configurations: likelihood, prior, posterior (Eq. 1 and 2).

E-step: :math:`P(c \mid X, y) \propto \pi_t(c) \, P(y \mid X, c)`. The likelihood of a mini-batch of B samples with
:math:`p_b(c)` the probability that configuration c gives the b-th label:

======================  ============================  ========================================================
``"joint"``             :math:`\prod_b p_b`           Eq. 2 taken literally; sharp: differences grow with B
``"geometric-mean"``    :math:`(\prod_b p_b)^{1/B}`   the same per sample: does not depend on the batch size
``"mean-probability"``  :math:`\frac1B \sum_b p_b`    what the released code computes; broad and slow to move
======================  ============================  ========================================================
"""

import math
from collections.abc import Mapping
from typing import Final, Literal, final

import torch
from torch import Tensor

Likelihood = Literal["joint", "geometric-mean", "mean-probability"]
LIKELIHOODS: Final = ("joint", "geometric-mean", "mean-probability")
Prior = Literal["counts", "running-mean", "history", "related"]
PRIORS: Final = ("counts", "running-mean", "history", "related")

_LEAST: Final = 1e-30
"""Prior probabilities are not smaller: a configuration can always come back."""


def batch_log_likelihood(samples: Tensor, kind: Likelihood) -> Tensor:
    """Log-likelihood of a mini-batch under each configuration, float64 [K].

    Args:
        samples: log-likelihood of each sample, [K, B].
        kind: how they are taken together.

    Example:
        >>> samples = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
        >>> [batch_log_likelihood(samples, kind).exp().numpy().round(3).tolist() for kind in LIKELIHOODS]
        [[0.25, 0.09], [0.5, 0.3], [0.5, 0.5]]
    """
    samples = samples.double()
    match kind:
        case "joint":
            return samples.sum(1)
        case "geometric-mean":
            return samples.mean(1)
        case "mean-probability":
            return samples.logsumexp(1) - math.log(samples.shape[1])


@final
class Belief:
    r"""Prior and posterior over a task's K configurations, from its mini-batches so far.

    The prior is :math:`\pi_t(c) = (n_c + 1) / \sum_{c'} (n_{c'} + 1)` with :math:`n_c` the number of mini-batches in
    which c was the most probable (Eq. 1), plus what ``before`` adds; or with ``running_mean`` the mean of the
    posteriors so far (uniform at first), as the released code has it by default. A ``fixed`` posterior learns nothing:
    the ablation of section 4.3.

    The *choice* is the configuration that was the most probable most often in this task (running mean: of the largest
    mean posterior); of equals the first.

    Args:
        count: of configurations, K.
        running_mean: as above.
        before: counts [K] from elsewhere: earlier tasks', weighted or not.
        fixed: a posterior [K] that stays.
    """

    def __init__(
        self,
        count: int,
        *,
        running_mean: bool = False,
        before: Tensor | None = None,
        fixed: Tensor | None = None,
    ) -> None:
        self._running_mean = running_mean
        self._before = torch.zeros(count, dtype=torch.float64) if before is None else before.double()
        self.is_fixed = fixed is not None
        self._wins = torch.zeros(count, dtype=torch.float64)
        self._total = torch.zeros(count, dtype=torch.float64)
        self._batches = 0
        uniform = torch.full((count,), 1 / count, dtype=torch.float64)
        self.posterior: Tensor = uniform if fixed is None else fixed.double()
        """Of the last mini-batch that was looked at, float64 [K]; sums to 1."""

    @property
    def prior(self) -> Tensor:
        """What is expected before the next mini-batch, float64 [K]; sums to 1."""
        if self.is_fixed:
            return self.posterior
        if not self._running_mean:
            counts = self._before + self._wins + 1
            return counts / counts.sum()
        if not self._batches:
            return torch.full_like(self._total, 1 / len(self._total))
        return self._total / self._batches

    @property
    def choice(self) -> int:
        """The position of the configuration that the task would have now."""
        if self.is_fixed:
            return int(self.posterior.argmax())
        return int((self._total if self._running_mean else self._wins).argmax())

    @property
    def wins(self) -> Tensor:
        """In how many mini-batches of this task each configuration was the most probable, float64 [K]."""
        return self._wins

    def see(self, log_likelihood: Tensor, counts: int = 1) -> Tensor:
        """E-step on one mini-batch: the posterior [K], after which the prior is updated.

        Args:
            log_likelihood: of the mini-batch under each configuration, [K]; NaN, of outputs that have blown up, is
                taken as impossible. Where all are impossible nothing is believed anew.
            counts: how many mini-batches this one stands for in the prior; 0 leaves the prior as it is.
        """
        log_likelihood = log_likelihood.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        if self.is_fixed or bool((log_likelihood == -torch.inf).all()):
            return self.posterior
        log_prior = self.prior.clamp_min(_LEAST).log()
        self.posterior = (log_prior + log_likelihood.double()).softmax(0)
        self._wins[int(self.posterior.argmax())] += counts
        self._total += counts * self.posterior
        self._batches += counts
        return self.posterior

    def mean_since(self, earlier: Mapping[str, Tensor]) -> Tensor:
        """Mean posterior over the mini-batches since a state; the last posterior where there were none."""
        batches = self._batches - int(earlier["batches"])
        return (self._total - earlier["total"]) / batches if batches else self.posterior

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors."""
        return {
            "wins": self._wins.clone(),
            "total": self._total.clone(),
            "batches": torch.tensor(self._batches),
            "posterior": self.posterior.clone(),
            "before": self._before,
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._wins, self._total = state["wins"].clone(), state["total"].clone()
        self._batches = int(state["batches"])
        self.posterior, self._before = state["posterior"].clone(), state["before"].clone()
