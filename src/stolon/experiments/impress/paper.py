"""What the paper on impressions prints: its protocol, and the few numbers that its text has.

The figures are pictures: of what they show only these numbers are known, and no other is told beside ours.

Source:
    "ImpressLearn: Continual Learning via Combined Task Impressions", submission to ICLR 2022: sections 3 and 4,
    appendix A, table 3; papers/methods.md 2.3 for what only its code says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, final


class Printed(NamedTuple):
    """A number of the text, in percent.

    Attributes:
        mean: the number.
        half: what is printed behind its "±"; 0 for nothing.
    """

    mean: float
    half: float = 0.0

    def __str__(self) -> str:
        return f"{self.mean:g} ± {self.half:g}" if self.half else f"{self.mean:g}"


@final
@dataclass(frozen=True)
class Protocol:
    """How the paper ran a data set.

    Attributes:
        data: its name.
        net: as the paper calls it.
        largest: of the homogeneous bases, |M_hom|.
        new: tasks that are learned as coefficients.
        learning_rate: of the coefficients, like the next three.
        penalty: lambda of Eq. 2.
        optimizer: its name.
        batch_size: samples per step.
        wrong: accuracy under the mask of another task.
    """

    data: str
    net: str
    largest: int
    new: int
    learning_rate: float
    penalty: float
    optimizer: str
    batch_size: int
    wrong: Printed


NETS: Final[Mapping[str, str]] = MappingProxyType(
    {"LeNet 300-100": "lenet-300-100", "ResNet-18": "gem-resnet18", "ResNet-50": "resnet50"}
)
"""Ours, by the paper's names; its ResNet-18 is told to have 6.2 million weights, this one has 1.1 (methods.md 2.3)."""

ROTATED: Final = Protocol(
    "Rotated MNIST", "LeNet 300-100", 250, 10, 0.002, 0.0, "RMSprop", 128, Printed(10, 3)
)
PERMUTED: Final = Protocol(
    "Permuted MNIST", "LeNet 300-100", 250, 10, 0.002, 0.0, "RMSprop", 128, Printed(10, 3)
)
CIFAR: Final = Protocol("Split CIFAR-100", "ResNet-18", 75, 5, 0.02, 0.005, "Adam", 64, Printed(20, 2))
IMAGENET: Final = Protocol("SplitImageNet", "ResNet-50", 75, 5, 0.0025, 0.005, "Adam", 96, Printed(10, 3))

DENSITIES: Final = (0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3)
BACKBONES: Final = 3
SEEDS: Final = 3
"""For each backbone."""

BASIS_GN: Final = 25
"""Tasks of the basis, at most, that basis-GN is averaged over."""

ORDERS: Final = 10
"""Of the data, that GN is averaged over (figure 6)."""

BATCH: Final = 128
"""Inputs of one task that GN sees at once."""

INFERRED: Final = 250
"""Learned tasks of Permuted MNIST that GN chose from."""

FOUND: Final[Mapping[int, Printed]] = MappingProxyType({3: Printed(94.6), 5: Printed(98.1)})
"""How often it found the right one, by epochs (section 4.2)."""
