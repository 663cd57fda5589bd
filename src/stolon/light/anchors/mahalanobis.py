r"""Mahalanobis anchors: a task's class means, and a few examples of each class.

.. math::
    \mu_c = \frac{1}{N_c} \sum_{i: y_i = c} x_i

The receiver makes one covariance for all classes of all tasks out of the examples; no anchor brings one of
its own, so none can capture inputs by claiming a wide one.

Source:
    Ge et al., "Lightweight Learner for Shared Knowledge Lifelong Learning", TMLR 2023, section 5 (Eq. 5),
    after Lee et al., NeurIPS 2018. The paper shares 5 images of each class, which an
    :class:`ImageAnchor` does; by default we share their features, so that no picture leaves the agent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from stolon import randomness, settings
from stolon.errors import DataError, SettingError
from stolon.light.anchors import values
from stolon.light.anchors.gaussian import check_decision


@dataclass(frozen=True)
class MahalanobisConfig:
    """How Mahalanobis anchors are fitted and read; agents that share anchors share this.

    Attributes:
        examples: most examples of each class, at least 1; the paper has 5.
        transform: what is done to features first: ``"none"``, ``"l2"``, ``"sqrt-l2"``.
        shrinkage: how far the covariance is drawn to a multiple of the identity: ``"ledoit-wolf"``
            (estimated), or a share from 0 to 1. At 0 a singular covariance is inverted on its range
            alone, as published.
        spread: weight of the scatter of classes around their task's mean in the covariance; at least 0.
            1 makes it the covariance of inputs around their *task's* mean.
        task_weight: weight of the distance to the task's mean beside that to the class; at least 0.
        probes: most held-out samples carried along for the receiver's threshold, where some are given.
        unknown_quantile: share of known tasks' own inputs that stay within the thresholds, above 0
            and below 1; ``None``: nothing is ever unknown.
        temperature: divides log densities before they become a confidence, above 0; ``None``: fitted to
            what the anchors carry.

    Raises:
        SettingError: a setting is out of its range.
    """

    examples: int = 5
    transform: str = "l2"
    shrinkage: float | str = "ledoit-wolf"
    spread: float = 1.0
    task_weight: float = 1.0
    probes: int = 32
    unknown_quantile: float | None = 0.99
    temperature: float | None = None

    def __post_init__(self) -> None:
        settings.at_least("examples", self.examples, 1)
        settings.one_of("transform", self.transform, values.TRANSFORMS)
        if isinstance(self.shrinkage, str):
            if self.shrinkage != "ledoit-wolf":
                raise SettingError(f"shrinkage: expected 'ledoit-wolf' or 0 to 1, found {self.shrinkage!r}")
        else:
            settings.within("shrinkage", self.shrinkage, 0, 1)
        settings.within("spread", self.spread, 0, 1e6)
        settings.within("task_weight", self.task_weight, 0, 1e6)
        settings.at_least("probes", self.probes, 0)
        check_decision(self.unknown_quantile, self.temperature)

    @classmethod
    def as_published(cls) -> Self:
        """Raw features, no shrinkage, classes alone, no "unknown".

        One difference from Eq. 5 stays: residuals of a class of n examples are scaled by sqrt(n / (n - 1)), and
        classes of one example are left out, which keeps small classes from making the covariance too small.
        """
        return cls(
            transform="none",
            shrinkage=0.0,
            spread=0.0,
            task_weight=0.0,
            probes=0,
            unknown_quantile=None,
            temperature=1.0,
        )


class MahalanobisAnchor(NamedTuple):
    """One task's classes, in the space of ``config.transform``.

    Attributes:
        means: class means [C, D].
        counts: training samples of each class [C], int64, at least 1.
        examples: features of training samples [M, D].
        labels: the row of ``means`` of each example [M], int64.
        probes: features of samples that were not trained on [P, D]; may be none.
    """

    means: Tensor
    counts: Tensor
    examples: Tensor
    labels: Tensor
    probes: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, as safetensors wants them."""
        return self._asdict()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "MahalanobisAnchor":
        """The inverse of :meth:`tensors`; checked.

        Raises:
            DataError: tensors are missing, of other shapes, or not finite.
        """
        return cls(*values.take("Mahalanobis anchor", tensors, cls._fields)).check()

    def check(self, *, unit: bool = False) -> "MahalanobisAnchor":
        """Itself, if every value is possible; ``unit``: rows no longer than 1 are demanded.

        Raises:
            DataError: says which tensor is not what it should be.
        """
        _check_classes(self.means, self.counts)
        d = self.means.shape[1]
        values.check_matrix("examples", self.examples, columns=d)
        values.check_matrix("probes", self.probes, columns=d)
        values.check_index("labels", self.labels, len(self.examples), len(self.means))
        if len(self.examples) < 1:
            raise DataError("examples: expected at least one, found none")
        if unit:
            for name in ("means", "examples", "probes"):
                values.check_unit(name, getattr(self, name))
        return self


