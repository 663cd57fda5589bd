"""How the command ends: one number per kind of refusal, documented in docs/command-line.md."""

from typing import Final

from stolon.errors import (
    BackboneError,
    DataError,
    KeyFileError,
    LinkError,
    ModuleRefusedError,
    RecipeChangedError,
    SettingError,
    StolonError,
    StoreError,
    TaskError,
)

OK: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
"""Stopped by Ctrl-C, as shells number it; what was learned so far is saved."""

_BY_KIND: Final[tuple[tuple[type[StolonError], int], ...]] = (
    (SettingError, 2),
    (DataError, 3),
    (TaskError, 4),
    (BackboneError, 5),
    (StoreError, 6),
    (RecipeChangedError, 7),
    (LinkError, 8),
    (ModuleRefusedError, 9),
    (KeyFileError, 10),
)


def of(error: StolonError) -> int:
    """The exit code of an error.

    Example:
        >>> of(SettingError("epochs: expected at least 1, found 0"))
        2
    """
    return next((code for kind, code in _BY_KIND if isinstance(error, kind)), FAILED)
