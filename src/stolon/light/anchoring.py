"""Which anchor a learner uses: how it is fitted, read back, and merged into a task mapper."""

from collections.abc import Mapping
from dataclasses import fields
from typing import final

from torch import Tensor

from stolon.errors import SettingError
from stolon.light.anchors import (
    GaussianAnchor,
    GaussianConfig,
    MahalanobisAnchor,
    MahalanobisConfig,
    fit_gaussian,
    fit_mahalanobis,
)
from stolon.light.mappers import GaussianMapper, MahalanobisMapper, TaskMapper
from stolon.records import Json

Anchor = GaussianAnchor | MahalanobisAnchor

KINDS = ("mahalanobis", "gmm")


@final
class Anchoring:
    """One kind of anchor with its settings.

    Args:
        kind: ``"mahalanobis"`` or ``"gmm"``.
        settings: what differs from the defaults of that anchor's configuration.

    Raises:
        SettingError: the kind or a setting is unknown, or a value is out of its range.
    """

    def __init__(self, kind: str, settings: Mapping[str, Json]) -> None:
        if kind not in KINDS:
            raise SettingError(f"anchor: expected one of {', '.join(KINDS)}, found {kind!r}")
        known = [
            field.name for field in fields(MahalanobisConfig if kind == "mahalanobis" else GaussianConfig)
        ]
        for key in settings:
            if key not in known:
                raise SettingError(
                    f"unknown setting {key!r} of {kind} anchors; known are: {', '.join(known)}"
                )
        self._mahalanobis = MahalanobisConfig(**settings) if kind == "mahalanobis" else None
        self._gaussian = GaussianConfig(**settings) if kind == "gmm" else None

    def fit(self, features: Tensor, labels: Tensor, held_out: Tensor, seed: int) -> Anchor:
        """The anchor of a task, from features of its training data [N, D] and of held-out data [H, D]."""
        if self._mahalanobis is not None:
            return fit_mahalanobis(
                features, labels, self._mahalanobis, seed, held_out if len(held_out) else None
            )
        return fit_gaussian(features, self._gaussian, seed)

    def load(self, tensors: Mapping[str, Tensor]) -> Anchor:
        """The anchor that these tensors are.

        Raises:
            DataError: they are none of this kind.
        """
        return (GaussianAnchor if self._mahalanobis is None else MahalanobisAnchor).from_tensors(tensors)

    def mapper(self, anchors: Mapping[str, Anchor]) -> TaskMapper:
        """The merge of all anchors by task: the same in whatever order they came."""
        if self._mahalanobis is not None:
            return MahalanobisMapper(
                {task: anchor for task, anchor in anchors.items() if isinstance(anchor, MahalanobisAnchor)},
                self._mahalanobis,
            )
        return GaussianMapper(
            {task: anchor for task, anchor in anchors.items() if isinstance(anchor, GaussianAnchor)},
            self._gaussian,
        )
