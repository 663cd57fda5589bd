"""Where the images of the Visual Domain Decathlon lie, as the challenge hands them out; no image is read.

``NAME/train/CLASS/*`` and ``NAME/val/CLASS/*`` hold the images whose labels are published. ``NAME/test`` is passed
over: its labels are not. The devkit's lists, ``annotations/NAME_train.json`` and ``NAME_val.json`` in COCO's form, say
what the classes are called; where they are there, every file must be in them, and every file in them must be there.

Problems beside those of :mod:`stolon.streams.inspection`:

======================  ===========================================================
``broken annotations``  a list that is too large, or not as published
``missing file``        files of a class that are listed, and not there
``unlisted file``       files of a class that are there, and not listed
``unknown class``       a class folder that is not listed, or (without lists) no number
``label differs``       a class folder of two categories, or a category of two folders
======================  ===========================================================
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stolon.errors import DataError, DataMissingError, Problem, TaskError
from stolon.streams import images, inspection
from stolon.streams.inspection import Survey
from stolon.tasks import check_name

SETS: Final[Mapping[str, int]] = {
    "imagenet12": 1000, "aircraft": 100, "cifar100": 100, "daimlerpedcls": 2, "dtd": 47,
    "gtsrb": 43, "vgg-flowers": 102, "omniglot": 1623, "svhn": 10, "ucf101": 101,
}  # fmt: skip
"""The challenge's data sets in the order of its tables of results, and how many classes each has."""

LISTED: Final = ("train", "val")
"""The parts whose labels are published."""

_NUMBER: Final = re.compile(r"[0-9]+|n[0-9]{8}")  # a class number, or a name of ImageNet's
_WANTED: Final = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name"}
)

_Id = int | str


@dataclass(frozen=True)
class Published:
    """A data set of the challenge, before its images are read.

    Attributes:
        survey: its files; the published validation part is its ``test``.
        names: what the classes are called, in the order of their folders.
    """

    survey: Survey
    names: tuple[str, ...]


