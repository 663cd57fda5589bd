"""What the papers on selective layer transfer print: their protocol and their numbers.

Source:
    Lee, Behpour, Eaton, "Sharing Less is More", ICML 2021, tables 1 to 3; its submission to ICLR 2021, appendices A
    and E; Lifelong-ML/LASEM for what neither says (networks, batch sizes, decay of the learning rate). Figures 1, 4
    and 6 are pictures: what the tables do not repeat of them is not known as numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, final


class Printed(NamedTuple):
    """A number of the paper.

    Attributes:
        mean: accuracies in percent.
        half: half-width of its 95 % interval.
        digits: after the point, as printed.
    """

    mean: float
    half: float
    digits: int = 2

    def __str__(self) -> str:
        return f"{self.mean:.{self.digits}f} ± {self.half:.{self.digits}f}"


@final
@dataclass(frozen=True)
class Protocol:
    """How the papers ran a data set.

    Attributes:
        data: its name.
        net: of :func:`stolon.nets.names`.
        layers: of it that can be transferred.
        epochs: for each task.
        learning_rate: at first.
        decay: the learning rate is divided by 1 + decay x epochs so far.
        batch_size: samples per step.
        tasks: how many.
        classes: in each.
        samples: training, validation and test images of a task.
        side: of an image, in pixels.
    """

    data: str
    net: str
    layers: int
    epochs: int
    learning_rate: float
    decay: float
    batch_size: int
    tasks: int
    classes: int
    samples: tuple[int, int, int] | None
    side: int


CIFAR: Final = Protocol("CIFAR-100", "cifar-conv4", 4, 2000, 1e-4, 1 / 4000, 10, 10, 10, (170, 30, 1000), 32)
OFFICE: Final = Protocol("Office-Home", "office-conv4", 4, 1000, 2e-5, 1e-4, 16, 10, 13, None, 128)
STL: Final = Protocol("STL-10", "stl-conv6", 6, 500, 1e-4, 0.0, 10, 20, 3, (318, 57, 2400), 96)
STL_DEEP: Final = Protocol("STL-10", "stl-conv9", 9, 500, 1e-4, 0.0, 10, 15, 5, (125, 125, 4000), 96)

SEEDS: Final = 5
"""Runs of every experiment."""


class Compared(NamedTuple):
    """A line of table 3; times are relative to LASEM's."""

    lasem: Printed
    brute_force: Printed
    brute_force_time: float
    all_layers: Printed
    all_time: float


TABLE3: Final[Mapping[tuple[str, str], Compared]] = MappingProxyType(
    {
        ("CIFAR-100", "hard"): Compared(
            Printed(39.3, 0.1, 1), Printed(40.4, 0.3, 1), 6.55, Printed(24.7, 0.6, 1), 0.78
        ),
        ("CIFAR-100", "tensor-factorization"): Compared(
            Printed(38.4, 0.5, 1), Printed(39.9, 1.1, 1), 8.81, Printed(36.3, 1.0, 1), 0.64
        ),
        ("CIFAR-100", "deconvolution"): Compared(
            Printed(42.0, 0.6, 1), Printed(42.6, 0.7, 1), 9.45, Printed(36.3, 1.3, 1), 0.59
        ),
        ("Office-Home", "hard"): Compared(
            Printed(58.4, 0.9, 1), Printed(59.4, 0.2, 1), 4.72, Printed(54.9, 0.7, 1), 0.72
        ),
        ("Office-Home", "tensor-factorization"): Compared(
            Printed(59.1, 1.0, 1), Printed(58.7, 0.3, 1), 5.22, Printed(56.2, 0.7, 1), 0.66
        ),
        ("Office-Home", "deconvolution"): Compared(
            Printed(59.5, 1.1, 1), Printed(58.8, 0.3, 1), 4.04, Printed(49.1, 0.6, 1), 0.61
        ),
    }
)
"""By data set and mechanism."""


class Line(NamedTuple):
    """A line of table 1 or 2: accuracy in percent, forgetting ratio, thousands of seconds."""

    accuracy: Printed
    forgetting: Printed | None
    kiloseconds: float


TABLE1: Final[Mapping[str, Line]] = MappingProxyType(
    {
        "DEN": Line(Printed(48.00, 0.60), Printed(0.28, 0.01), 55.9),
        "APD-Net": Line(Printed(59.58, 0.45), Printed(0.83, 0.03), 21.5),
        "ProgNN": Line(Printed(60.03, 0.45), Printed(1.00, 0.00), 96.7),
        "DARTS HPS": Line(Printed(45.64, 1.20), Printed(0.70, 0.07), 43.8),
        "DARTS DF-CNN": Line(Printed(56.77, 0.49), Printed(0.35, 0.04), 33.2),
        "LASEM HPS": Line(Printed(58.44, 0.90), Printed(0.81, 0.08), 70.2),
        "LASEM TF": Line(Printed(59.14, 0.80), Printed(0.90, 0.04), 77.3),
        "LASEM DF-CNN": Line(Printed(59.45, 1.10), Printed(0.98, 0.01), 83.2),
    }
)
"""Office-Home, by method; the lines of table 1 in its order."""

TABLE2: Final[Mapping[tuple[str, str, int, int], Line]] = MappingProxyType(
    {
        ("CIFAR-100", "hard", 10, 0): Line(Printed(38.51, 0.53), Printed(0.54, 0.03), 4.47),
        ("CIFAR-100", "hard", 10, 4): Line(Printed(39.47, 0.30), Printed(0.79, 0.05), 11.1),
        ("CIFAR-100", "hard", 10, 5): Line(Printed(39.07, 1.10), Printed(0.79, 0.08), 14.4),
        ("CIFAR-100", "hard", 10, 6): Line(Printed(40.00, 0.65), Printed(0.75, 0.06), 25.1),
        ("CIFAR-100", "hard", 10, 7): Line(Printed(39.32, 0.33), Printed(0.74, 0.07), 46.9),
        ("CIFAR-100", "hard", 40, 0): Line(Printed(38.01, 0.27), Printed(0.41, 0.02), 63.4),
        ("CIFAR-100", "hard", 40, 4): Line(Printed(39.89, 0.73), Printed(0.62, 0.03), 94.1),
        ("CIFAR-100", "hard", 40, 5): Line(Printed(38.89, 0.11), Printed(0.55, 0.07), 109.2),
        ("CIFAR-100", "hard", 40, 6): Line(Printed(39.17, 0.62), Printed(0.56, 0.09), 154.1),
        ("STL-10", "deconvolution", 15, 0): Line(Printed(45.4, 0.4, 1), None, 75.8),
        ("STL-10", "deconvolution", 15, 3): Line(Printed(46.0, 0.7, 1), None, 70.2),
    }
)
"""By data set, mechanism, number of tasks, and number of groups (0: sharing all layers). STL-10's: the submission's."""
