r"""How alike two networks represent the same inputs, layer by layer.

Representational similarity analysis (Kriegeskorte, Mur and Bandettini, Frontiers in Systems Neuroscience 2008): a
layer is described by how it tells inputs apart, its representational dissimilarity matrix (RDM), with one number per
pair of inputs; two layers are alike where their RDMs rank the pairs alike,

.. math::
    D_{ij} = 1 - \mathrm{Pearson}(x_i, x_j), \qquad
    \mathrm{dissimilarity} = 1 - \mathrm{Spearman}(D^a_{i<j}, D^b_{i<j}).

Layers of different widths can be compared, and neither the order of a layer's features nor a positive factor matters.
A network is asked once, for its *signatures*: one small tensor per unit, whatever the width of the layer; comparing
signatures asks no network any more.

What the textbook leaves open: an input whose activations are all equal (a unit that is dead for it) has no Pearson
correlation; it counts as 0 here, with every other input. An RDM without variance ranks nothing, and is counted as
altogether unlike (dissimilarity 1), even itself. Pairs whose correlations differ by less than 1e-10 are counted as
ties, so that rounding ranks nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from stolon.errors import DataError, TaskError, UnknownNameError
from stolon.growth.products import Activations, products

DECIMALS: Final = 10
"""Of correlations, before they are ranked."""
LEAST: Final = 4
"""Inputs that every measure needs."""


class Measure(NamedTuple):
    """A way to compare representations.

    Attributes:
        centred: each input's activations are taken less their mean.
        signature: makes of products [N, N] (:func:`stolon.growth.products.products`) a unit's signature, a vector of
            length 1, or of zeros where the unit tells nothing apart.

    Two units' similarity is their signatures' inner product, at most 1; their dissimilarity 1 less it.
    """

    centred: bool
    signature: Callable[[Tensor], Tensor]


def signatures(
    activations: Activations, x: Tensor, measure: str = "rsa", *, memory: int = 512 * 2**20
) -> list[Tensor]:
    """What each unit of a network makes of inputs.

    Args:
        activations: gives the activations [B, F] of inputs [B, ...] at each unit.
        x: inputs [N, ...], at least :data:`LEAST`; as many and the same for all networks that are compared.
        measure: one of :data:`MEASURES`.
        memory: bytes that activations may take at once; see :func:`stolon.growth.products.products`.

    Returns:
        For each unit a float64 vector, [N (N - 1) / 2] or, for linear CKA, [N N].

    Raises:
        UnknownNameError: no such measure.
        DataError: there are too few inputs.
        TaskError: activations are not finite: a training has blown up.
    """
    way = find(measure)
    if len(x) < LEAST:
        raise DataError(f"expected at least {LEAST} inputs to compare representations on, found {len(x)}")
    found = products(activations, x, centred=way.centred, memory=memory)
    if not all(bool(total.isfinite().all()) for total in found):
        raise TaskError(
            "expected finite activations to compare, found NaN or infinity; lower the learning rate or scale the data"
        )
    return [way.signature(total) for total in found]


def dissimilarities(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[float]:
    """Of each unit, from the signatures of two networks by one measure: 0 is alike."""
    return [1 - float(a @ b) for a, b in zip(ours, theirs, strict=True)]


def find(measure: str) -> Measure:
    """The measure of that name.

    Raises:
        UnknownNameError: no such measure.
    """
    if not isinstance(measure, str) or measure not in MEASURES:
        raise UnknownNameError("similarity", measure, tuple(MEASURES))
    return MEASURES[measure]


# From products to signatures


def _condensed(total: Tensor) -> Tensor:
    """1 - correlation (or cosine, of rows that are not centred) of all pairs i < j."""
    products = total.numpy()  # as in stolon.growth.products: no threads of torch in between
    length = np.sqrt(products.diagonal())
    length[length == 0] = np.inf  # of an input without variance: correlation 0
    pairs = np.triu_indices(len(products), 1)
    correlations = (products / length / length[:, None])[pairs]
    return torch.from_numpy(1 - correlations.round(DECIMALS))


def _ranked(total: Tensor) -> Tensor:
    """Ranks of the condensed RDM, ties sharing their mean, centred and of length 1: for Spearman's rho."""
    return _standardised(torch.from_numpy(rankdata(_condensed(total).numpy())))


def _plain(total: Tensor) -> Tensor:
    """The condensed RDM itself, centred and of length 1: for Pearson's r."""
    return _standardised(_condensed(total))


def _standardised(values: Tensor) -> Tensor:
    if bool((values == values[0]).all()):  # the mean of equal numbers can miss them
        return torch.zeros_like(values)
    centred = values - values.mean()
    unit: Tensor = centred / centred.norm()
    return unit


def _linear_kernel(total: Tensor) -> Tensor:
    """HKH: the products of activations that are centred over the inputs."""
    return total - total.mean(0) - total.mean(1, keepdim=True) + total.mean()


def _cka(total: Tensor) -> Tensor:
    kernel = _linear_kernel(total)
    return _unit(kernel, total).flatten()


def _cka_debiased(total: Tensor) -> Tensor:
    """The U-centred matrix, whose inner products are unbiased estimates of HSIC (up to one factor for all)."""
    n = len(total)
    off = total - torch.diag(total.diagonal())
    rows = off.sum(0)
    centred = off - (rows[:, None] + rows[None, :]) / (n - 2) + off.sum() / ((n - 1) * (n - 2))
    centred.fill_diagonal_(0)
    return _unit(centred, total).flatten()


def _unit(kernel: Tensor, total: Tensor) -> Tensor:
    """Of length 1; zeros where only rounding is left of the products that it was made of."""
    length = kernel.norm()
    if length <= 1e-12 * total.norm():
        return torch.zeros_like(kernel)
    unit: Tensor = kernel / length
    return unit


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "rsa": Measure(centred=True, signature=_ranked),
        "rsa-pearson": Measure(centred=True, signature=_plain),
        "rsa-cosine": Measure(centred=False, signature=_ranked),
        "cka": Measure(centred=False, signature=_cka_debiased),
        "cka-plain": Measure(centred=False, signature=_cka),
    }
)
"""By name.

- ``"rsa"``: Pearson RDMs compared by Spearman: the paper's.
- ``"rsa-pearson"``: Pearson RDMs compared by Pearson.
- ``"rsa-cosine"``: RDMs of 1 - cosine compared by Spearman.
- ``"cka"``: linear centred kernel alignment (Kornblith et al., ICML 2019), debiased (Song et al., JMLR 2012); it can be
  negative, and so its dissimilarity above 1.
- ``"cka-plain"``: the same, plain: it tends to 1 where features outnumber inputs by far, as they do in convolutions.
"""
