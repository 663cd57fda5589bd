"""Experiments: learners x streams x seeds from one file, run in a process pool, resumed after any kill.

:func:`read` fills an :class:`Experiment` from a file and flags, :func:`run` runs it into one append-only
results file, and :mod:`stolon.experiments.report` draws that file. Importing this package imports no heavy library.
"""

import importlib
from typing import TYPE_CHECKING, Any

from stolon.errors import TrialsFailedError
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec, check, read

if TYPE_CHECKING:
    from stolon.evaluation import evaluate
    from stolon.experiments.results import Results
    from stolon.experiments.runner import Event, run

_HOME = {
    "Event": "stolon.experiments.runner",
    "Results": "stolon.experiments.results",
    "evaluate": "stolon.evaluation",
    "run": "stolon.experiments.runner",
}

__all__ = [
    "Event",
    "Experiment",
    "LearnerSpec",
    "Results",
    "StreamSpec",
    "TrialsFailedError",
    "check",
    "evaluate",
    "read",
    "run",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes are of any type
    if name not in _HOME:
        raise AttributeError(f"module 'stolon.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
