"""Checks of settings: each names the setting, what was expected and what was found."""

from collections.abc import Sequence

from stolon.errors import SettingError


def at_least(name: str, value: float, low: float) -> None:
    """Refuse a value below ``low``."""
    if not value >= low:
        raise SettingError(f"{name}: expected at least {low}, found {value}")


def above(name: str, value: float, low: float) -> None:
    """Refuse a value that is not above ``low``."""
    if not value > low:
        raise SettingError(f"{name}: expected more than {low}, found {value}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high]."""
    if not low <= value <= high:
        raise SettingError(f"{name}: expected {low} to {high}, found {value}")


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise SettingError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
