"""stolon teaches neural networks one task after another, for life, and lets them pass it on.

Importing this package imports nothing heavy; the names below are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stolon import learners, measure, nets, sharing, streams
    from stolon.agent import Agent
    from stolon.errors import StolonError
    from stolon.learner import Learner
    from stolon.outcomes import Epoch, Prediction, Size
    from stolon.tasks import Split, Stream, Task

__version__ = "0.1.0"

_HOME = {
    "Agent": "stolon.agent",
    "Epoch": "stolon.outcomes",
    "Learner": "stolon.learner",
    "Prediction": "stolon.outcomes",
    "Size": "stolon.outcomes",
    "Split": "stolon.tasks",
    "StolonError": "stolon.errors",
    "Stream": "stolon.tasks",
    "Task": "stolon.tasks",
    "learners": "",
    "measure": "",
    "nets": "",
    "sharing": "",
    "streams": "",
}

__all__ = [
    "Agent",
    "Epoch",
    "Learner",
    "Prediction",
    "Size",
    "Split",
    "StolonError",
    "Stream",
    "Task",
    "__version__",
    "learners",
    "measure",
    "nets",
    "sharing",
    "streams",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes are of any type
    if name not in _HOME:
        raise AttributeError(f"module 'stolon' has no attribute {name!r}")
    home = _HOME[name]
    return getattr(importlib.import_module(home), name) if home else importlib.import_module(f"stolon.{name}")


def __dir__() -> list[str]:
    return __all__
