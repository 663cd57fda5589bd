"""Where an experiment's data are looked for."""

from pathlib import Path


def datasets_of(root: str | None) -> str | None:
    """``datasets/`` of the folder that was given, where it has that; else the folder itself."""
    return str(Path(root) / "datasets") if root is not None and (Path(root) / "datasets").is_dir() else root
