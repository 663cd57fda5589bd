"""A split whose images are files: kept in memory where they fit, decoded by threads where they do not."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import final

from torch import Tensor

from stolon.errors import DataError, ImageError
from stolon.streams import images
from stolon.tasks import Split


@final
class FileSplit(Split):
    """Some of the images of a data set that has been read once, uint8 [3, size, size] each.

    The digest is over the files' contents and how pixels are made from them, so it is the same whether
    the pixels are in memory or not. A file that has changed since it was read is refused, not learned.

    Args:
        paths: all files of the data set; shared between its splits.
        contents: the SHA-256 of each.
        rows: which files are this split's, in order, int64 [M].
        labels: class indices [M].
        size: side of the square in pixels.
        pixels: all pixels, uint8 [N, 3, size, size], if they are in memory; shared between splits.
        workers: threads that decode; 0 takes one per core that this process may use.
        squeeze: whole pictures were taken, whatever their proportions; else their centre squares.

    Raises:
        DataError: lengths differ, or a row does not exist.
        SettingError: the size is out of its range.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        contents: Sequence[str],
        rows: Tensor,
        labels: Tensor,
        size: int,
        *,
        pixels: Tensor | None = None,
        workers: int = 0,
        squeeze: bool = False,
    ) -> None:
        images.check_size(size)
        if len(paths) != len(contents) or rows.ndim != 1 or rows.shape != labels.shape:
            raise DataError(
                f"expected a SHA-256 for each of {len(paths)} files and a label for each of {len(rows)} "
                f"rows, found {len(contents)} and {len(labels)}"
            )
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(paths)):
            raise DataError(
                f"expected rows 0 to {len(paths) - 1}, found {int(rows.min())} to {int(rows.max())}"
            )
        if pixels is not None and pixels.shape != (len(paths), 3, size, size):
            raise DataError(f"expected pixels {[len(paths), 3, size, size]}, found {list(pixels.shape)}")
        self._paths, self._contents = paths, contents
        self._rows, self._labels = rows, labels.long()
        self._size, self._pixels, self._workers = size, pixels, workers
        self._squeeze = squeeze

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels at these indices: one gather, or one decoding of each file.

        Raises:
            DataError: a file has changed, or is gone, since the data set was read.
        """
        rows = self._rows[indices]
        x = self._decoded(rows.tolist()) if self._pixels is None else self._pixels[rows]
        return x, self._labels[indices]

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [M]."""
        return self._labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return (3, self._size, self._size)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The split's files, in order."""
        return tuple(self._paths[row] for row in self._rows.tolist())

    @property
    def is_in_memory(self) -> bool:
        """Whether batches are gathered rather than decoded."""
        return self._pixels is not None

    def digest(self) -> str:
        """SHA-256 over the files' contents in order, the labels, and how pixels are made."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        recipe = images.SQUEEZED if self._squeeze else images.RECIPE
        sha = hashlib.sha256(f"{recipe} {self._size}".encode())
        for row, label in zip(self._rows.tolist(), self._labels.tolist(), strict=True):
            sha.update(f"\n{self._contents[row]} {label}".encode())
        return sha.hexdigest()

    def _decoded(self, rows: list[int]) -> Tensor:
        pixels = images.empty(len(rows), self._size)
        paths = [self._paths[row] for row in rows]
        answers = images.read_many(
            paths, self._size, out=pixels, workers=self._workers, squeeze=self._squeeze
        )
        wrong = []
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, ImageError):
                wrong.append(str(answer))
            elif answer != self._contents[row]:
                wrong.append(
                    f"{images.printable(self._paths[row])}: expected the file that was inspected, found "
                    "another content; put it back, or begin anew"
                )
        if wrong:
            raise DataError("\n".join(wrong))
        return pixels
