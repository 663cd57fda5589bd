"""The streams that the tables of selective transfer run on, and how each is learned at a scale.

``full`` is the papers' protocol. ``half`` and ``quick`` train for fewer epochs at a larger learning rate that falls as
far, on fewer tasks; streams of larger images are scaled down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

from stolon.experiments.data_folder import datasets_of
from stolon.experiments.lasem.paper import CIFAR, OFFICE, STL, STL_DEEP, Protocol

SCALES: Final = ("quick", "half", "full")


@final
@dataclass(frozen=True)
class Setting:
    """How a stream is learned at a scale.

    Attributes:
        protocol: network and training.
        tasks: how many are learned.
        options: the stream's.
        paper: the papers' protocol for the data set that this is, or stands for; None for none.
    """

    protocol: Protocol
    tasks: int
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: Protocol | None = None


def scaled(paper: Protocol, epochs: int, learning_rate: float, **changes: Any) -> Protocol:  # noqa: ANN401 - fields
    """Fewer epochs at a larger rate that falls as far as in the paper."""
    decay = paper.decay * paper.epochs / epochs
    return replace(paper, epochs=epochs, learning_rate=learning_rate, decay=decay, **changes)


_SMALL: Final = {"net": "cifar-conv4", "side": 32}
_DIGITS = Protocol("digits", "digits-conv", 3, 100, 1e-3, 0.0, 32, 6, 10, None, 8)

STREAMS: Final[Mapping[str, Mapping[str, Setting]]] = MappingProxyType(
    {
        "cifar100-lasem": {
            "quick": Setting(scaled(CIFAR, 24, 3e-4), 3, {}, CIFAR),
            "half": Setting(scaled(CIFAR, 60, 3e-4), 10, {}, CIFAR),
            "full": Setting(CIFAR, 10, {}, CIFAR),
        },
        "office-home-lasem": {
            "quick": Setting(scaled(OFFICE, 8, 3e-4, **_SMALL), 4, {"size": 32}, OFFICE),
            "half": Setting(scaled(OFFICE, 30, 3e-4, **_SMALL), 10, {"size": 32}, OFFICE),
            "full": Setting(OFFICE, 10, {}, OFFICE),
        },
        "pacs-office-home": {
            "quick": Setting(scaled(OFFICE, 25, 3e-4, **_SMALL), 4, {"size": 32}, OFFICE),
            "half": Setting(scaled(OFFICE, 80, 3e-4, **_SMALL), 4, {"size": 32}, OFFICE),
            "full": Setting(OFFICE, 4, {}, OFFICE),
        },
        "stl10-lasem": {
            "quick": Setting(scaled(STL, 4, 1e-3), 2, {}, STL),
            "half": Setting(scaled(STL, 20, 3e-4), 10, {}, STL),
            "full": Setting(STL, 20, {}, STL),
        },
        "cifar10-stl": {
            "quick": Setting(scaled(STL, 12, 3e-4, side=32), 3, {}, STL),
            "half": Setting(scaled(STL, 20, 3e-4, side=32), 10, {}, STL),
            "full": Setting(replace(STL, side=32), 20, {}, STL),
        },
        "digits-mixed": {
            "quick": Setting(replace(_DIGITS, epochs=10), 6),
            "half": Setting(replace(_DIGITS, epochs=20), 6),
            "full": Setting(_DIGITS, 6),
        },
    }
)
"""The streams that the tables run on: the papers', what stands for them, and digits, which need no data."""


def deep(setting: Setting, scale: str) -> Setting:
    """As table 2 has it: a deeper network; nine convolutions and 15 tasks for STL-10, else the plain ResNet-18."""
    if setting.paper is None:
        return setting
    protocol = setting.protocol
    if setting.paper.data == "STL-10":
        tasks = {"quick": 2, "half": 10}.get(scale, STL_DEEP.tasks)
        protocol = replace(protocol, net="stl-conv9", layers=9, classes=5)
        return Setting(protocol, tasks, {"variant": "15x5"}, STL_DEEP)
    # 300: neither paper nor code tells the epochs; the times of table 2 fit a few hundred (methods.md 1.3)
    epochs = {"quick": 10, "half": 40}.get(scale, 300)
    rate = protocol.learning_rate if scale == "full" else 2e-4
    tasks = {"quick": 2, "half": 4}.get(scale, setting.tasks)
    protocol = scaled(replace(protocol, net="resnet18-plain", layers=9), epochs, rate)
    return replace(setting, protocol=protocol, tasks=tasks)


def options(stream: str, setting: Setting, root: str | None) -> dict[str, Any]:
    """The stream's options: as many tasks as wanted, and as much data of CIFAR-10 as the papers have of STL-10."""
    found = dict(setting.options)
    if stream == "cifar100-lasem":
        found["tasks"] = setting.tasks  # 20 and 40 have lists of their own
    if stream == "cifar10-stl":
        published = (Path(datasets_of(root) or "data") / "cifar-10-batches-bin").is_dir()
        of_a_class = 50 if found.get("variant") == "15x5" else 125
        found["data_share"] = round((of_a_class + 1e-3) / (5000 if published else 150), 6)
    return found
