"""Which anchor a learner uses: how it is fitted, read back, and merged into a task mapper."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Final, final

import torch
from torch import Tensor

from stolon.errors import DataError, SettingError
from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    ImageAnchor,
    MahalanobisAnchor,
    MahalanobisConfig,
    fit_gaussian,
    fit_mahalanobis,
    fit_mahalanobis_images,
    from_images,
)
from stolon.light.mappers import GaussianMapper, MahalanobisMapper, TaskMapper, TwoLevelMapper
from stolon.records import Json

Anchor = GaussianAnchor | MahalanobisAnchor | ImageAnchor

KINDS = ("mahalanobis", "mahalanobis-images", "gmm")

MANY: Final = 2000
"""Gaussian anchors that one flat mapper is made of at most: of 3,500 it takes 50 ms (docs/methods/sharing-costs.md)."""
SCORES: Final = 2**26
"""Most scores (samples x tasks) by which a mapper of more than that shows how it sees its tasks; at least one for each
task: all 16 probes of compact modules at 2,000 tasks, 5 at 3,500."""


@final
class Anchoring:
    """One kind of anchor with its settings.

    Args:
        kind: ``"mahalanobis"``, ``"mahalanobis-images"`` (examples are pictures, as in the paper) or ``"gmm"``.
        settings: what differs from the defaults of that anchor's configuration.

    Raises:
        SettingError: the kind or a setting is unknown, or a value is out of its range.
    """

    def __init__(self, kind: str, settings: Mapping[str, Json]) -> None:
        if kind not in KINDS:
            raise SettingError(f"anchor: expected one of {', '.join(KINDS)}, found {kind!r}")
        known = [field.name for field in fields(GaussianConfig if kind == "gmm" else MahalanobisConfig)]
        for key in settings:
            if key not in known:
                raise SettingError(
                    f"unknown setting {key!r} of {kind} anchors; known are: {', '.join(known)}"
                )
        self._kind = kind
        self._mahalanobis = MahalanobisConfig(**({} if kind == "gmm" else settings))
        self._gaussian = GaussianConfig(**(settings if kind == "gmm" else {}))

    @property
    def fitted_with(self) -> dict[str, Json]:
        """What anchors that are read together must have been fitted with."""
        if self._kind == "gmm":
            return {
                "anchor": self._kind,
                "transform": self._gaussian.transform,
                "covariance": self._gaussian.covariance,
            }
        return {"anchor": self._kind, "transform": self._mahalanobis.transform}

    def admit(self, x: Tensor) -> None:
        """Refuse a task, before it is learned, whose inputs [B, ...] this kind of anchor cannot hold.

        Raises:
            DataError: pictures are to be kept, and these are none.
        """
        if self._kind == "mahalanobis-images" and (x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3):
            raise DataError(
                f"expected images uint8 [B, 3, S, S] to keep as examples, found {x.dtype} {list(x.shape)}"
            )

    def fit(
        self,
        features: Tensor,
        labels: Tensor,
        held_out: Tensor,
        seed: int,
        images: Callable[[Tensor], Tensor],
    ) -> Anchor:
        """The anchor of a task.

        Args:
            features: of its training data [N, D].
            labels: of its training data [N].
            held_out: features of data that were not trained on [H, D]; may be none.
            seed: chooses examples.
            images: gives the training images at int64 indices; called for ``"mahalanobis-images"`` alone.

        Raises:
            DataError: the images are not uint8 [M, 3, S, S] where such are needed.
        """
        if self._kind == "gmm":
            return fit_gaussian(features, self._gaussian, seed)
        if self._kind == "mahalanobis-images":
            return fit_mahalanobis_images(features, labels, images, self._mahalanobis, seed)
        return fit_mahalanobis(features, labels, self._mahalanobis, seed, held_out if len(held_out) else None)

    def load(self, tensors: Mapping[str, Tensor]) -> Anchor:
        """The anchor that these tensors are.

        Raises:
            DataError: they are none of this kind.
        """
        if self._kind == "gmm":
            return GaussianAnchor.from_tensors(tensors)
        if self._kind == "mahalanobis-images":
            return ImageAnchor.from_tensors(tensors)
        return MahalanobisAnchor.from_tensors(tensors)

    def mapper(self, anchors: Mapping[str, Anchor], features: Callable[[Tensor], Tensor]) -> TaskMapper:
        """The merge of all anchors by task: the same in whatever order they came.

        Args:
            anchors: by task.
            features: the receiver's own features of images, for anchors that bring images.
        """
        if self._kind == "gmm":
            some = {task: anchor for task, anchor in anchors.items() if isinstance(anchor, GaussianAnchor)}
            if len(some) <= MANY or self._gaussian.covariance != "pooled":
                return GaussianMapper(some, self._gaussian)
            return TwoLevelMapper(some, self._gaussian, samples=max(len(some), SCORES // len(some)))
        seen = {
            task: self.read(anchor, features)
            for task, anchor in anchors.items()
            if not isinstance(anchor, GaussianAnchor)
        }
        return MahalanobisMapper(
            {task: anchor for task, anchor in seen.items() if isinstance(anchor, MahalanobisAnchor)},
            self._mahalanobis,
        )

    def read(self, anchor: Anchor, features: Callable[[Tensor], Tensor]) -> Anchor:
        """An anchor with the receiver's own features in place of images, where it brings images.

        Args:
            anchor: of this kind.
            features: the receiver's own features of images.

        Raises:
            DataError: the features are not of the size of the anchor's means.
        """
        return from_images(anchor, features, self._mahalanobis) if isinstance(anchor, ImageAnchor) else anchor

    def check(self, anchor: Anchor) -> Anchor:
        """Itself, if it is of this kind and every value is possible: what somebody else sent.

        Raises:
            DataError: says what is not what it should be.
        """
        if isinstance(anchor, GaussianAnchor) != (self._kind == "gmm"):
            raise DataError(f"expected an anchor for {self._kind}, found a {type(anchor).__name__}")
        if isinstance(anchor, ImageAnchor):
            return anchor.check()
        config = self._gaussian if self._kind == "gmm" else self._mahalanobis
        return anchor.check(unit=config.transform != "none")
