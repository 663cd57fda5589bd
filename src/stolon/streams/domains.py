"""The same groups of classes in two or more domains: Office-Home as in LASEM, and PACS the same way.

A domain is a folder of images, ``DOMAIN/CLASS/*`` (``DOMAIN/train|val|test/CLASS/*`` is pooled), with the
same classes in each domain. Every group of classes is a task in the first domain, then in the second, and so
on. Each class is dealt out anew, 60 % to train on, 10 % to validate with, 30 % to test with, by the seed and
each file's content. All images are decoded once, when the stream is made, and kept.

Source:
    Lee et al., "Sharing less is more", submission to ICLR 2021, appendix A; Lifelong-ML/LASEM,
    classification/gen_data.py (the order of classes, and the groups).

Images of all proportions are squeezed into squares, anti-aliased. Deliberate differences: pixels are uint8, which
networks take as values from 0 to 1, like the released ones to half a grey level; shares are rounded, and what is
left over is trained on, where it is dropped there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stolon.errors import DataError, DataMissingError, DataProblemsError
from stolon.streams import images, inspection, options, reading
from stolon.streams.parts import class_groups
from stolon.streams.reading import IN_MEMORY_BYTES, How, Reading
from stolon.tasks import Stream, Task

OFFICE_HOME = (
    "Alarm_Clock", "Backpack", "Batteries", "Bed", "Bike", "Bottle", "Bucket", "Calculator", "Calendar",
    "Candles", "Chair", "Clipboards", "Computer", "Couch", "Curtains", "Desk_Lamp", "Drill", "Eraser",
    "Exit_Sign", "Fan", "File_Cabinet", "Flipflops", "Flowers", "Folder", "Fork", "Glasses", "Hammer",
    "Helmet", "Kettle", "Keyboard", "Knives", "Lamp_Shade", "Laptop", "Marker", "Monitor", "Mop", "Mouse",
    "Mug", "Notebook", "Oven", "Pan", "Paper_Clip", "Pen", "Pencil", "Postit_Notes", "Printer", "Push_Pin",
    "Radio", "Refrigerator", "Ruler", "Scissors", "Screwdriver", "Shelf", "Sink", "Sneakers", "Soda",
    "Speaker", "Spoon", "Table", "Telephone", "ToothBrush", "Toys", "Trash_Can", "TV", "Webcam",
)  # fmt: skip
"""Office-Home's classes in the order of the authors' code: sorted as if all letters were small."""

OFFICE_HOME_GROUPS = (
    (63, 54, 55, 59, 47, 8, 5, 56, 18, 50, 3, 57, 13),
    (62, 19, 21, 35, 64, 46, 27, 10, 39, 17, 22, 34, 30),
    (48, 15, 51, 6, 40, 31, 4, 36, 45, 41, 16, 14, 11),
    (9, 29, 1, 44, 33, 26, 25, 32, 53, 12, 43, 38, 60),
    (28, 2, 49, 37, 20, 23, 58, 24, 52, 61, 7, 0, 42),
)
"""The classes of LASEM's tasks in each domain, as indices into :data:`OFFICE_HOME`."""

OFFICE_HOME_FOLDERS = {
    "Art": ("Art",),
    "Clipart": ("Clipart",),
    "Product": ("Product",),
    "Real World": ("Real World", "RealWorld", "Real_World"),
}
"""Office-Home's domains, and what their folders may be called."""

PACS_FOLDERS = {
    "art": ("pacs_art", "art_painting"),
    "cartoon": ("pacs_cartoon", "cartoon"),
    "sketch": ("pacs_sketch", "sketch"),
    "photo": ("pacs_photo", "photo"),
}
"""PACS' domains, and what their folders may be called: in shared/data, and as published."""


def office_home(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    domains: Sequence[str] = ("Product", "Real World"),
    tasks: int | None = None,
    size: int = 128,
    val_share: float = 0.1,
    test_share: float = 0.3,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
) -> Stream:
    """LASEM's Office-Home: five tasks of 13 classes in each of two domains.

    The domains are looked for in ``OfficeHomeDataset_10072016/``, in ``OfficeHomeDataset/``, and in the root
    itself.

    Args:
        root: the folder that holds ``OfficeHomeDataset_10072016/``, or the domains.
        seed: decides which images are validation and test data.
        domains: of ``"Art"``, ``"Clipart"``, ``"Product"`` and ``"Real World"``, in the order of their tasks.
        tasks: how many tasks; five for each domain where it is not given.
        size: side of the square that images are brought to, in pixels.
        val_share: the share of each class that is validation data.
        test_share: the share of each class that is test data.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data is kept in memory; the two domains are 0.43 GB. Images
            beyond it are decoded in batches.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: a domain is not there.
        DataProblemsError: anything is wrong with its images; tells all of it.
        DataError: the classes are not those of Office-Home.
    """
    chosen = _choose(domains, OFFICE_HOME_FOLDERS)
    most = len(OFFICE_HOME_GROUPS) * len(chosen)
    wanted = most if tasks is None else options.whole("tasks", tasks, 1, most)
    limit = in_memory_limit_bytes
    how = How.checked(size, seed, shares=(val_share, test_share), workers=workers, limit_bytes=limit)
    home = options.root(root)
    places = [home / "OfficeHomeDataset_10072016", home / "OfficeHomeDataset", home]
    paths = {
        name: _find(
            "Office-Home",
            places,
            OFFICE_HOME_FOLDERS[name],
            "it is handed out at https://www.hemanthdv.org/officeHomeDataset.html; unpack it there",
        )
        for name in chosen
    }
    surveys = {name: inspection.survey(path) for name, path in paths.items()}
    for survey in surveys.values():
        _check_classes(survey, OFFICE_HOME)
    groups = [[OFFICE_HOME[label] for label in group] for group in OFFICE_HOME_GROUPS]
    return _Domains.read(surveys, how, limit).stream("office-home-lasem", groups)[:wanted]


