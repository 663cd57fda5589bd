"""Checks of a stream's options: typed, in range, and refused before any data are read."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stolon import settings
from stolon.errors import SettingError

DEFAULT_ROOT = Path("data")
"""Where data are looked for when no ``root`` is given: ``data`` in the current folder."""


def whole(name: str, value: Any, low: int, high: int) -> int:  # noqa: ANN401 - anything may come from a file
    """A whole number within [low, high].

    Raises:
        SettingError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingError(f"{name}: expected a whole number from {low} to {high}, found {value!r}")
    settings.within(name, value, low, high)
    return value


def real(name: str, value: Any, low: float, high: float) -> float:  # noqa: ANN401
    """A finite number within [low, high].

    Raises:
        SettingError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(f"{name}: expected a number from {low} to {high}, found {value!r}")
    settings.within(name, value, low, high)
    return float(value)


def flag(name: str, value: Any) -> bool:  # noqa: ANN401
    """True or False.

    Raises:
        SettingError: it is neither.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{name}: expected true or false, found {value!r}")
    return value


def choice(name: str, value: Any, known: Sequence[str]) -> str:  # noqa: ANN401
    """One of the known words.

    Raises:
        SettingError: it is not.
    """
    settings.one_of(name, value, known)
    return str(value)


def words(name: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401
    """A list of one or more distinct words.

    Raises:
        SettingError: it is not.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SettingError(f"{name}: expected a list of names, found {value!r}")
    listed = tuple(value)
    if not listed or not all(isinstance(word, str) for word in listed) or len(set(listed)) < len(listed):
        raise SettingError(f"{name}: expected one or more distinct names, found {value!r}")
    return listed


def numbers(name: str, value: Any, low: int, high: int) -> tuple[int, ...]:  # noqa: ANN401
    """A list of one or more distinct whole numbers within [low, high].

    Raises:
        SettingError: it is not.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise SettingError(f"{name}: expected a list of numbers from {low} to {high}, found {value!r}")
    listed = tuple(whole(name, number, low, high) for number in value)
    if len(set(listed)) < len(listed):
        raise SettingError(f"{name}: expected distinct numbers, found {value!r}")
    return listed


def seed(value: Any) -> int:  # noqa: ANN401
    """A whole number, as the seed of everything random.

    Raises:
        SettingError: it is not.
    """
    return whole("seed", value, -(2**63), 2**63 - 1)


def shares(val: Any, test: Any = 0.0) -> tuple[float, float]:  # noqa: ANN401
    """The shares of validation and test data, which leave at least a tenth for training.

    Raises:
        SettingError: they do not.
    """
    pair = real("val_share", val, 0.0, 0.9), real("test_share", test, 0.0, 0.9)
    if sum(pair) > 0.9:
        raise SettingError(f"val_share + test_share: expected at most 0.9, found {sum(pair)}")
    return pair


def root(value: Any) -> Path:  # noqa: ANN401
    """The folder that data are looked for in.

    Raises:
        SettingError: it is no path.
    """
    if value is None:
        return DEFAULT_ROOT
    if not isinstance(value, str | Path) or not str(value):
        raise SettingError(f"root: expected a folder, found {value!r}")
    return Path(value).expanduser()
