"""The Visual Domain Decathlon: ten image data sets of very different kinds, 72 pixels each, one task each.

Two streams: the challenge's own data sets, from files as they are published, and ten others that stand in for them
where those cannot be had. Every image becomes a square: its centre, the shorter side scaled to ``size``, or with
``squeeze`` the whole image, squeezed.

Source:
    Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017; the challenge's
    page, https://www.robots.ox.ac.uk/~vgg/decathlon/. Deliberate differences: results on the challenge's test images
    come from its server alone, so the published validation images are the test data here, and validation data are a
    share of the training images; and augmentation (random crops of 64 pixels, flips) is the training's affair.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from stolon import randomness
from stolon.streams import decathlon_files, folders, options, reading
from stolon.streams.decathlon_files import SETS
from stolon.streams.inspection import MAX_CLASSES, Survey
from stolon.streams.reading import IN_MEMORY_BYTES, How, Reading
from stolon.tasks import Stream

STAND_INS: Final[Mapping[str, str]] = {
    "imagenet12": "tiny_imagenet",
    "aircraft": "fruits360",
    "cifar100": "cifar10",
    "daimlerpedcls": "brain_mri",
    "dtd": "dtd10",
    "gtsrb": "gtsrb",
    "vgg-flowers": "plant_seedlings",
    "omniglot": "omniglot",
    "svhn": "chars74k",
    "ucf101": "asl_hands",
}
"""Which data set of shared/data stands for which of the challenge."""

_COPIES: Final = ("same image in classes", "same image in parts")


def challenge(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    tasks: int | None = None,
    size: int = 72,
    squeeze: bool = False,
    val_share: float = 0.1,
    classes_per_task: int | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
    check_first: bool = False,
) -> Stream:
    """The ten data sets of the challenge, in the order of its tables of results, as tasks called like the data sets.

    The order is imagenet12, aircraft, cifar100, daimlerpedcls, dtd, gtsrb, vgg-flowers, omniglot, svhn, ucf101. Classes
    are in the order of their folders, and called as the devkit says, or like their folders where it is not there. Names
    that two classes have in common get the folder's name in brackets.

    Published images that are in a set twice, in two classes or parts, are taken as they are. Copies within the training
    images of a class are in one part.

    Args:
        root: the folder that holds the data sets' folders (``aircraft/train/0001/*``, ``aircraft/val/0001/*`` and so
            on), or holds them in ``decathlon-1.0/data/``, ``decathlon-1.0-data/``, ``decathlon-1.0/`` or ``data/``. The
            devkit's ``aircraft_train.json`` and so on are looked for in ``decathlon-1.0/annotations/``,
            ``decathlon-1.0-annotations/`` and ``annotations/``.
        seed: decides the validation data, and which images are kept where fewer are.
        only: the data sets to take, in this order; all ten where it is not given. imagenet12 is published apart.
        tasks: how many tasks, the first ones; all where it is not given.
        size: side of the square that images are brought to, in pixels. Published ones have a shorter side of 72.
        squeeze: take whole images, squeezed into squares; else their centre squares.
        val_share: the share of each class's training images that is validation data; 0 leaves it empty.
        classes_per_task: at most this many classes of each data set, the first ones; all by default.
        train_per_class: keep this many training images of each class, validation included; all by default.
        test_per_class: keep this many test images of each class; all by default.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data the whole stream keeps in memory; data sets beyond it are decoded
            in batches. All but imagenet12 are 3.8 GB at 72 pixels, imagenet12 alone is 20 GB.
        check_first: read all images now, so that no problem turns up after hours of learning; otherwise names, links
            and the devkit's lists are checked now, and images when their task is asked for.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: data sets are not there; names all of them.
        DataProblemsError: anything is wrong with any of them; tells all of it.
    """
    recipe = _Recipe(
        seed=seed,
        only=only,
        tasks=tasks,
        size=size,
        squeeze=squeeze,
        shares=(val_share, 0.0),
        classes_per_task=classes_per_task,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        workers=workers,
        limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
    )
    for name in recipe.chosen or ():
        options.choice("only", name, tuple(SETS))
    home = options.root(root)
    places = decathlon_files.find(home, recipe.names(tuple(SETS)))
    sets = {name: decathlon_files.published(home, place) for name, place in places.items()}
    return reading.as_stream(
        "decathlon",
        home,
        [recipe.thinned(found.survey) for found in sets.values()],
        recipe.how,
        limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
        finish=partial(_finish, {name: found.names for name, found in sets.items()}),
    )


def stand_ins(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    tasks: int | None = None,
    size: int = 72,
    squeeze: bool = False,
    val_share: float = 0.1,
    test_share: float = 0.2,
    classes_per_task: int | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
    check_first: bool = True,
) -> Stream:
    """Ten image folders of shared/data that stand in for the Decathlon's data sets, in the same order.

    =================  ============================  =================================================
    stand-in           in place of                   what they have in common
    =================  ============================  =================================================
    tiny_imagenet      imagenet12                    photographs of ImageNet's classes, 30 of them
    fruits360          aircraft                      varieties of one kind of object
    cifar10            cifar100                      small photographs of objects and animals
    brain_mri          daimlerpedcls                 grey, few classes: is something to be seen or not?
    dtd10              dtd                           textures, ten of its classes
    gtsrb              gtsrb                         the same signs, fewer images
    plant_seedlings    vgg-flowers                   species of plants
    omniglot           omniglot                      drawn characters, 50 of them
    chars74k           svhn                          characters in photographs of streets
    asl_hands          ucf101                        what people do: hand shapes in place of actions
    =================  ============================  =================================================

    They are read as the ``folders`` stream reads them: a missing part is a share of each training class, and anything
    wrong is refused. Results on them are no results on the Decathlon.

    Args:
        root: the folder that holds the image folders.
        seed: decides which images a missing ``val`` or ``test`` takes, and which are kept where fewer are.
        only: the image folders to take, in this order, of these or any others in the root; the ten where it is not
            given.
        tasks: how many tasks, the first ones; all where it is not given.
        size: side of the square that images are brought to, in pixels.
        squeeze: take whole images, squeezed into squares; else their centre squares.
        val_share: the share of each class that a missing ``val`` takes; 0 leaves it empty.
        test_share: the share of each class that a missing ``test`` takes; 0 leaves it empty.
        classes_per_task: at most this many classes of each data set, the first by name; all by default.
        train_per_class: keep this many training images of each class, before shares are taken; all by default.
        test_per_class: keep this many images of each class in each other part that the folder has; all by default.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data the whole stream keeps in memory; the ten are 240 MB at 72 pixels.
        check_first: read all images now, so that no problem turns up after hours of learning; otherwise names and
            links are checked now, and images when their task is asked for.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the root, or a data set, is not there.
        DataProblemsError: anything is wrong with any of them; tells all of it.
    """
    recipe = _Recipe(
        seed=seed,
        only=only,
        tasks=tasks,
        size=size,
        squeeze=squeeze,
        shares=(val_share, test_share),
        classes_per_task=classes_per_task,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        workers=workers,
        limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
    )
    home = options.root(root)
    surveys, problems = folders.surveys(home, recipe.names(tuple(STAND_INS.values())))
    return reading.as_stream(
        "decathlon-folders",
        home,
        [recipe.thinned(survey) for survey in surveys],
        recipe.how,
        problems=problems,
        limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
    )


@dataclass(kw_only=True)
class _Recipe:
    """The options that both streams have, checked."""

    seed: int
    only: Sequence[str] | None
    tasks: int | None
    size: int
    squeeze: bool
    shares: tuple[float, float]
    classes_per_task: int | None
    train_per_class: int | None
    test_per_class: int | None
    workers: int
    limit_bytes: int
    check_first: bool

    def __post_init__(self) -> None:
        how = How.checked(
            self.size, self.seed, shares=self.shares, workers=self.workers, limit_bytes=self.limit_bytes
        )
        self.how = replace(how, squeeze=options.flag("squeeze", self.squeeze))
        self.chosen = None if self.only is None else options.words("only", self.only)
        if self.tasks is not None:
            most = len(SETS) if self.chosen is None else len(self.chosen)
            options.whole("tasks", self.tasks, 1, most)
        for name, value, low in (
            ("classes_per_task", self.classes_per_task, 2),
            ("train_per_class", self.train_per_class, 2),
            ("test_per_class", self.test_per_class, 1),
        ):
            if value is not None:
                options.whole(name, value, low, MAX_CLASSES if name == "classes_per_task" else 10**9)
        options.flag("check_first", self.check_first)

    def names(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """The data sets that are asked for."""
        return (self.chosen or known)[: self.tasks]

    def thinned(self, survey: Survey) -> Survey:
        """A data set with fewer classes, and fewer images in each; the seed decides which, and no other option."""
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(survey.parts, survey.labels, strict=True)):
            groups[key].append(row)
        count = len(survey.classes) if self.classes_per_task is None else self.classes_per_task
        kept: list[int] = []
        for (part, label), rows in groups.items():
            limit = self.train_per_class if part == "train" else self.test_per_class
            if label >= count:
                continue
            if limit is not None and limit < len(rows):
                purpose = ("kept", survey.name, part, survey.classes[label])
                order = randomness.permutation(len(rows), self.how.seed, *purpose)
                rows = [rows[index] for index in order[:limit].tolist()]  # noqa: PLW2901 - fewer of the same
            kept += rows
        if len(kept) == len(survey.paths):
            return replace(survey, classes=survey.classes[:count])
        kept.sort()
        return replace(
            survey,
            classes=survey.classes[:count],
            paths=tuple(survey.paths[row] for row in kept),
            parts=tuple(survey.parts[row] for row in kept),
            labels=tuple(survey.labels[row] for row in kept),
        )


def _finish(names: Mapping[str, tuple[str, ...]], made: Reading) -> Reading:
    """A data set of the challenge with its classes' names, and with the copies that it is published with."""
    classes = names[made.survey.name][: len(made.survey.classes)]
    problems = tuple(problem for problem in made.problems if problem.kind not in _COPIES)
    return replace(made, survey=replace(made.survey, classes=classes), problems=problems)
