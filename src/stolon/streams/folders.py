"""Folders of images as tasks: ``NAME/train|val|test/CLASS/*`` or ``NAME/CLASS/*``, named after the folder.

A missing ``val`` or ``test`` is a share of the training images of each class, and ``NAME/CLASS/*`` is the
same as ``NAME/train/CLASS/*`` alone. Which images these are is decided by the seed and each file's content,
so renaming files, or adding some, moves few others between parts, and copies stay together.

Everything is read and decoded once, before anything is learned; what is wrong is told together (the
kinds are listed in :mod:`stolon.streams.inspection`). What fits in memory is kept from that reading.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from stolon.errors import DataError, DataMissingError, DataProblemsError, Problem, SettingError
from stolon.streams import images, inspection, options
from stolon.streams.reading import CHECK_SIZE, IN_MEMORY_BYTES, How, as_stream, as_task, read
from stolon.tasks import Stream, Task


def read_task(
    path: str | Path,
    *,
    size: int,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.2,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
) -> Task:
    """One data set folder as a task.

    Args:
        path: the folder.
        size: side of the square that images are brought to, in pixels.
        seed: decides which images a missing ``val`` or ``test`` takes.
        val_share: the share of each class that a missing ``val`` takes; 0 leaves it empty.
        test_share: the share of each class that a missing ``test`` takes; 0 leaves it empty.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: keep decoded images in memory up to this; above it they are decoded in batches.

    Raises:
        DataMissingError: there is no such folder.
        DataProblemsError: anything is wrong with it; tells all of it.
        SettingError: a setting is out of its range.
    """
    how = How.checked(
        size, seed, shares=(val_share, test_share), workers=workers, limit_bytes=in_memory_limit_bytes
    )
    reading = read(_existing(path), how, in_memory_limit_bytes)
    if reading.problems:
        raise DataProblemsError(f"data set {images.printable(path)}", reading.problems)
    return as_task(reading, how)


def inspect(
    path: str | Path, *, val_share: float = 0.1, test_share: float = 0.2, workers: int = 0
) -> tuple[Problem, ...]:
    """Everything wrong with one data set folder; every image is decoded once, and none is kept.

    Args:
        path: the folder.
        val_share: as for :func:`read_task`: a class must have enough for it.
        test_share: likewise.
        workers: threads that decode; 0 takes one per core that this process may use.

    Raises:
        SettingError: a setting is out of its range.
    """
    how = How.checked(CHECK_SIZE, 0, shares=(val_share, test_share), workers=workers, limit_bytes=0)
    return read(inspection.survey(path), how, 0).problems


def check(path: str | Path, *, val_share: float = 0.1, test_share: float = 0.2, workers: int = 0) -> None:
    """Refuse a data set folder that has any problem; see :func:`inspect`.

    Args:
        path: the folder.
        val_share: as for :func:`read_task`.
        test_share: likewise.
        workers: threads that decode; 0 takes one per core that this process may use.

    Raises:
        DataProblemsError: anything is wrong with it; tells all of it.
        SettingError: a setting is out of its range.
    """
    problems = inspect(path, val_share=val_share, test_share=test_share, workers=workers)
    if problems:
        raise DataProblemsError(f"data set {images.printable(path)}", problems)


def make(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    size: int = 64,
    val_share: float = 0.1,
    test_share: float = 0.2,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
    check_first: bool = True,
) -> Stream:
    """Every data set folder of a tree as a task, sorted by name; SKILL-102 is read like this.

    Files beside the data sets (a licence, a list) belong to none of them and are passed over, as are sets
    in other file forms that other streams read: ``NAME/raw/*-ubyte[.gz]``, and folders of ``.npz`` or
    ``.bin`` files alone. Any other folder that is no data set is a problem; ``only`` leaves it out.

    Args:
        root: the tree; ``data`` in the current folder where it is not given.
        seed: decides which images a missing ``val`` or ``test`` takes.
        only: the data sets to take, in this order; all of them where it is not given.
        size: side of the square that images are brought to, in pixels.
        val_share: the share of each class that a missing ``val`` takes; 0 leaves it empty.
        test_share: the share of each class that a missing ``test`` takes; 0 leaves it empty.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data the whole stream keeps in memory.
        check_first: read all data sets now, so that no problem turns up after hours of learning; otherwise
            names and links are checked now, and images when their task is asked for.

    Raises:
        DataMissingError: the tree, or a data set named in ``only``, is not there.
        DataProblemsError: anything is wrong with any of them; tells all of it.
        SettingError: an option is out of its range.
    """
    how = How.checked(
        size, seed, shares=(val_share, test_share), workers=workers, limit_bytes=in_memory_limit_bytes
    )
    chosen = None if only is None else options.words("only", only)
    eager = options.flag("check_first", check_first)
    tree = options.root(root)
    found, problems = surveys(tree, chosen)
    return as_stream(
        "folders",
        tree,
        found,
        how,
        problems=problems,
        limit_bytes=in_memory_limit_bytes,
        check_first=eager,
    )


def sets(root: str | Path) -> dict[Path, int]:
    """The data set folders of a tree that :func:`make` takes, with how many images each holds; no image is read.

    Raises:
        DataMissingError: the tree is not there, or holds none.
        DataProblemsError: something is wrong with the tree itself.
    """
    found, problems = surveys(Path(root), None)
    if problems:
        raise DataProblemsError(f"data sets in {images.printable(root)}", problems)
    return {survey.root: len(survey.paths) for survey in found}


def surveys(tree: Path, only: tuple[str, ...] | None) -> tuple[list[inspection.Survey], list[Problem]]:
    """The data sets of a tree, listed but not read, and what is wrong with the tree itself.

    Args:
        tree: the folder that holds them.
        only: their names, in this order; all of them, sorted by name, where it is None.

    Raises:
        DataMissingError: the tree, or a data set named in ``only``, is not there.
        SettingError: a name in ``only`` is none of a folder.
    """
    shown = images.printable(tree.absolute())
    if not tree.is_dir():
        raise DataMissingError(
            f"expected a folder of data sets at {shown}, found none; put each data set there as "
            "NAME/train/CLASS/*, NAME/test/CLASS/* (or NAME/CLASS/* alone), or pass root="
        )
    listed = _visible(tree)
    if only is not None:
        for name in only:
            if Path(name).name != name or name.startswith("."):
                raise SettingError(f"only: expected names of folders in {shown}, found {name!r}")
        absent = [name for name in only if name not in listed]
        if absent:
            raise DataMissingError(
                f"expected the data sets {', '.join(absent)} in {shown}, found only "
                f"{', '.join(listed) or 'an empty folder'}; put them there, or leave them out of only="
            )
        listed = list(only)
    home = tree.resolve()
    problems: list[Problem] = []
    chosen = []
    for name in listed:
        path = tree / name
        problem = _link_problem(path, home) if path.is_symlink() else None
        if problem is not None:
            problems.append(problem)
        elif only is not None or (path.is_dir() and not _is_other_form(path)):
            chosen.append(name)
    problems += _clashes(chosen)
    if not chosen and not problems:
        raise DataMissingError(
            f"expected data sets in {shown}, found no folder of images; put each there as NAME/train/CLASS/*"
        )
    return [inspection.survey(tree / name) for name in chosen], problems


def _existing(path: str | Path) -> inspection.Survey:
    if not Path(path).is_dir():
        raise DataMissingError(
            f"expected a folder of images at {images.printable(path)}, found none; make one that holds "
            "train/CLASS/*, test/CLASS/* (or CLASS/* alone), or correct the path"
        )
    return inspection.survey(path)


def _clashes(names: Iterable[str]) -> list[Problem]:
    firsts: dict[str, str] = {}
    return [
        Problem("name clash by case", name, f"expected another name beside {first!r}; rename one")
        for name in names
        if (first := firsts.setdefault(inspection.fold(name), name)) != name
    ]


def _visible(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{images.printable(path)}: expected a readable folder, found: {error.strerror or error}; check "
            "its permissions"
        ) from error


def _link_problem(path: Path, home: Path) -> Problem | None:
    name = images.printable(path.name)
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # Python 3.11 reports a loop as RuntimeError
        return Problem("broken link", name, "expected a link to something, found one to nothing; remove it")
    if target.is_relative_to(home):
        return None
    shown = images.printable(target)
    return Problem("link out of the tree", name, f"expected a target in the tree, found {shown}; copy it in")


def _is_other_form(path: Path) -> bool:
    """Whether a folder holds a set that other streams read: idx files in raw/, or only arrays."""
    entries = [path / name for name in _visible(path)]
    if any(entry.is_dir() for entry in entries):
        raw = path / "raw"
        return raw.is_dir() and any("-idx" in name for name in _visible(raw))
    return any(entry.suffix in (".npz", ".bin") for entry in entries)
