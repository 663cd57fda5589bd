"""The results file: JSON lines, only ever appended to, by several processes at once, killed at any moment.

Each line is one :class:`Record`. Writers take a lock (``flock``, which dies with its process), look whether
the last line ends, end it if not, append with fsync, and take back what the disk refused half-way. A single
``O_APPEND`` write without a lock was the alternative: it is atomic between processes on local disks, but it
cannot repair a torn last line (the next record would be glued to it) nor take back a short write. Readers
need no lock: a line that is torn is no JSON and is left out, and of records with one key the first counts.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from stolon import durable
from stolon.errors import SettingError, StoreFullError, StoreMissingError, StoreVersionError

FORMAT: Final = 1
"""The version of the lines; a higher one is refused by name."""

KINDS: Final = ("experiment", "trial", "epoch", "task", "done", "failed")


@final
@dataclass(frozen=True)
class Record:
    """One line of the results.

    Attributes:
        kind: ``"experiment"`` (its settings), ``"trial"`` (begun), ``"epoch"``, ``"task"`` (learned),
            ``"done"`` or ``"failed"``.
        experiment: its name.
        learner: the learner's label; empty for an experiment.
        stream: the stream's label; empty for an experiment.
        seed: the trial's; -1 for an experiment.
        data: what is told; JSON values, floats finite.
        where: task, phase and number where a kind has several records per trial.
        versions: of Python and the libraries that numbers depend on.
        hardware: what it ran on.
        time: when it was written, ISO 8601 in UTC.
    """

    kind: str
    experiment: str
    learner: str = ""
    stream: str = ""
    seed: int = -1
    data: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[str | int, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    time: str = ""

    @property
    def trial(self) -> tuple[str, str, int]:
        """Learner, stream and seed: which trial it belongs to."""
        return (self.learner, self.stream, self.seed)

    @property
    def key(self) -> tuple[str | int, ...]:
        """What it is a record of: two with equal keys tell the same."""
        return (self.experiment, *self.trial, self.kind, *self.where)


@final
class Results:
    """A results file.

    Args:
        path: where it is, or will be.

    Example:
        >>> import tempfile
        >>> results = Results(Path(tempfile.mkdtemp()) / "results.jsonl")
        >>> results.append(Record("experiment", "toy"))
        >>> [record.experiment for record in results.read()]
        ['toy']
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, record: Record) -> None:
        """Add a record, durably; whoever is killed meanwhile, no other record suffers.

        Raises:
            SettingError: the record is not JSON, such as a NaN.
            StoreFullError: the disk refused; the file is as it was.
        """
        from filelock import FileLock

        try:
            line = (
                json.dumps({"format": FORMAT, **dataclasses.asdict(record)}, allow_nan=False).encode() + b"\n"
            )
        except (ValueError, TypeError) as error:
            raise SettingError(f"{record.kind}: expected JSON values, found otherwise: {error}") from error
        durable.make_folder(self.path.parent)
        with FileLock(f"{self.path}.lock"):
            _append(self.path, line)

    def read(self) -> tuple[Record, ...]:
        """All records, in the order written; torn lines and repetitions left out.

        Raises:
            StoreMissingError: there is no such file.
            StoreVersionError: it was written by a newer stolon.
        """
        if not self.path.is_file():
            raise StoreMissingError(f"expected results at {self.path}, found none; is this the right file?")
        found: dict[tuple[str | int, ...], Record] = {}
        for record, _ in self.follow():
            # Of failures the last one counts: a trial that failed is tried again by the same command.
            if record.kind == "failed" or record.key not in found:
                found.pop(record.key, None)
                found[record.key] = record
        return tuple(found.values())

    def follow(self, offset: int = 0) -> Iterator[tuple[Record, int]]:
        """Records that lie wholly behind an offset, each with the offset behind it; repetitions included.

        Args:
            offset: bytes to skip; 0, or what this gave before.

        Raises:
            StoreVersionError: it was written by a newer stolon.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                record = _parse(line, self.path)
                if record is not None:
                    yield record, offset


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        rest = memoryview(b"\n" + line if torn else line)
        try:
            os.lseek(descriptor, size, os.SEEK_SET)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise StoreFullError(
                f"cannot add to {path}: {error.strerror}; it is as it was; free space, then run again"
            ) from error
    finally:
        os.close(descriptor)
    if size == 0:
        durable.sync_folder(path.parent)


def _parse(line: bytes, path: Path) -> Record | None:
    """The record, or None where the line is torn or no record of ours."""
    try:
        value = json.loads(line)
        version = value.pop("format")
        if isinstance(version, int) and version > FORMAT:
            raise StoreVersionError(
                f"{path} has lines of format {version}, this stolon reads up to {FORMAT}; install a newer one"
            )
        record = Record(**{**value, "where": tuple(value["where"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return record if record.kind in KINDS else None
