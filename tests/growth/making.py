"""Small nets and joint networks for the tests of growth."""

from torch import nn

from stolon.growth.joint import JointNetwork
from stolon.growth.structure import Structure, parameters_of, statistics_of
from stolon.randomness import seeded

SHAPE = (1, 8, 8)


def conv(*, normed=False, seed=0):
    """Two convolutions, two fully connected layers."""
    norms = [[nn.BatchNorm2d(width)] if normed else [] for width in (8, 16)]
    with seeded(seed, "conv"):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), *norms[0], nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 2), *norms[1], nn.ReLU(inplace=True), nn.AvgPool2d(1),
            nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(),
        )  # fmt: skip


def joint(net="mlp-8-6-4", parts=1, head="own", shape=SHAPE, first="a", classes=3):
    """A joint network with one task."""
    structure = Structure(net, shape, parts)
    made = JointNetwork(structure, head)
    begin(made, first, classes)
    return made


def begin(made, task, classes=3, seed=0):
    """Add a task that shares nothing."""
    structure = made.structure
    staged = structure.fresh(seed, task)
    units = structure.divide(parameters_of(staged))
    made.found(task, units, statistics_of(staged), structure.head(classes, seed, task))
