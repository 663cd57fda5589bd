"""Folders of images that are read once, and tasks made of what was read.

What :mod:`stolon.streams.folders` and :mod:`stolon.streams.decathlon` (a folder is a task) and
:mod:`stolon.streams.domains` (a folder is a domain, of which tasks take classes) have in common.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stolon import randomness
from stolon.errors import DataProblemsError, ImageError, Problem
from stolon.streams import images, inspection, options
from stolon.streams.files import FileSplit
from stolon.streams.labelled import of_classes
from stolon.streams.parts import part_sizes
from stolon.streams.views import relabelled
from stolon.tasks import Stream, Task

IN_MEMORY_BYTES = 2**30
"""How much decoded data is kept in memory: 7,000 images of 224 pixels, 85,000 of 64."""

CHECK_SIZE = 16
"""When pixels are not kept, JPEGs are decoded at the smallest scale."""


@dataclass(frozen=True)
class How:
    """Settings of a reading, checked.

    Attributes:
        size: side of the square that images are brought to, in pixels.
        seed: decides which images a missing ``val`` or ``test`` takes.
        val_share: the share of each class that a missing ``val`` takes.
        test_share: the share of each class that a missing ``test`` takes.
        workers: threads that decode; 0 takes one per core that this process may use.
        squeeze: take whole images, whatever their proportions; else their centre squares.
    """

    size: int
    seed: int
    val_share: float
    test_share: float
    workers: int
    squeeze: bool = False

    @staticmethod
    def checked(
        size: Any,  # noqa: ANN401 - options may be anything until they are checked
        seed: Any,  # noqa: ANN401
        *,
        shares: tuple[Any, Any],
        workers: Any,  # noqa: ANN401
        limit_bytes: Any,  # noqa: ANN401
    ) -> "How":
        """The settings, if they are in their ranges.

        Raises:
            SettingError: one is not.
        """
        images.check_size(size)
        val, test = options.shares(*shares)
        options.whole("in_memory_limit_bytes", limit_bytes, 0, 2**63)
        return How(size, options.seed(seed), val, test, options.whole("workers", workers, 0, 256))


@dataclass(frozen=True)
class Reading:
    """A data set whose files have been read once.

    Attributes:
        survey: its files.
        contents: the SHA-256 of each file that could be read.
        pixels: all pixels, uint8 [N, 3, size, size], if they are kept.
        problems: all that is wrong with it.
    """

    survey: inspection.Survey
    contents: tuple[str, ...]
    pixels: Tensor | None
    problems: tuple[Problem, ...]


def pooled(survey: inspection.Survey) -> inspection.Survey:
    """A data set without the parts it comes in: all its images are dealt out anew."""
    return replace(survey, divided=False, given=("train",), parts=("train",) * len(survey.parts))


def read(survey: inspection.Survey, how: How, limit_bytes: int) -> Reading:
    """Read every file once; keep the pixels if they fit."""
    fits = len(survey.paths) * 3 * how.size**2 <= limit_bytes
    pixels = images.empty(len(survey.paths), how.size) if fits else None
    size = how.size if fits else min(how.size, CHECK_SIZE)
    answers = images.read_many(survey.paths, size, out=pixels, workers=how.workers, squeeze=how.squeeze)
    problems = inspection.judge(survey, answers, val_share=how.val_share, test_share=how.test_share)
    contents = tuple(answer for answer in answers if not isinstance(answer, ImageError))
    return Reading(survey, contents, pixels, problems)


def unread(survey: inspection.Survey, how: How) -> Reading:
    """Judge a data set by names and links alone, as if all files were different images."""
    names = [str(path) for path in survey.paths]
    problems = inspection.judge(survey, names, val_share=how.val_share, test_share=how.test_share)
    return Reading(survey, (), None, problems)


def as_task(
    reading: Reading, how: How, *, name: str | None = None, classes: Sequence[int] | None = None
) -> Task:
    """A data set without problems as a task.

    Args:
        reading: the data set.
        how: the settings it was read with.
        name: what the task is called; by default what the folder is.
        classes: which classes, in this order; all where they are not given. An image is in the same part
            whichever they are.
    """
    survey = reading.survey
    chosen = list(range(len(survey.classes))) if classes is None else list(classes)
    labels = torch.tensor(survey.labels, dtype=torch.int64)
    parts = _deal(reading, how)

    def split(part: str) -> FileSplit:
        rows = torch.tensor([i for i, own in enumerate(parts) if own == part], dtype=torch.int64)
        rows = of_classes(rows, labels, chosen)
        return FileSplit(
            survey.paths,
            reading.contents,
            rows,
            relabelled(labels[rows], chosen),
            how.size,
            pixels=reading.pixels,
            workers=how.workers,
            squeeze=how.squeeze,
        )

    names = tuple(survey.classes[label] for label in chosen)
    return Task(survey.name if name is None else name, names, split("train"), split("val"), split("test"))


@dataclass
class _Room:
    """How many bytes of decoded data may still be kept; all tasks of a stream draw on it."""

    left: int

    def read(self, survey: inspection.Survey, how: How) -> Reading:
        made = read(survey, how, self.left)
        self.left -= 0 if made.pixels is None else made.pixels.nbytes
        return made


def unchanged(reading: Reading) -> Reading:
    """The reading itself."""
    return reading


def as_stream(
    name: str,
    place: Path,
    surveys: Sequence[inspection.Survey],
    how: How,
    *,
    problems: Sequence[Problem] = (),
    limit_bytes: int,
    check_first: bool,
    finish: Callable[[Reading], Reading] = unchanged,
) -> Stream:
    """Data sets as the tasks of a stream, refused together if anything is wrong with any of them.

    Args:
        name: what the stream is called.
        place: the folder that problems are told of.
        surveys: the data sets, in the order of their tasks.
        how: the settings of their reading.
        problems: what is wrong so far.
        limit_bytes: how much decoded data the whole stream keeps in memory.
        check_first: read all files now; otherwise names and links are judged now, and files read when their task
            is asked for.
        finish: what is done to each reading before its problems are told.

    Raises:
        DataProblemsError: anything is wrong; tells all of it.
    """
    room = _Room(limit_bytes)
    makers: list[Callable[[], Task]] = []
    found = list(problems)
    for survey in surveys:
        made = finish(room.read(survey, how) if check_first else unread(survey, how))
        found += [replace(p, where=_within(survey, p.where)) for p in made.problems]
        later = partial(_later, survey, how, room, finish)
        makers.append(partial(as_task, made, how) if check_first else later)
    if found:
        raise DataProblemsError(f"data sets in {images.printable(place)}", found)
    return Stream(name, makers)


def _later(survey: inspection.Survey, how: How, room: _Room, finish: Callable[[Reading], Reading]) -> Task:
    made = finish(room.read(survey, how))
    if made.problems:
        raise DataProblemsError(f"data set {images.printable(survey.root)}", made.problems)
    return as_task(made, how)


def _within(survey: inspection.Survey, where: str) -> str:
    return survey.name if where == images.printable(survey.root) else f"{survey.name}/{where}"


def _deal(reading: Reading, how: How) -> list[str]:
    """The part of each file: the folder's own, or, for parts that it lacks, by seed and content."""
    survey = reading.survey
    parts = list(survey.parts)
    val_share, test_share = inspection.missing_shares(survey.given, how.val_share, how.test_share)
    copies: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (part, label, content) in enumerate(zip(parts, survey.labels, reading.contents, strict=True)):
        if part == "train":
            copies[label][content].append(index)
    for contents in copies.values():
        # By content, so that two copies of a file never end in two parts.
        order = sorted(contents, key=lambda content: (randomness.number(how.seed, "part", content), content))
        sizes = part_sizes(len(order), (test_share, val_share))
        assert sizes is not None  # inspection has reported classes that are too small
        for part, chosen in (("test", order[: sizes[0]]), ("val", order[sizes[0] : sum(sizes)])):
            for content in chosen:
                for index in contents[content]:
                    parts[index] = part
    return parts
