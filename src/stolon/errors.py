"""Every error that stolon raises on purpose.

Each derives from :class:`StolonError` and from the built-in it is a kind of, and says what was
expected, what was found and what to do. Bad input never changes state::

    StolonError
    ├── DataError (ValueError)                 a data set is not what it should be
    │   ├── DataMissingError (FileNotFoundError)   it is not there
    │   ├── DataProblemsError                      everything wrong with a folder, together
    │   └── ImageError                             a file is no image we can take
    ├── SettingError (ValueError)              a setting is unknown or out of its range
    │   └── UnknownNameError (LookupError)         no stream, learner, net ... of that name
    ├── TaskError (ValueError)                 a task cannot be used like this
    │   ├── TaskUnknownError (LookupError)         it was never learned, or cannot be inferred
    │   ├── TaskExistsError                        a task of that name is known already
    │   └── TaskUnfinishedError                    another task's learning is under way
    ├── BackboneError (ValueError)             a backbone cannot be used like this
    │   ├── BackboneMismatchError                  not the backbone this was made with
    │   └── BackboneUnavailableError (FileNotFoundError)   its weights are not to be had
    ├── RecipeChangedError (RuntimeError)      an unfinished training cannot go on as it was
    ├── TrialsFailedError (RuntimeError)       some trials of an experiment failed, the others are done
    ├── ModuleRefusedError (ValueError)        a module, revocation or trust list was refused; says why by a code
    ├── KeyFileError (ValueError)              an agent's key cannot be read, or is none
    ├── LinkError (ConnectionError)            agents cannot talk
    │   └── AgentUnreachableError              the agent that runs on this store does not answer
    └── StoreError (OSError)                   a folder of ours cannot be read or written
        ├── StoreMissingError (FileNotFoundError)  there is none
        ├── StoreExistsError (FileExistsError)     there is one already
        ├── StoreLockedError (BlockingIOError)     another process is writing to it
        ├── StoreDamagedError                      its bytes are not those that were written
        ├── StoreVersionError                      it was written by a newer stolon
        └── StoreFullError                         no space is left, or writing failed
"""

from collections.abc import Sequence
from dataclasses import dataclass


class StolonError(Exception):
    """The root of every error that stolon raises on purpose."""


class DataError(StolonError, ValueError):
    """A data set is not what it should be."""


class DataMissingError(DataError, FileNotFoundError):
    """A data set is not where it was looked for."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes:
        kind: a short stable word, such as ``"broken image"`` or ``"empty class"``.
        where: the path or the class it is about.
        detail: what was found, in words.
    """

    kind: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.detail}"


class DataProblemsError(DataError):
    """Everything wrong with a data set, found before training and told together.

    Attributes:
        problems: all of them, in a stable order.
    """

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(f"{what}: {len(self.problems)} problem(s) found; nothing was learned\n{lines}")


class ImageError(DataError):
    """A file is no image that we can take: not an image, damaged, or far too large.

    Attributes:
        kind: what is wrong, in the words of :attr:`Problem.kind`.
    """

    def __init__(self, message: str, kind: str = "broken image") -> None:
        self.kind = kind
        super().__init__(message)


class SettingError(StolonError, ValueError):
    """A setting is unknown or out of its range."""


class UnknownNameError(SettingError, LookupError):
    """Nothing of that name is registered."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known are: {', '.join(known)}")


class TaskError(StolonError, ValueError):
    """A task cannot be used like this."""


class TaskUnknownError(TaskError, LookupError):
    """A task was never learned here, or cannot be inferred by this learner."""


class TaskExistsError(TaskError):
    """A task of that name is known already."""


class TaskUnfinishedError(TaskError):
    """The learning of another task is under way."""


class BackboneError(StolonError, ValueError):
    """A backbone cannot be used like this."""


class BackboneMismatchError(BackboneError):
    """Not the backbone that this was made with."""


class BackboneUnavailableError(BackboneError, FileNotFoundError):
    """A backbone's weights are not to be had."""


class RecipeChangedError(StolonError, RuntimeError):
    """An unfinished training cannot go on as it was: data, settings or platform changed."""


class TrialsFailedError(StolonError, RuntimeError):
    """Some trials failed; the others are done, and the failed ones are tried again by the same command."""


class ModuleRefusedError(StolonError, ValueError):
    """A module, a revocation or a trust list was refused; nothing was changed.

    Attributes:
        code: why, as a stable word (:class:`stolon.sharing.codes.Code`).
    """

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(f"{code}: {detail}")


class KeyFileError(StolonError, ValueError):
    """An agent's key file cannot be read, or holds no key."""


class LinkError(StolonError, ConnectionError):
    """Agents cannot talk: an endpoint cannot be opened, or settings do not fit."""


class AgentUnreachableError(LinkError):
    """The agent that runs on this store does not answer."""


class StoreError(StolonError, OSError):
    """A folder of ours cannot be read or written."""


class StoreMissingError(StoreError, FileNotFoundError):
    """There is no store at that place."""


class StoreExistsError(StoreError, FileExistsError):
    """There is a store at that place already."""


class StoreLockedError(StoreError, BlockingIOError):
    """Another process is writing to the store."""


class StoreDamagedError(StoreError):
    """The store's bytes are not those that were written."""


class StoreVersionError(StoreError):
    """The store was written by a newer stolon."""


class StoreFullError(StoreError):
    """No space is left, or the disk refused to write; what was stored before is intact."""
