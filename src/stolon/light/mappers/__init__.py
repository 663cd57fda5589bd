"""Task mappers: which task is an input from? Told from anchors, the same in whatever order they came."""

from stolon.light.mappers.base import Mapped, Nearness, Samples, TaskMapper
from stolon.light.mappers.gaussian import GaussianMapper
from stolon.light.mappers.mahalanobis import MahalanobisMapper
from stolon.light.mappers.two_level import TwoLevelMapper

__all__ = [
    "GaussianMapper",
    "MahalanobisMapper",
    "Mapped",
    "Nearness",
    "Samples",
    "TaskMapper",
    "TwoLevelMapper",
]
