"""What a folder of images holds and what is wrong with it, found before anything is learned.

:func:`survey` looks at names and links alone; :func:`judge` adds what reading the files has shown. Every
problem is a value (:class:`stolon.errors.Problem`), so that all of them can be told together, and a folder
with problems is refused as a whole: skipping a file or a class would shift what labels mean.

Kinds of problems:

=========================  ============================================================================
``missing folder``         the folder is not there, or is no folder
``missing part``           ``val`` or ``test`` without ``train``
``unknown folder``         a folder beside ``train``, ``val`` and ``test``, or inside a class
``stray file``             a file where only folders belong
``no classes``             no class folders
``too many classes``       more than 10,000 classes
``too many images``        more than 5,000,000 images
``class missing in part``  a class that another part has
``empty class``            a class folder without files
``one-sample class``       fewer than two samples to train on
``too few samples``        not enough samples to give each part one
``name clash by case``     two names that are one on other computers (macOS, Windows)
``name refused``           a class or task name that is too long, or not printable
``link out of the tree``   a link to something outside the data set
``broken link``            a link to nothing, or to itself
``not an image``           content of no format that is taken
``broken image``           damaged, cut off
``animation``              more than one picture in a file
``image too large``        more than 25 megapixels or 64 MiB
``unreadable file``        no permission, or the disk fails
``same image in parts``    the same file content in train and test, train and val, or val and test
``same image in classes``  the same file content in two classes
=========================  ============================================================================

Names that begin with a dot are nobody's data (``.DS_Store``, ``.git``) and are passed over; all else counts.
The same content twice within one part of one class is allowed: it weighs more, and leaks nothing.
"""

import itertools
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stolon.errors import ImageError, Problem, TaskError
from stolon.streams import images
from stolon.streams.parts import part_sizes
from stolon.tasks import check_name

PARTS = ("train", "val", "test")
"""The folders that divide a data set; without ``train`` among them, folders are classes."""

MAX_IMAGES = 5_000_000
"""Most images in one data set."""

MAX_CLASSES = 10_000
"""Most classes in one data set."""


