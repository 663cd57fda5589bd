"""How the lightweight learner learns a task."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stolon.records import Json
from stolon.settings import above, one_of, whole, within


@dataclass(frozen=True)
class LightweightConfig:
    """How each task is learned.

    Attributes:
        epochs: of the head, at most; its training stops after ``patience`` epochs without a better loss.
        patience: see ``epochs``; >= 0.
        batch_size: images per step, of head and biases.
        learning_rate: of Adam, for the head.
        biases: which layers get beneficial biases: ``"none"``, ``"all"`` or ``"pointwise"``.
        bias_epochs: passes over the images through the whole backbone; the rate falls to nothing over them.
        bias_learning_rate: of Adam, for the biases.
        shift: while biases are trained, images are moved at random by up to this share of their size,
            0 to 0.5; 0 moves none, as published.
        anchor: how tasks are told apart: ``"mahalanobis"``, ``"mahalanobis-images"`` (the examples of each class
            are pictures, as in the paper; by default their features, so that no picture leaves the agent) or
            ``"gmm"``.
        anchor_settings: what differs from the defaults of the anchor's own configuration.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 100
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    biases: Literal["none", "all", "pointwise"] = "none"
    bias_epochs: int = 30
    bias_learning_rate: float = 3e-3
    shift: float = 0.125
    anchor: Literal["mahalanobis", "mahalanobis-images", "gmm"] = "mahalanobis"
    anchor_settings: Mapping[str, Json] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("patience", self.patience, 0)
        whole("batch_size", self.batch_size, 1)
        above("learning_rate", self.learning_rate, 0)
        one_of("biases", self.biases, ("none", "all", "pointwise"))
        whole("bias_epochs", self.bias_epochs, 1)
        above("bias_learning_rate", self.bias_learning_rate, 0)
        within("shift", self.shift, 0, 0.5)
        one_of("anchor", self.anchor, ("mahalanobis", "mahalanobis-images", "gmm"))
