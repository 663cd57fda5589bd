"""The journal file that a search's study lies in: opened, checked and repaired; Optuna's errors as ours."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stolon import durable
from stolon.errors import RecipeChangedError, StolonError, StoreDamagedError, StoreFullError
from stolon.records import Json

if TYPE_CHECKING:
    from optuna.storages import JournalStorage
    from optuna.study import Study

DIRECTIONS: Final = ("maximize", "minimize")
"""Of the average gain, and of the parameters."""
_STUDY: Final = "search"


def open_study(path: Path, *, is_new: bool = True) -> "Study":
    """The study in a file.

    Its own sampler is never asked: the default one would leave marks on trials, and draw once more for each handle.

    Args:
        path: the file.
        is_new: make the file and the study where they are not there; otherwise that is a ``KeyError``.
    """
    import optuna

    storage, sampler = _storage(path), optuna.samplers.RandomSampler(seed=0)
    if not is_new:
        return optuna.load_study(study_name=_STUDY, storage=storage, sampler=sampler)
    return optuna.create_study(
        study_name=_STUDY, storage=storage, sampler=sampler, directions=DIRECTIONS, load_if_exists=True
    )


def check_recipe(path: Path, recipe: Mapping[str, Json]) -> None:
    """Refuse a file that holds a search of another recipe; it is as it was.

    Raises:
        RecipeChangedError: it does; names the difference.
        StoreDamagedError: it is no journal.
    """
    import optuna

    with ours(path):
        is_there = _STUDY in optuna.get_all_study_names(_storage(path))
        old = open_study(path, is_new=False).user_attrs.get("recipe") if is_there else None
    if not is_there and is_begun(path):  # a torn first line is a search that was never begun
        raise StoreDamagedError(
            f"{path} lacks its beginning: no search is told in it; restore it from a copy, or begin anew elsewhere"
        )
    if old is None:
        return
    before, now = _flat(old), _flat(recipe)
    for key in dict.fromkeys([*now, *before]):
        if before.get(key) != now.get(key):
            raise RecipeChangedError(
                f"{path} was begun with {key} = {before.get(key)!r}, found {now.get(key)!r}; use what it was "
                "begun with, or another folder"
            )


def is_begun(path: Path) -> bool:
    """Whether a file has a whole line; no more of it is read."""
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def repair(path: Path) -> None:
    """End a file with a whole line, and let go of what a killed writer held: nobody else writes to it.

    Optuna would glue the next line to a torn one, and wait half a minute for the lock.
    """
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        durable.write(path, data[: data.rfind(b"\n") + 1])
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}.lock").unlink()


@contextmanager
def ours(path: Path) -> Iterator[None]:
    """Within it, Optuna's errors are ours, and it tells of no more than what is wrong.

    Raises:
        StoreDamagedError: what it read makes no sense to it.
        StoreFullError: the disk refused.
    """
    import optuna  # noqa: F401 - first: it sets the level of its logger when it is imported

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    except StolonError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError) as error:
        raise StoreDamagedError(
            f"{path} is no journal of a search, or damaged: {error!r}; restore it from a copy, or begin anew elsewhere"
        ) from error
    except OSError as error:
        raise StoreFullError(
            f"cannot use {path}: {error.strerror or error}; free space or check permissions, then try again"
        ) from error
    finally:
        logger.setLevel(level)


def as_json(value: Json) -> Json:
    """A value as it comes back from a file."""
    return json.loads(json.dumps(value, allow_nan=False))


def _flat(values: Mapping[str, Json], start: str = "") -> dict[str, Json]:
    """Nested objects as one, so that a difference is named where it is."""
    found: dict[str, Json] = {}
    for key, value in values.items():
        found.update(_flat(value, f"{start}{key}.") if isinstance(value, dict) else {f"{start}{key}": value})
    return found


def _storage(path: Path) -> "JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))
