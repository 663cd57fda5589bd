"""ImageNet (ILSVRC2012) and Tiny ImageNet, their classes dealt out to tasks, from files as they are published.

Files are read when their task is first asked for: once, to refuse what is damaged and to know their contents, and
then, where a task's images do not fit into memory, batch by batch. Test data are the published validation images,
whose labels are known; validation data are a share of each class's training images, chosen by the seed and each
file's content.

Published sets hold a few images twice, in two classes or parts; they are taken as published. Copies within the
training images of a class are in one part.

Source:
    Wortsman et al., "Supermasks in Superposition", NeurIPS 2020 (SplitImageNet: 100 tasks of ten classes); its code,
    data/splitimagenet.py. Deliberate differences: there a training image is a random part of the original, flipped at
    random, and a test image the central 224 pixels of 256; here each is the central square, whole, and augmentation
    is the training's affair. There all training images are trained on.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import final

import numpy as np
from torch import Tensor

from stolon import randomness
from stolon.errors import DataProblemsError, Problem, SettingError
from stolon.streams import imagenet_files, images, inspection, options, reading
from stolon.streams.imagenet_files import Published
from stolon.streams.parts import class_groups, counts
from stolon.streams.reading import IN_MEMORY_BYTES, How, Reading
from stolon.streams.views import Scale
from stolon.tasks import Split, Stream, Task

STANDARD = Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's usual mean and standard deviation per channel."""

_COPIES = ("same image in classes", "same image in parts")


def imagenet(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    size: int = 224,
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
    check_first: bool = False,
) -> Stream:
    """The classes of ImageNet, dealt out to tasks in the order of their folders' names: ten each by default.

    Args:
        root: the folder that holds ``train/CLASS/*`` and ``val/CLASS/*``, or holds them in ``imagenet/``,
            ``ImageNet/`` or ``ILSVRC2012/``. The validation images may also lie in ``val/`` as they are published,
            ``ILSVRC2012_val_00000001.JPEG`` and so on, with the devkit's
            ``ILSVRC2012_validation_ground_truth.txt`` and ``meta.mat`` beside ``val/`` or in
            ``ILSVRC2012_devkit_t12/data/``. Fewer classes will do.
        seed: decides the validation data, and the order of classes if that is seeded.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; ten, unless the number of tasks is given: then the classes are
            divided evenly.
        order: ``"sequential"``, ``"seeded"``, or ``"supsup"`` for that code's order of the 1000 classes.
        size: side of the square that images are brought to, in pixels.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with the usual figures; images are uint8 otherwise.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data the whole stream keeps in memory; images beyond it are decoded
            in batches. A task of ten classes is 2 GB at 224 pixels.
        check_first: read all images now, so that no problem turns up after hours of learning; otherwise when their
            task is asked for.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataProblemsError: images are damaged, or too few; tells all of it.
        DataError: the folders, or the list of labels, are not as published.
    """
    recipe = _Recipe(
        name="imagenet-split",
        orders=("sequential", "seeded", "supsup"),
        seed=seed,
        tasks=tasks,
        classes_per_task=classes_per_task,
        order=order,
        size=size,
        val_share=val_share,
        train_per_class=train_per_class,
        normalize=normalize,
        workers=workers,
        in_memory_limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
    )
    return recipe.stream(imagenet_files.ilsvrc(options.root(root)))


def tiny(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    tasks: int | None = None,
    classes_per_task: int | None = None,
    order: str = "sequential",
    size: int = 64,
    val_share: float = 0.1,
    train_per_class: int | None = None,
    normalize: bool = False,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
    check_first: bool = True,
) -> Stream:
    """The classes of Tiny ImageNet, dealt out to tasks: 20 of ten as published, three with the 30 in shared/data.

    Args:
        root: the folder that holds ``tiny-imagenet-200/`` as published (``train/CLASS/images/*``, ``val/images/*``
            and ``val/val_annotations.txt``), or ``tiny_imagenet/`` with ``train/CLASS/*`` and ``val/CLASS/*`` (or
            ``test/CLASS/*``, where there is no ``val/``); or that folder itself.
        seed: decides the validation data, and the order of classes if that is seeded.
        tasks: how many tasks; by default as many as the classes allow.
        classes_per_task: how many classes in each; ten, unless the number of tasks is given: then the classes are
            divided evenly.
        order: ``"sequential"`` or ``"seeded"``: the order in which classes are dealt out.
        size: side of the square that images are brought to, in pixels.
        val_share: the share of training images that is validation data.
        train_per_class: keep this many images of each class, validation included; all by default.
        normalize: standardise with ImageNet's usual figures; images are uint8 otherwise.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data the whole stream keeps in memory; images beyond it are decoded
            in batches. All 200 classes are 1.35 GB at 64 pixels.
        check_first: read all images now, so that no problem turns up after hours of learning; otherwise when their
            task is asked for.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: the files are not there.
        DataProblemsError: images are damaged, or too few; tells all of it.
        DataError: the folders, or the list of labels, are not as published.
    """
    recipe = _Recipe(
        name="tiny-imagenet-split",
        orders=("sequential", "seeded"),
        seed=seed,
        tasks=tasks,
        classes_per_task=classes_per_task,
        order=order,
        size=size,
        val_share=val_share,
        train_per_class=train_per_class,
        normalize=normalize,
        workers=workers,
        in_memory_limit_bytes=in_memory_limit_bytes,
        check_first=check_first,
    )
    return recipe.stream(imagenet_files.tiny(options.root(root)))


