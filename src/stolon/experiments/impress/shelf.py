"""What a unit has trained, kept on disk, so that a run that was killed does not train it again."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from stolon import durable
from stolon.errors import StoreDamagedError
from stolon.masks.memory import Kept, StoredMask, below


@final
class Shelf:
    """A folder of safetensors files, each wholly there or not at all.

    Args:
        folder: where; made when something is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def masks(self, name: str, make: Callable[[], Sequence[StoredMask]]) -> list[StoredMask]:
        """Masks that were trained together, made now unless they are there.

        Raises:
            StoreDamagedError: a file is not what was written.
            StoreFullError: the disk refused.
        """
        path = self._path(name)
        if not path.is_file():
            made = {
                f"{i}.{key}": value for i, mask in enumerate(make()) for key, value in mask.tensors().items()
            }
            _write(path, made)
        found = _read(path)
        count = 1 + max((int(key.partition(".")[0]) for key in found), default=-1)
        return [StoredMask.from_tensors(below(f"{i}.", found)) for i in range(count)]

    def coefficients(self, name: str, make: Callable[[], Kept]) -> Kept:
        """A task's coefficients, made now unless they are there.

        Raises:
            StoreDamagedError: a file is not what was written.
            StoreFullError: the disk refused.
        """
        path = self._path(name)
        if not path.is_file():
            _write(path, make().tensors())
        return Kept.from_tensors(-1, _read(path))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    durable.write(path, safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()}))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(path.read_bytes())
    except SafetensorError as error:
        raise StoreDamagedError(
            f"{path} is damaged: {error}; delete it, and the same command trains it again"
        ) from error
