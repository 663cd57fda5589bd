"""Task anchors: what an agent tells others about its task's inputs, so that they can recognise them.

An anchor is a value of tensors alone. It is fitted by the agent that learned the task and read by every
agent that receives it; see :mod:`stolon.light.mappers` for how anchors name the task of an input.
"""

from stolon.light.anchors.gaussian import GaussianAnchor, GaussianConfig, fit_gaussian
from stolon.light.anchors.mahalanobis import (
    ImageAnchor,
    MahalanobisAnchor,
    MahalanobisConfig,
    fit_mahalanobis,
    fit_mahalanobis_images,
    from_images,
)
from stolon.light.anchors.values import size

__all__ = [
    "GaussianAnchor",
    "GaussianConfig",
    "ImageAnchor",
    "MahalanobisAnchor",
    "MahalanobisConfig",
    "fit_gaussian",
    "fit_mahalanobis",
    "fit_mahalanobis_images",
    "from_images",
    "size",
]