@final
class StandardisedSplit(Split):
    """Another split's images, standardised when they are asked for.

    Args:
        split: of images.
        scale: the figures.
    """

    def __init__(self, split: Split, scale: Scale) -> None:
        self._split, self._scale = split, scale

    def __len__(self) -> int:
        return len(self._split)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images as floats, and labels, at these indices."""
        x, y = self._split.batch(indices)
        return self._scale(x), y

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [M]."""
        return self._split.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._split.shape

    def digest(self) -> str:
        """SHA-256 over the split's own digest and the figures."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self._split.digest()} {self._scale}".encode()).hexdigest()


@dataclass(kw_only=True)
class _Recipe:
    """The options of a stream, checked, and how its tasks are made."""

    name: str
    orders: Sequence[str]
    seed: int
    tasks: int | None
    classes_per_task: int | None
    order: str
    size: int
    val_share: float
    train_per_class: int | None
    normalize: bool
    workers: int
    in_memory_limit_bytes: int
    check_first: bool

    def __post_init__(self) -> None:
        counts(self.tasks, self.classes_per_task)
        if self.tasks is None and self.classes_per_task is None:
            self.classes_per_task = 10
        options.choice("order", self.order, self.orders)
        if self.train_per_class is not None:
            options.whole("train_per_class", self.train_per_class, 2, 10**9)
        options.flag("normalize", self.normalize)
        options.flag("check_first", self.check_first)
        limit, shares = self.in_memory_limit_bytes, (self.val_share, 0.0)
        self._how = How.checked(self.size, self.seed, shares=shares, workers=self.workers, limit_bytes=limit)
        self._left = limit  # of the memory for pixels

    def stream(self, published: Published) -> Stream:
        """The set's classes as tasks."""
        groups = self._groups(len(published.classes))
        makers: list[Callable[[], Task]] = []
        problems: list[Problem] = []
        for number, group in enumerate(groups):
            classes = tuple(published.classes[label] for label in group)
            name = f"{self.name}-{number}"
            if self.check_first:
                made = self._read(published, name, classes)
                problems += made.problems
                makers.append(partial(self._task, made))
            else:
                makers.append(partial(self._later, published, name, classes))
        self._refuse(published, problems)
        return Stream(self.name, makers)

    def _groups(self, classes: int) -> list[list[int]]:
        if self.order != "supsup":
            return class_groups(classes, self.tasks, self.classes_per_task, self.order, self._how.seed)
        groups = class_groups(classes, self.tasks, self.classes_per_task, "sequential", 0)
        if classes != 1000:
            raise SettingError(f"order 'supsup': expected a set of 1000 classes, found {classes}")
        # The code's order, whatever its seed. NumPy promises that this generator's numbers stay as they are.
        listed = np.random.RandomState(1).permutation(1000)
        return [listed[group].tolist() for group in groups]

    def _later(self, published: Published, name: str, classes: tuple[str, ...]) -> Task:
        made = self._read(published, name, classes)
        self._refuse(published, made.problems)
        return self._task(made)

    def _read(self, published: Published, name: str, classes: tuple[str, ...]) -> Reading:
        """Read a task's files once; keep their pixels while there is room."""
        rows = [
            (file, part, label)
            for part, files in (("train", self._kept), ("test", partial(Published.files, part="test")))
            for label, class_name in enumerate(classes)
            for file in files(published, name=class_name)
        ]
        paths, parts, labels = zip(*rows, strict=True) if rows else ((), (), ())
        survey = inspection.Survey(
            published.root,
            name,
            classes,
            divided=True,
            given=("train", "test"),
            paths=paths,
            parts=parts,
            labels=labels,
        )
        made = reading.read(survey, self._how, self._left)
        self._left -= 0 if made.pixels is None else made.pixels.nbytes
        return replace(made, problems=tuple(p for p in made.problems if p.kind not in _COPIES))

    def _kept(self, published: Published, name: str) -> Sequence[Path]:
        """The training images of a class that are used, in their order."""
        files = published.files("train", name)
        if self.train_per_class is None or self.train_per_class >= len(files):
            return files
        order = randomness.permutation(len(files), self._how.seed, "kept", self.name, name)
        return [files[index] for index in order[: self.train_per_class].sort().values.tolist()]

    def _task(self, made: Reading) -> Task:
        task = reading.as_task(made, self._how)
        if not self.normalize:
            return task
        train, val, test = (StandardisedSplit(part, STANDARD) for part in (task.train, task.val, task.test))
        return replace(task, train=train, val=val, test=test)

    def _refuse(self, published: Published, problems: Sequence[Problem]) -> None:
        if problems:
            raise DataProblemsError(f"data set {images.printable(published.root)}", problems)
