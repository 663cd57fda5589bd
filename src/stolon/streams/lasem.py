"""CIFAR-100 in ten, twenty and forty tasks of ten classes, as in the papers on selective layer transfer.

Each task has ten of the hundred classes and 4 % of their training images: 17 to train on and 3 to validate
with for each class. The lists of classes are those of the authors' code; those of the twenty and the forty
tasks use a class two and four times.

Source:
    Lee et al., "Sharing less is more", ICML 2021, section 4 and, of its submission to ICLR, appendix A and
    table 2; Lifelong-ML/LASEM, classification/gen_data.py (the lists, and what "released" does).

Deliberate differences: the five data groups are five samples (the released ones hold the same images), and
validation and test data are standardised like training data (the released ones each by their own figures).
Both can be had as released.
"""

from functools import partial
from pathlib import Path

from stolon.errors import SettingError
from stolon.streams import options
from stolon.streams.cifar import LASEM, load100
from stolon.streams.labelled import Deal
from stolon.tasks import Stream

GROUPS = 5
"""Samples of a set without an image in common: one for each of the papers' five runs."""

# Each task takes one class of each of ten superclasses, like those of LASEM; neighbours share five classes.
LASEM_20 = (
    (4, 1, 54, 9, 0, 5, 6, 3, 12, 8),
    (4, 23, 54, 34, 0, 2, 6, 36, 12, 41),
    (22, 23, 15, 34, 26, 2, 27, 36, 47, 41),
    (22, 32, 15, 10, 26, 20, 27, 42, 47, 13),
    (30, 32, 62, 10, 51, 20, 7, 42, 17, 13),
    (30, 33, 62, 63, 51, 11, 7, 50, 17, 69),
    (39, 33, 19, 63, 45, 11, 29, 50, 52, 69),
    (39, 67, 19, 16, 45, 25, 29, 43, 52, 48),
    (55, 67, 70, 16, 53, 25, 14, 43, 37, 48),
    (55, 49, 70, 64, 53, 35, 14, 65, 37, 81),
    (40, 49, 21, 64, 77, 35, 44, 65, 56, 81),
    (40, 73, 21, 28, 77, 84, 44, 88, 56, 58),
    (72, 73, 82, 28, 57, 84, 18, 88, 68, 58),
    (72, 60, 82, 66, 57, 46, 18, 74, 68, 85),
    (86, 60, 31, 66, 79, 46, 78, 74, 59, 85),
    (86, 71, 31, 75, 79, 98, 78, 80, 59, 89),
    (87, 71, 38, 75, 99, 98, 93, 80, 96, 89),
    (87, 91, 38, 61, 99, 94, 93, 97, 96, 90),
    (95, 91, 92, 61, 83, 94, 24, 97, 76, 90),
    (95, 1, 92, 9, 83, 5, 24, 3, 76, 8),
)
"""The classes of the twenty tasks, as fine labels."""

LASEM_40 = (
    *LASEM_20,
    (4, 22, 54, 15, 0, 26, 6, 27, 12, 47),
    (1, 23, 9, 34, 5, 26, 6, 27, 12, 47),
    (1, 23, 9, 34, 5, 2, 3, 36, 8, 41),
    (30, 39, 62, 19, 51, 2, 3, 36, 8, 41),
    (30, 39, 62, 19, 51, 45, 7, 29, 17, 52),
    (32, 33, 10, 63, 20, 45, 7, 29, 17, 52),
    (32, 33, 10, 63, 20, 11, 42, 50, 13, 69),
    (55, 40, 70, 21, 53, 11, 42, 50, 13, 69),
    (55, 40, 70, 21, 53, 77, 14, 44, 37, 56),
    (67, 49, 16, 64, 25, 77, 14, 44, 37, 56),
    (67, 49, 16, 64, 25, 35, 43, 65, 48, 81),
    (72, 86, 82, 31, 57, 35, 43, 65, 48, 81),
    (72, 86, 82, 31, 57, 79, 18, 78, 68, 59),
    (73, 60, 28, 66, 84, 79, 18, 78, 68, 59),
    (73, 60, 28, 66, 84, 46, 88, 74, 58, 85),
    (95, 87, 92, 38, 83, 46, 88, 74, 58, 85),
    (95, 87, 92, 38, 83, 99, 24, 93, 76, 96),
    (91, 71, 61, 75, 94, 99, 24, 93, 76, 96),
    (91, 71, 61, 75, 94, 98, 97, 80, 90, 89),
    (4, 22, 54, 15, 0, 98, 97, 80, 90, 89),
)
"""The classes of the forty tasks, of which the first half are the twenty, as fine labels."""


def cifar100(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int = 10,
    group: int | None = None,
    train_per_class: int = 20,
    val_share: float = 0.15,
    samples: str = "disjoint",
    statistics: str = "task",
) -> Stream:
    """LASEM's CIFAR-100: 170 training, 30 validation and 1,000 test images in a task of ten classes.

    An image is in the same part in every task. The tasks of the twenty and the forty that use a class again
    use the same images of it, as the released ones do: none is trained on in one and tested on in another.

    Seeds come in fives: seeds 0 to 4 are the five groups of one partition of the images, without an image in
    common, seeds 5 to 9 those of another, and so on. Test data are all that the set has: 100 images of each
    class as published, 30 in shared/data.

    Args:
        root: the folder that holds ``cifar-100-binary/``, or ``CIFAR100/*.npz``.
        seed: seed // 5 decides the partition into groups, seed % 5 the group where none is given.
        tasks: 10, 20 or 40, each with its own lists; fewer than ten take the first of the ten.
        group: which of five samples of the training images, 0 to 4; with it given, the seeds of one five
            have the same data.
        train_per_class: images of each class in a group, validation included; 20 are the papers' 4 %.
        val_share: the share of them that is validation data.
        samples: ``"disjoint"``, or ``"released"``: every group has the images of group 0, in another order.
        statistics: standardise all of a task's data with the mean and deviation of each channel of its
            training images (``"task"``), or each part with its own (``"released"``); a deviation is at
            least 1 / sqrt(pixels).

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataError: the files are damaged, or a class has too few images for five groups.
    """
    lists = _lists(tasks)
    options.seed(seed)
    chosen = seed % GROUPS if group is None else options.whole("group", group, 0, GROUPS - 1)
    same = options.choice("samples", samples, ("disjoint", "released")) == "released"
    own = options.choice("statistics", statistics, ("task", "released")) == "released"
    options.whole("train_per_class", train_per_class, 2, 10**9)
    deal = Deal(
        seed // GROUPS,
        val_share,
        train_per_class,
        "part" if own else "task",
        groups=1 if same else GROUPS,
        group=0 if same else chosen,
        order=chosen if same else None,
    )
    data = load100(options.root(root))
    deal.check(data)
    return Stream(
        "cifar100-lasem",
        [partial(deal.task, data, f"cifar100-lasem-{i}", classes=group) for i, group in enumerate(lists)],
    )


def _lists(tasks: int) -> tuple[tuple[int, ...], ...]:
    options.whole("tasks", tasks, 1, 40)
    if 10 < tasks != 20 and tasks != 40:
        raise SettingError(f"tasks: expected 20 or 40, or at most 10, found {tasks}; take a slice of those")
    return LASEM[:tasks] if tasks <= 10 else {20: LASEM_20, 40: LASEM_40}[tasks]
