"""Checks of settings: each names the setting, what was expected and what was found."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from stolon.errors import SettingError


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a value below ``low``."""
    _number(name, value)
    if not value >= low:
        raise SettingError(f"{name}: expected at least {low}, found {value}")


def whole(name: str, value: int, low: int) -> None:
    """Refuse what is not a whole number, or below ``low``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(f"{name}: expected a whole number, found {value!r}")
    at_least(name, value, low)


def above(name: str, value: float, low: float) -> None:
    """Refuse a value that is not above ``low``."""
    _number(name, value)
    if not value > low:
        raise SettingError(f"{name}: expected more than {low}, found {value}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high]."""
    _number(name, value)
    if not low <= value <= high:
        raise SettingError(f"{name}: expected {low} to {high}, found {value}")


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise SettingError(f"{name}: expected one of {', '.join(known)}, found {value!r}")


def flags(settings: Any) -> None:  # noqa: ANN401 - any dataclass
    """Refuse what is declared as true or false and is neither: ``"no"`` would mean yes."""
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if entry.type in (bool, "bool") and not isinstance(value, bool):
            raise SettingError(f"{entry.name}: expected True or False, found {value!r}")


def _number(name: str, value: float) -> None:
    """Refuse what is not a finite number: infinities pass comparisons and break what comes after."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(f"{name}: expected a finite number, found {value!r}")
