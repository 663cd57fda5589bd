"""Which rows go where: stratified splits and classes dealt out to tasks, as functions of the seed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stolon import randomness
from stolon.errors import DataError, SettingError
from stolon.streams import options


def part_sizes(count: int, shares: Sequence[float]) -> tuple[int, ...] | None:
    """How many of a class's samples each share gets, at least one each; None where nothing would be left.

    Example:
        >>> part_sizes(20, (0.1, 0.2))
        (2, 4)
        >>> part_sizes(2, (0.1, 0.2)) is None
        True
    """
    sizes = tuple(max(1, round(share * count)) if share > 0 else 0 for share in shares)
    return sizes if sum(sizes) < count else None


def stratified(labels: Tensor, shares: Sequence[float], seed: int, *purpose: str | int) -> tuple[Tensor, ...]:
    """Deal out rows, class by class: the rest first, then one part for each share.

    The parts are disjoint, hold all rows, keep the rows' order, and have each class in its share.

    Args:
        labels: a class index for each row [N].
        shares: the share of each further part, 0 to 1; 0 makes it empty.
        seed: all choices are a function of it and the purpose.
        purpose: what the split is for.

    Returns:
        Row indices, int64: those that remain, then those of each share.

    Raises:
        DataError: a class has too few samples to give each part one.

    Example:
        >>> train, val = stratified(torch.tensor([0, 0, 0, 1, 1, 1]), [0.3], 0, "example")
        >>> len(train), len(val)
        (4, 2)
    """
    dealt: list[list[Tensor]] = [[] for _ in range(len(shares) + 1)]
    for label in torch.unique(labels).tolist():
        rows = (labels == label).nonzero().flatten()
        sizes = part_sizes(len(rows), shares)
        if sizes is None:
            raise DataError(
                f"class {label}: expected enough samples for {len(shares) + 1} parts, found {len(rows)}; "
                "add samples or make the shares smaller"
            )
        order = rows[randomness.permutation(len(rows), seed, *purpose, label)]
        pieces = order.split([len(rows) - sum(sizes), *sizes])
        for part, piece in zip(dealt, pieces, strict=True):
            part.append(piece)
    return tuple(
        torch.cat(part).sort().values if part else torch.empty(0, dtype=torch.int64) for part in dealt
    )


def per_class(
    rows: Tensor, labels: Tensor, limit: int, seed: int, *purpose: str | int, group: int = 0
) -> Tensor:
    """At most ``limit`` rows of each class, chosen by the seed, in the rows' order.

    Args:
        rows: row indices to choose from.
        labels: a class index for each of all rows.
        limit: how many of each class.
        seed: all choices are a function of it and the purpose.
        purpose: what the choice is for.
        group: which sample, from 0: the groups of one seed and purpose share no row, and later ones are
            short, or empty, where a class has fewer than ``limit`` rows for each.

    Example:
        >>> rows, labels = torch.arange(6), torch.tensor([0, 0, 0, 0, 0, 0])
        >>> samples = [per_class(rows, labels, 2, 0, "example", group=group) for group in range(3)]
        >>> torch.cat(samples).sort().values
        tensor([0, 1, 2, 3, 4, 5])
    """
    kept = []
    for label in torch.unique(labels[rows]).tolist():
        own = rows[labels[rows] == label]
        order = randomness.permutation(len(own), seed, *purpose, label)
        kept.append(own[order[group * limit : (group + 1) * limit]])
    return torch.cat(kept).sort().values if kept else rows


def counts(tasks: object, classes_per_task: object) -> None:
    """Refuse numbers of tasks and classes that no set could have.

    Raises:
        SettingError: one is neither None nor a whole number from 1 to 1000.
    """
    for name, value in (("tasks", tasks), ("classes_per_task", classes_per_task)):
        if value is not None:
            options.whole(name, value, 1, 1000)


def class_groups(
    classes: int, tasks: int | None, classes_per_task: int | None, order: str, seed: int
) -> list[list[int]]:
    """Deal out classes to tasks, each class to one task at most.

    Args:
        classes: how many there are.
        tasks: how many groups; None takes as many as the classes allow.
        classes_per_task: how many classes in each; None divides the classes evenly.
        order: ``"sequential"`` or ``"seeded"``.
        seed: decides a seeded order.

    Raises:
        SettingError: there are not enough classes, or they cannot be divided evenly.

    Example:
        >>> class_groups(10, 5, None, "sequential", 0)
        [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    """
    if tasks is None and classes_per_task is None:
        classes_per_task = 2
    if classes_per_task is None:
        assert tasks is not None
        if classes % tasks:
            raise SettingError(
                f"tasks: expected a number that divides {classes} classes evenly, found {tasks}; or say "
                "classes_per_task"
            )
        classes_per_task = classes // tasks
    if tasks is None:
        tasks = max(1, classes // classes_per_task)
    if tasks * classes_per_task > classes:
        raise SettingError(
            f"tasks: expected at most {classes} classes in all, found {tasks} tasks of {classes_per_task}"
        )
    listed = list(range(classes))
    if order == "seeded":
        listed = randomness.permutation(classes, seed, "classes").tolist()
    return [listed[i * classes_per_task : (i + 1) * classes_per_task] for i in range(tasks)]