@dataclass(frozen=True)
class Survey:
    """A data set's files, before any is read.

    Attributes:
        root: its folder, with links resolved.
        name: what the folder is called, and so the task.
        classes: class names, sorted.
        divided: whether the folder divides its images into parts itself.
        given: those parts; ``train`` alone where it does not.
        paths: all files, by part, class and name.
        parts: the part of each file.
        labels: the class index of each file.
        problems: what is wrong so far.
        called: what the folder of a part is called, where that is not the part's name.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    divided: bool
    given: tuple[str, ...]
    paths: tuple[Path, ...]
    parts: tuple[str, ...]
    labels: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    called: Mapping[str, str] = field(default_factory=dict)


def survey(path: str | Path, *, passed_over: Sequence[str] = ()) -> Survey:
    """List a data set, ``NAME/train|val|test/CLASS/*`` or ``NAME/CLASS/*``, without reading files.

    Args:
        path: its folder.
        passed_over: folders in it that are as if they were not there.
    """
    given_path = Path(path)
    # Not resolve(): a link to a data set is called what the link is called.
    name = Path(os.path.abspath(given_path)).name  # noqa: PTH100
    walk = _Walk(Path(os.path.realpath(given_path)))
    if not walk.root.is_dir():
        walk.add(
            "missing folder", walk.root, "expected a folder of class folders, found none; check the path"
        )
        nothing = Survey(walk.root, name, (), divided=False, given=("train",), paths=(), parts=(), labels=())
        return replace(nothing, problems=tuple(walk.problems))
    walk.check_name("task", name, walk.root)
    folders = [folder for folder in walk.folders(walk.root) if folder not in passed_over]
    given = tuple(part for part in PARTS if part in folders)
    if given:
        walk.check_clashes({folder: walk.root / folder for folder in folders})
        found = _classes_in_parts(walk, folders, given)
    else:
        found = {"train": {folder: walk.root / folder for folder in folders}}
    classes = tuple(sorted({name for listed in found.values() for name in listed}))
    if not classes:
        walk.add("no classes", walk.root, "expected a folder for each class, found none; see docs/streams.md")
    if len(classes) > MAX_CLASSES:
        walk.add("too many classes", walk.root, f"expected at most {MAX_CLASSES:,}, found {len(classes):,}")
    for name_ in classes:
        walk.check_name("class", name_, walk.root / name_)
    walk.check_clashes({name_: _first(found, name_) for name_ in classes})
    rows: list[tuple[Path, str, int]] = []
    for part, listed in found.items():
        for label, class_name in enumerate(classes):
            if class_name not in listed:
                walk.add(
                    "class missing in part",
                    walk.root / part / class_name,
                    f"expected the same classes in {', '.join(found)}, found none called {class_name!r} in "
                    f"{part}; add it there, or remove it from the others",
                )
            else:
                rows += [(file, part, label) for file in walk.files(listed[class_name])]
    if len(rows) > MAX_IMAGES:
        walk.add("too many images", walk.root, f"expected at most {MAX_IMAGES:,}, found {len(rows):,}")
    return Survey(
        walk.root,
        name,
        classes,
        bool(given),
        given or ("train",),
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
        tuple(walk.problems),
    )


def judge(
    found: Survey, answers: Sequence[str | ImageError], *, val_share: float, test_share: float
) -> tuple[Problem, ...]:
    """All problems of a data set whose files have been read.

    Args:
        found: its survey.
        answers: for each file the SHA-256 of its content, or why it is no image.
        val_share: the share of training data that a missing ``val`` takes.
        test_share: the share of training data that a missing ``test`` takes.
    """
    problems = list(found.problems)
    for path, answer in zip(found.paths, answers, strict=True):
        if isinstance(answer, ImageError):
            where = relative(path, found.root)
            problems.append(
                Problem(answer.kind, where, str(answer).removeprefix(f"{images.printable(path)}: "))
            )
    problems += _counts(found, answers, val_share, test_share)
    problems += _copies(found, answers)
    return tuple(sorted(problems, key=lambda problem: (problem.where, problem.kind, problem.detail)))


def missing_shares(given: Iterable[str], val_share: float, test_share: float) -> tuple[float, float]:
    """The shares that training data must give to ``val`` and ``test``: none to a part that is there."""
    listed = tuple(given)
    return (0.0 if "val" in listed else val_share, 0.0 if "test" in listed else test_share)


def relative(path: Path, root: Path) -> str:
    """A path within a data set as it can be printed anywhere; the root itself is given whole."""
    return images.printable(path if path == root else path.relative_to(root))


def fold(name: str) -> str:
    """What a name is on computers that ignore case and encode accents their own way."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _classes_in_parts(
    walk: "_Walk", folders: Sequence[str], given: Sequence[str]
) -> dict[str, dict[str, Path]]:
    for folder in folders:
        if folder not in PARTS:
            walk.add(
                "unknown folder",
                walk.root / folder,
                f"expected only train, val and test beside {given[0]}, found {folder!r}; move or rename it",
            )
    if "train" not in given:
        walk.add(
            "missing part",
            walk.root / "train",
            f"expected train beside {', '.join(given)}, found none; add it",
        )
    return {
        part: {name: walk.root / part / name for name in walk.folders(walk.root / part)} for part in given
    }


def _counts(
    found: Survey, answers: Sequence[str | ImageError], val_share: float, test_share: float
) -> Iterator[Problem]:
    """Classes with too few samples. Unreadable files count: they are reported, and will be replaced."""
    files = Counter(zip(found.parts, found.labels, strict=True))
    shares = missing_shares(found.given, val_share, test_share)
    contents: dict[int, set[str]] = defaultdict(set)
    for path, part, label, answer in zip(found.paths, found.parts, found.labels, answers, strict=True):
        if part == "train":
            contents[label].add(answer if isinstance(answer, str) else str(path))
    reported = {problem.where for problem in found.problems if problem.kind == "class missing in part"}
    for part, (label, name) in itertools.product(found.given, enumerate(found.classes)):
        folder = found.root / found.called.get(part, part) / name if found.divided else found.root / name
        where, count = relative(folder, found.root), files[part, label]
        if where in reported:
            continue
        if count == 0:
            yield Problem("empty class", where, "expected images, found none; add some, or remove the class")
        elif part == "train" and count == 1:
            yield Problem("one-sample class", where, "expected two images or more, found one; add some")
        elif part == "train" and any(shares):
            different = len(contents[label])
            sizes = part_sizes(different, shares)
            if sizes is None or different - sum(sizes) < 2:
                names = " and ".join(
                    f"{share:.0%} {part}" for share, part in zip(shares, PARTS[1:], strict=True) if share
                )
                yield Problem(
                    "too few samples",
                    where,
                    f"expected enough to leave two for training after {names}, found {different} different "
                    "images; add some",
                )


def _copies(found: Survey, answers: Sequence[str | ImageError]) -> Iterator[Problem]:
    """The same content in two parts, or in two classes: told once for each content."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, answer in enumerate(answers):
        if isinstance(answer, str):
            places[answer].append(index)
    for indices in places.values():
        parts = {found.parts[index] for index in indices}
        labels = {found.labels[index] for index in indices}
        if len(parts) == 1 and len(labels) == 1:
            continue
        kind = "same image in parts" if len(parts) > 1 else "same image in classes"
        first, *others = (relative(found.paths[index], found.root) for index in indices)
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        yield Problem(
            kind, first, f"expected it once, found it also as {', '.join(others[:5])}{more}; keep one"
        )


def _first(found: Mapping[str, Mapping[str, Path]], name: str) -> Path:
    return next(listed[name] for listed in found.values() if name in listed)


class _Walk:
    """Lists folders of one data set and notes what is wrong with their names and links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[Problem] = []

    def add(self, kind: str, path: Path, detail: str) -> None:
        self.problems.append(Problem(kind, relative(path, self.root), detail))

    def folders(self, path: Path) -> list[str]:
        """The names of a folder's folders, sorted; files among them are problems."""
        folders = []
        for name, is_folder in self._entries(path):
            if is_folder:
                folders.append(name)
            else:
                self.add(
                    "stray file", path / name, "expected only folders here, found a file; move or remove it"
                )
        return folders

    def files(self, path: Path) -> list[Path]:
        """A class's files, sorted by name; folders among them are problems."""
        files = []
        for name, is_folder in self._entries(path):
            if is_folder:
                self.add(
                    "unknown folder",
                    path / name,
                    "expected only images in a class, found a folder; move it out",
                )
            else:
                files.append(path / name)
        self.check_clashes({file.name: file for file in files})
        return files

    def check_name(self, kind: str, name: str, path: Path) -> None:
        try:
            check_name(kind, name)
        except TaskError as error:
            self.add("name refused", path, f"{error}; rename it")

    def check_clashes(self, paths: Mapping[str, Path]) -> None:
        """Note names that differ by case, or by the way accents are encoded, alone."""
        firsts: dict[str, str] = {}
        for name, path in paths.items():
            first = firsts.setdefault(fold(name), name)
            if first != name:
                self.add("name clash by case", path, f"expected another name beside {first!r}; rename one")

    def _entries(self, path: Path) -> Iterator[tuple[str, bool]]:
        """Each visible entry and whether it is a folder; links that lead nowhere or out are noted instead."""
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.add("unreadable file", path, f"expected a readable folder, found: {error.strerror or error}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not self._is_link_inside(path / entry.name):
                continue
            yield entry.name, entry.is_dir()

    def _is_link_inside(self, link: Path) -> bool:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # Python 3.11 and 3.12 report a loop as RuntimeError
            self.add("broken link", link, "expected a link to something, found one to nothing; remove it")
            return False
        if target.is_relative_to(self.root):
            return True
        shown = images.printable(target)
        self.add(
            "link out of the tree", link, f"expected a target in the data set, found {shown}; copy it in"
        )
        return False
