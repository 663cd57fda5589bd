"""Real data as streams of tasks: ``streams.make("mnist-permuted", root="data", tasks=10)``.

Importing this package imports none of the streams; each is one function, loaded when it is first made.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

from stolon.errors import SettingError, UnknownNameError
from stolon.tasks import Stream

_HOMES = {
    "digits-split": "stolon.streams.digits:split",
    "digits-rotated": "stolon.streams.digits:rotated",
    "digits-permuted": "stolon.streams.digits:permuted",
    "digits-mixed": "stolon.streams.digits:mixed",
    "mnist": "stolon.streams.mnist:whole",
    "mnist-split": "stolon.streams.mnist:split",
    "mnist-rotated": "stolon.streams.mnist:rotated",
    "mnist-permuted": "stolon.streams.mnist:permuted",
    "idx": "stolon.streams.mnist:sets",
    "cifar10-split": "stolon.streams.cifar:split10",
    "cifar100-split": "stolon.streams.cifar:split100",
    "cifar100-lasem": "stolon.streams.lasem:cifar100",
    "stl10-lasem": "stolon.streams.stl:stl10",
    "cifar10-stl": "stolon.streams.stl:cifar10",
    "office-home-lasem": "stolon.streams.domains:office_home",
    "pacs-office-home": "stolon.streams.domains:pacs",
    "imagenet-split": "stolon.streams.imagenet:imagenet",
    "tiny-imagenet-split": "stolon.streams.imagenet:tiny",
    "decathlon": "stolon.streams.decathlon:challenge",
    "decathlon-folders": "stolon.streams.decathlon:stand_ins",
    "folders": "stolon.streams.folders:make",
}


def names() -> tuple[str, ...]:
    """The streams that :func:`make` knows."""
    return tuple(_HOMES)


def make(name: str, *, root: str | Path | None = None, seed: int = 0, **options: Any) -> Stream:  # noqa: ANN401 - values of any type
    """A stream of tasks; the same seed gives the same stream.

    Args:
        name: one of :func:`names`.
        root: the folder that data are looked for in; ``data`` in the current folder where it is not given.
        seed: all that is random about the stream is a function of it.
        options: the stream's own; the function that the name stands for documents them.

    Raises:
        UnknownNameError: no such stream.
        SettingError: an option is unknown or out of its range; nothing has been read.
        DataMissingError: the data are not there; says where to get them and where to put them.
        DataError: the data are not what they should be.

    Example:
        >>> [task.name for task in make("digits-split", tasks=2, classes_per_task=3)]
        ['digits-split-0', 'digits-split-1']
    """
    function = find(name)
    known = [key for key in inspect.signature(function).parameters if key not in ("root", "seed")]
    for key in options:
        if key not in known:
            raise SettingError(f"unknown option {key!r} of stream {name}; known are: {', '.join(known)}")
    made: Stream = function(root=root, seed=seed, **options)
    return made


def find(name: str) -> Any:  # noqa: ANN401 - streams share no signature beyond root and seed
    """The function that makes a stream.

    Raises:
        UnknownNameError: no such stream.
    """
    if name not in _HOMES:
        raise UnknownNameError("stream", name, names())
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