def pacs(
    *,
    root: str | Path | None = None,
    seed: int = 0,
    domains: Sequence[str] = ("art", "cartoon"),
    classes_per_task: int = 3,
    order: str = "sequential",
    tasks: int | None = None,
    size: int = 128,
    val_share: float = 0.1,
    test_share: float = 0.3,
    workers: int = 0,
    in_memory_limit_bytes: int = IN_MEMORY_BYTES,
) -> Stream:
    """The recipe of :func:`office_home` with the images of PACS: groups of three classes in two domains.

    shared/data has six classes of 80 images in three domains (dog, elephant, giraffe, guitar, horse, house):
    two tasks of three classes in each, with 144 training, 24 validation and 72 test images. Published, PACS
    has seven, of which the last (person) is left over then.

    Args:
        root: the folder that holds ``pacs_art/`` and so on, or ``art_painting/`` as published.
        seed: decides which images are validation and test data, and the order of classes if that is seeded.
        domains: of ``"art"``, ``"cartoon"``, ``"sketch"`` and ``"photo"``, in the order of their tasks.
        classes_per_task: how many classes in each task, 2 to 7; the groups are the same in each domain.
        order: ``"sequential"`` or ``"seeded"``: the order in which classes are dealt out.
        tasks: how many tasks; all groups of all domains where it is not given.
        size: side of the square that images are brought to, in pixels.
        val_share: the share of each class that is validation data.
        test_share: the share of each class that is test data.
        workers: threads that decode; 0 takes one per core that this process may use.
        in_memory_limit_bytes: how much decoded data is kept in memory; images beyond it are decoded in
            batches.

    Raises:
        SettingError: an option is out of its range.
        DataMissingError: a domain is not there.
        DataProblemsError: anything is wrong with its images; tells all of it.
        DataError: the domains have different classes.
    """
    chosen = _choose(domains, PACS_FOLDERS)
    options.whole("classes_per_task", classes_per_task, 2, 7)
    options.choice("order", order, ("sequential", "seeded"))
    most = 7 // classes_per_task * len(chosen)
    wanted = most if tasks is None else options.whole("tasks", tasks, 1, most)
    limit = in_memory_limit_bytes
    how = How.checked(size, seed, shares=(val_share, test_share), workers=workers, limit_bytes=limit)
    home = options.root(root)
    advice = "https://domaingeneralization.github.io says where it is handed out; put it there"
    surveys = {name: inspection.survey(_find("PACS", [home], PACS_FOLDERS[name], advice)) for name in chosen}
    classes = surveys[chosen[0]].classes
    for survey in surveys.values():
        _check_classes(survey, classes)
    groups = class_groups(len(classes), None, classes_per_task, order, how.seed)
    named = [[classes[label] for label in group] for group in groups]
    return _Domains.read(surveys, how, limit).stream("pacs-office-home", named)[:wanted]


@dataclass(frozen=True)
class _Domains:
    """Domains that have been read once."""

    readings: Mapping[str, Reading]
    how: How

    @staticmethod
    def read(surveys: Mapping[str, inspection.Survey], how: How, limit_bytes: int) -> "_Domains":
        how = replace(how, squeeze=True)  # as the paper resizes: its images are of all proportions
        readings = {}
        left = limit_bytes
        for name, survey in surveys.items():
            made = reading.read(reading.pooled(survey), how, left)
            # Published sets have such copies. Those of one class are dealt out together.
            problems = [problem for problem in made.problems if problem.kind != "same image in classes"]
            if problems:
                raise DataProblemsError(f"domain {images.printable(survey.root)}", problems)
            left -= 0 if made.pixels is None else made.pixels.nbytes
            readings[name] = made
        return _Domains(readings, how)

    def stream(self, name: str, groups: Sequence[Sequence[str]]) -> Stream:
        made = [
            partial(self.task, f"{name}-{_plain(domain)}-{i}", domain, group)
            for domain in self.readings
            for i, group in enumerate(groups)
        ]
        return Stream(name, made)

    def task(self, name: str, domain: str, group: Sequence[str]) -> Task:
        known = self.readings[domain]
        labels = [known.survey.classes.index(class_name) for class_name in group]
        return reading.as_task(known, self.how, name=name, classes=labels)


def _plain(domain: str) -> str:
    return domain.lower().replace(" ", "-")


def _choose(domains: Sequence[str], known: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    chosen = options.words("domains", domains)
    for name in chosen:
        options.choice("domains", name, tuple(known))
    return chosen


def _find(what: str, places: Sequence[Path], names: Sequence[str], advice: str) -> Path:
    """The first of the folders that is there."""
    paths = [place / name for place in places for name in names]
    for path in paths:
        if path.is_dir():
            return path
    listed = " or ".join(images.printable(path.absolute()) for path in paths)
    raise DataMissingError(
        f"{what}: expected a folder of class folders at {listed}, found none; {advice}, or pass root="
    )


def _check_classes(survey: inspection.Survey, expected: Sequence[str]) -> None:
    absent = [name for name in expected if name not in survey.classes]
    others = [name for name in survey.classes if name not in expected]
    if absent or others:
        found = [f"{', '.join(absent[:5])} missing"] * bool(absent)
        found += [f"{', '.join(others[:5])} besides"] * bool(others)
        raise DataError(
            f"{images.printable(survey.root)}: expected the {len(expected)} classes {expected[0]} to "
            f"{expected[-1]}, found {images.printable(' and '.join(found))}; get it again, or rename them"
        )