class ImageAnchor(NamedTuple):
    """A Mahalanobis anchor whose examples are pictures, as in the paper; see :func:`from_images`.

    Attributes:
        means: class means [C, D], of transformed features.
        counts: training samples of each class [C], int64.
        images: uint8 [M, 3, S, S].
        labels: the row of ``means`` of each image [M], int64.
    """

    means: Tensor
    counts: Tensor
    images: Tensor
    labels: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, as safetensors wants them."""
        return self._asdict()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "ImageAnchor":
        """The inverse of :meth:`tensors`; checked.

        Raises:
            DataError: tensors are missing or of other shapes or types.
        """
        return cls(*values.take("image anchor", tensors, cls._fields)).check()

    def check(self) -> "ImageAnchor":
        """Itself, if every value is possible.

        Raises:
            DataError: says which tensor is not what it should be.
        """
        _check_classes(self.means, self.counts)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or not len(self.images):
            raise DataError(
                f"images: expected uint8 [M, 3, S, S], found {self.images.dtype} {list(self.images.shape)}"
            )
        values.check_index("labels", self.labels, len(self.images), len(self.means))
        return self


def fit_mahalanobis(
    features: Tensor,
    labels: Tensor,
    config: MahalanobisConfig | None = None,
    seed: int = 0,
    held_out: Tensor | None = None,
) -> MahalanobisAnchor:
    """Class means and a few examples of each class.

    Args:
        features: raw features of the frozen backbone [N, D], N at least 1.
        labels: class indices [N]; classes without samples get no mean.
        config: settings; ``None``: the defaults.
        seed: chooses examples and probes.
        held_out: raw features [H, D] of samples not among ``features`` (validation, say): a choice of them is
            carried along to calibrate the threshold. Without them the examples serve, each left out in turn.

    Returns:
        An anchor in float32.

    Raises:
        DataError: shapes do not fit, nothing is there, or numbers are not finite.

    Example:
        >>> anchor = fit_mahalanobis(torch.rand(8, 3), torch.arange(8) % 2)
        >>> anchor.means.shape, anchor.examples.shape
        (torch.Size([2, 3]), torch.Size([8, 3]))
    """
    config = config or MahalanobisConfig()
    x = values.transform(features, config.transform).float().cpu()
    means, counts, classes = _class_means(x, labels)
    chosen = _choose(classes, config.examples, seed)
    probes = x[:0]
    if held_out is not None:
        probes = values.transform(held_out, config.transform).float().cpu()
        probes = probes[randomness.permutation(len(probes), seed, "anchor", "probes")[: config.probes]]
    return MahalanobisAnchor(means, counts, x[chosen], classes[chosen], probes).check()


def fit_mahalanobis_images(
    features: Tensor,
    labels: Tensor,
    images: Callable[[Tensor], Tensor],
    config: MahalanobisConfig | None = None,
    seed: int = 0,
) -> ImageAnchor:
    """As :func:`fit_mahalanobis`, with the same examples as pictures: the paper's form.

    Args:
        features: raw features of the frozen backbone [N, D], N at least 1.
        labels: class indices [N].
        images: gives the uint8 images [M, 3, S, S] at int64 indices [M], such as
            ``lambda i: split.batch(i)[0]``.
        config: settings; ``None``: the defaults.
        seed: chooses the examples.

    Raises:
        DataError: shapes or types do not fit, or numbers are not finite.
    """
    config = config or MahalanobisConfig()
    x = values.transform(features, config.transform).float().cpu()
    means, counts, classes = _class_means(x, labels)
    chosen = _choose(classes, config.examples, seed)
    return ImageAnchor(means, counts, images(chosen), classes[chosen]).check()


def from_images(
    anchor: ImageAnchor, features: Callable[[Tensor], Tensor], config: MahalanobisConfig | None = None
) -> MahalanobisAnchor:
    """The receiver's step for an image anchor: its own backbone's features of the pictures.

    Args:
        anchor: what was received.
        features: raw features [M, D] of uint8 images [M, 3, S, S].
        config: the settings that it was made with.

    Raises:
        DataError: the anchor is not what it should be, or the features are of another size.
    """
    config = config or MahalanobisConfig()
    anchor.check()
    x = values.transform(features(anchor.images), config.transform).float()
    values.check_matrix("features of the images", x, len(anchor.images), anchor.means.shape[1])
    return MahalanobisAnchor(anchor.means, anchor.counts, x, anchor.labels, x[:0]).check()


def _check_classes(means: Tensor, counts: Tensor) -> None:
    values.check_matrix("means", means)
    if len(means) < 1:
        raise DataError("means: expected at least one class, found none")
    if counts.dtype != torch.int64 or list(counts.shape) != [len(means)] or int(counts.min()) < 1:
        raise DataError(f"counts: expected int64 [{len(means)}] of at least 1, found {counts.dtype} {counts}")


def _class_means(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means [C, D], counts [C] and the row of each sample [N]."""
    if len(x) < 1 or list(labels.shape) != [len(x)] or labels.is_floating_point():
        raise DataError(
            f"expected integer labels for 1 or more rows of features, found {labels.dtype} "
            f"{list(labels.shape)} for {len(x)}"
        )
    _, classes, counts = labels.cpu().unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), x.shape[1], dtype=torch.float64).index_add_(0, classes, x.double())
    return (sums / counts[:, None]).float(), counts, classes


def _choose(classes: Tensor, most: int, seed: int) -> Tensor:
    """Indices of up to ``most`` random samples of each class, class by class."""
    order = randomness.permutation(len(classes), seed, "anchor", "examples")
    order = order[classes[order].argsort(stable=True)]
    counts = classes.bincount()
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[classes[order]]
    return order[rank < most]
