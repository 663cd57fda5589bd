"""How streams are learned at each scale, for the experiments on growth.

``full`` is the paper's protocol, its released code's where the paper has none (papers/methods.md 4.1 and 4.4). ``half``
has fewer random draws and coefficients, of MNIST fewer images, and of CIFAR-100 a fifth of the images in five times the
epochs: as many steps; RCL has 10 children of 5 epochs in place of 50 of 15, and the Decathlon's stand-ins 100 images
of a class. ``quick`` also has fewer tasks, steps and runs; of the Decathlon all tasks, smaller images (32 x 32) and
twenty epochs at a larger rate (0.03). Digits are always small.

What differs from the paper at every scale:

- A tenth of the training data is validation data, which conflicts are measured on; the code has none.
- MNIST's images are 28 x 28 as they are; the code pads them to 32 x 32 with nothing.
- RCL begins with the stream's net, as all others do; its authors' has two layers, of 312 and 128 units.
- ``growth-pareto`` sweeps a grid of coefficients, one for all tasks, and searches a coefficient for each task by
  NSGA-II in as many trials as there are draws of random growth; the paper searches one for all tasks in 20 trials.
- PGN and DEN, which the paper compares with, are not among the methods.
- What the Decathlon's stand-ins are, :func:`stolon.streams.decathlon.stand_ins` says; the paper has no results on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, final

SCALES: Final = ("quick", "half", "full")
DELTAS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The paper sweeps 0.1 to 0.9; 0 and 1 are its ends: everything shared, nothing shared."""
DRAWS: Final = 20
_SOME: Final = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@final
@dataclass(frozen=True)
class Setting:
    """How a stream is learned at a scale.

    Attributes:
        net: a name of :func:`stolon.nets.names`.
        tasks: how many are learned, one after the other.
        pool: how many the stream has; 0 for as many as are wanted.
        options: the stream's.
        head: ``"own"``, or ``"shared"``: one for all tasks, where nets are bound and grown.
        epochs: of every training, but for RCL's.
        batch_size: samples per step.
        learning_rate: of SGD with momentum 0.9.
        samples: that conflicts are measured on, at most.
        deltas: grow coefficients of the sweep.
        draws: random growths for each seed, and trials of the search beside them.
        seeds: runs.
        rcl_trials: child networks of a task.
        rcl_epochs: of RCL's trainings, which have its authors' settings besides.
        cache_bytes: what work that is kept to be shared may take on disk.
    """

    net: str
    tasks: int
    pool: int
    options: Mapping[str, Any]
    head: str = "own"
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.01
    samples: int = 500
    deltas: tuple[float, ...] = DELTAS
    draws: int = DRAWS
    seeds: int = 5
    rcl_trials: int = 50
    rcl_epochs: int = 15
    cache_bytes: int = 8 * 2**30


_QUICK: Final[dict[str, Any]] = {"seeds": 2, "draws": 4, "deltas": _SOME}
_HALF: Final[dict[str, Any]] = {"draws": 10}

# MNIST: 3 layers of 300 units and one head for all tasks, as the paper and its code say.
_MNIST: Final = Setting(net="mlp-300-300-300", tasks=10, pool=0, options={"normalize": True}, head="shared")
_CIFAR: Final = Setting(
    net="growth-conv", tasks=10, pool=10, options={"normalize": True, "tasks": 10, "classes_per_task": 10}
)
_DECATHLON: Final = Setting(net="growth-conv", tasks=10, pool=10, options={"size": 72})
# Digits, which need no data and no time; the paper has nothing on them.
_DIGITS: Final = Setting(
    net="mlp-50-50-50",
    tasks=5,
    pool=5,
    options={"normalize": True},
    batch_size=16,
    rcl_trials=10,
    rcl_epochs=5,
)
_DIGITS_PERMUTED: Final = replace(_DIGITS, pool=0, head="shared")
_DIGITS_QUICK: Final[dict[str, Any]] = {**_QUICK, "tasks": 4, "epochs": 3, "rcl_trials": 3, "rcl_epochs": 3}


def _images(setting: Setting, of_a_class: int) -> Mapping[str, Any]:
    return {**setting.options, "train_per_class": of_a_class}


_DECATHLON_SCALES: Final[Mapping[str, Setting]] = {
    "quick": replace(
        _DECATHLON, epochs=20, learning_rate=0.03, options={"size": 32, "train_per_class": 40}, rcl_trials=3,
        rcl_epochs=3, **{**_QUICK, "draws": 2, "deltas": (0.0, 0.3, 0.5, 0.7, 1.0)},
    ),
    "half": replace(_DECATHLON, options={"size": 72, "train_per_class": 100}, rcl_trials=10, rcl_epochs=5,
                    **{**_HALF, "draws": 5, "deltas": _SOME}),
    "full": _DECATHLON,
}  # fmt: skip


STREAMS: Final[Mapping[str, Mapping[str, Setting]]] = MappingProxyType(
    {
        "cifar100-split": {
            "quick": replace(
                _CIFAR, tasks=4, epochs=10, options=_images(_CIFAR, 100), rcl_trials=3, rcl_epochs=3, **_QUICK
            ),
            "half": replace(
                _CIFAR, epochs=25, options=_images(_CIFAR, 100), rcl_trials=10, rcl_epochs=5,
                **{**_HALF, "draws": 5, "deltas": _SOME},
            ),
            "full": _CIFAR,
        },
        "mnist-permuted": {
            "quick": replace(
                _MNIST, tasks=4, options=_images(_MNIST, 300), rcl_trials=3, rcl_epochs=3, **_QUICK
            ),
            "half": replace(_MNIST, options=_images(_MNIST, 1000), rcl_trials=10, rcl_epochs=5, **_HALF),
            "full": _MNIST,
        },
        "decathlon": _DECATHLON_SCALES,
        "decathlon-folders": _DECATHLON_SCALES,
        "digits-split": {
            "quick": replace(_DIGITS, **_DIGITS_QUICK),
            "half": replace(_DIGITS, **_HALF),
            "full": _DIGITS,
        },
        "digits-permuted": {
            "quick": replace(_DIGITS_PERMUTED, **_DIGITS_QUICK),
            "half": replace(_DIGITS_PERMUTED, **_HALF),
            "full": _DIGITS_PERMUTED,
        },
    }
)  # fmt: skip
"""The streams that the experiments run on: the paper's, the Decathlon as published, stand-ins for it, and digits."""
