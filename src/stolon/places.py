"""Where things are when nobody says: no heavy library is needed to know it."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The store's folder: ``STOLON_HOME``, or a folder among the user's data."""
    return Path(os.environ.get("STOLON_HOME") or platformdirs.user_data_path("stolon"))