def find(home: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folders of data sets.

    Args:
        home: the folder that holds them, or holds them in ``decathlon-1.0/data/``, ``decathlon-1.0-data/``,
            ``decathlon-1.0/`` or ``data/``.
        names: of :data:`SETS`.

    Raises:
        DataMissingError: some are not there; names all of them.
    """
    places = [
        home / name for name in ("decathlon-1.0/data", "decathlon-1.0-data", "decathlon-1.0", "data", ".")
    ]
    found: dict[str, Path] = {}
    for name in names:
        path = next((place / name for place in places if _is_set(place / name)), None)
        if path is not None:
            found[name] = path
    absent = [name for name in names if name not in found]
    if absent:
        listed = " or ".join(images.printable(place.absolute()) for place in places)
        raise DataMissingError(
            f"Visual Domain Decathlon: expected train/ and val/ of {', '.join(absent)} in {listed}, found none; unpack "
            "decathlon-1.0-data.tar.gz from https://www.robots.ox.ac.uk/~vgg/decathlon/ and the archives in it there "
            "(for imagenet12 decathlon-1.0-data-imagenet.tar, which is handed out apart), choose others with only=, "
            "or pass root="
        )
    return found


def published(home: Path, folder: Path) -> Published:
    """List a data set of the challenge, and compare it with the devkit's lists where they are there.

    Args:
        home: the folder that holds the lists in ``decathlon-1.0/annotations/``, ``decathlon-1.0-annotations/`` or
            ``annotations/``.
        folder: that of the data set, called as in :data:`SETS`.
    """
    survey = inspection.survey(folder, passed_over=("test",))
    problems: list[Problem] = []
    lists: dict[str, _List] = {}
    for part in LISTED:
        path = _find_list(home, f"{folder.name}_{part}.json")
        if path is None:
            continue
        try:
            lists[part] = _read_list(path, folder.name, part)
        except DataError as error:
            problems.append(
                Problem("broken annotations", images.printable(path.name), f"{error}; get it again")
            )
        else:
            problems += _compare(survey, part, lists[part], path.name)
    if not lists and not problems:
        problems += _check_numbers(survey, folder.name)
    names, more = _names(survey, lists)
    survey = replace(
        survey,
        given=("train", "test"),
        parts=tuple("test" if part == "val" else part for part in survey.parts),
        problems=(*survey.problems, *problems, *more),
        called={"test": "val"},
    )
    return Published(survey, names)


@dataclass(frozen=True)
class _List:
    """What a list of the devkit says.

    Attributes:
        names: what each category is called.
        files: for each class folder, the category of each of its files.
    """

    names: Mapping[_Id, str]
    files: Mapping[str, Mapping[str, _Id]]


def _is_set(path: Path) -> bool:
    return all((path / part).is_dir() for part in LISTED)


def _find_list(home: Path, name: str) -> Path | None:
    folders = ("decathlon-1.0/annotations", "decathlon-1.0-annotations", "annotations")
    return next((path for folder in folders if (path := home / folder / name).exists()), None)


def _read_list(path: Path, name: str, part: str) -> _List:
    """A list of the devkit, checked.

    Raises:
        DataError: it is not as published; says what is wrong first.
    """
    content = _json(path, 2**30 if name == "imagenet12" else 2**26)  # 1,232,167 images; at most 47,217
    names = dict(_pairs(content, "categories", "id", "name"))
    paths = dict(_pairs(content, "images", "id", "file_name"))
    pairs = _pairs(content, "annotations", "image_id", "category_id")
    labels = dict(pairs)
    if len(labels) != len(pairs) or labels.keys() != paths.keys():
        raise DataError(
            f"expected one annotation for each of {len(paths):,} images, found {len(pairs):,} of {len(labels):,} images"
        )
    files: dict[str, dict[str, _Id]] = defaultdict(dict)
    for image, file in paths.items():
        *_, own, within, folder, last = ["", "", "", "", *str(file).split("/")]
        if (own, within) != (name, part) or not folder or not last:
            raise DataError(
                f"expected files such as data/{name}/{part}/0001/000001.jpg, found {str(file)[:80]!r}"
            )
        if labels[image] not in names:
            raise DataError(
                f"expected a category of the list for every image, found {str(labels[image])[:20]!r}"
            )
        if last in files[folder]:
            raise DataError(f"expected each file once, found {str(file)[:80]!r} twice")
        files[folder][last] = labels[image]
    return _List({key: str(value) for key, value in names.items()}, files)


def _json(path: Path, limit_bytes: int) -> object:
    if not path.is_file():  # reading a pipe would never end
        raise DataError("expected a file, found something else")
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise DataError(f"expected a readable file, found: {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise DataError(f"expected at most {limit_bytes:,} bytes, found more")
    try:
        content: object = json.loads(data, object_hook=_wanted)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON, found: {images.printable(str(error))}") from error
    return content


def _wanted(found: dict[str, Any]) -> dict[str, Any]:
    """An object without what nobody asks for (sizes, boxes, licences): ImageNet's list has 2.5 million of them."""
    return {key: value for key, value in found.items() if key in _WANTED}


def _pairs(content: object, key: str, left: str, right: str) -> list[tuple[_Id, _Id]]:
    """Two fields of each row of a table; the left ones differ, except in annotations, which the caller counts."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"expected a list of {key}, found {'none' if rows is None else type(rows).__name__}")
    kinds = str if right in {"file_name", "name"} else int | str
    pairs: list[tuple[_Id, _Id]] = []
    for number, row in enumerate(rows):
        pair = (row.get(left), row.get(right)) if isinstance(row, dict) else (None, None)
        if not isinstance(pair[0], int | str) or not isinstance(pair[1], kinds):
            raise DataError(f"expected {left} and {right} in each of {key}, found row {number} without")
        pairs.append((pair[0], pair[1]))
    if key != "annotations" and len({pair[0] for pair in pairs}) < len(pairs):
        raise DataError(f"expected {key} of different {left}, found one twice")
    return pairs


def _compare(survey: Survey, part: str, listed: _List, source: str) -> Iterator[Problem]:
    """Where the files of a part are not those of its list: told once for each class folder."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, own in zip(survey.paths, survey.parts, strict=True):
        if own == part:
            found[path.parent.name].add(path.name)
    for folder in sorted(found.keys() | listed.files.keys()):
        where = images.printable(f"{part}/{folder}")
        if folder not in listed.files:
            expected = f"expected one of the {len(listed.files):,} class folders of {source}, found another"
            yield Problem("unknown class", where, f"{expected}; remove it, or unpack the set anew")
            continue
        files = listed.files[folder].keys()
        for kind, verb, others in (
            ("missing file", f"{len(files & found[folder]):,}, without", files - found[folder]),
            ("unlisted file", "also", found[folder] - files),
        ):
            if others:
                shown = images.printable(", ".join(sorted(others)[:5]) + ", ..." * (len(others) > 5))
                expected = f"expected the {len(files):,} files of {source}"
                yield Problem(kind, where, f"{expected}, found {verb} {shown}; unpack the set anew")


def _check_numbers(survey: Survey, name: str) -> Iterator[Problem]:
    """Without lists, class folders must at least be called as published ones are."""
    for folder in survey.classes:
        if not _NUMBER.fullmatch(folder):
            detail = (
                f"expected a class number such as 0001, found {folder!r}; remove it, or unpack the set anew"
            )
            yield Problem("unknown class", images.printable(folder), detail)
    if len(survey.classes) > SETS[name]:
        detail = f"expected at most the {SETS[name]:,} of {name}, found {len(survey.classes):,}"
        yield Problem("too many classes", images.printable(survey.root), f"{detail}; unpack the set anew")


def _names(survey: Survey, lists: Mapping[str, _List]) -> tuple[tuple[str, ...], list[Problem]]:
    """What the classes are called: their categories' names, or their folders' where no list is there."""
    problems: list[Problem] = []
    owners: dict[_Id, str] = {}
    called: dict[str, str] = {}
    for folder in survey.classes:
        own = {label for listed in lists.values() for label in listed.files.get(folder, {}).values()}
        others = {owners.setdefault(label, folder) for label in own} - {folder}
        if len(own) > 1 or others:
            several = f"one category for all its files, found {', '.join(sorted(map(str, own))[:5])}"
            words = several if len(own) > 1 else f"a category of its own, found that of {min(others)}"
            detail = f"expected {words}; get the annotations again"
            problems.append(Problem("label differs", images.printable(folder), images.printable(detail)))
        name = next(
            (listed.names[label] for listed in lists.values() for label in own & listed.names.keys()), folder
        )
        called[folder] = name.strip()
        try:
            check_name("class", called[folder])
        except TaskError as error:
            problems.append(
                Problem("name refused", images.printable(folder), f"{error}; get the annotations again")
            )
    # Whether the published names all differ is not known to us; a task's must.
    twice = Counter(called.values())
    return tuple(f"{name} ({key})" if twice[name] > 1 else name for key, name in called.items()), problems
