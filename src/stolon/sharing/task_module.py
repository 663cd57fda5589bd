"""A task module as a value: what one agent learned of one task, ready to be packed or just unpacked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from stolon.sharing.strict_json import Json


@final
@dataclass(frozen=True, eq=False)
class TaskModule:
    """One task's knowledge, in the form in which it is stored.

    Attributes:
        method: how to read it, such as ``"lightweight"``.
        task: the task's name.
        classes: class names; label i means ``classes[i]``.
        tensors: by role and name, as stored (see :mod:`stolon.sharing.precision`).
        backbone_name: what it was learned on, for people.
        backbone: fingerprint of it.
        counts: training samples of each class; empty where the author does not tell.
        metrics: what the author measured, such as ``test_accuracy``.
        costs: what the author spent, such as ``seconds``.
        settings: the method's own: how the knowledge was stored and must be read.
        recipe: SHA-256 of everything that the result depends on; "" where it is not known.
        data: SHA-256 of the training data; "" where it is not known.
        seq: version of the task by this author, from 1.
        replaces: ids of the author's modules that this one supersedes, sorted.
        author: public key of who signed it; "" before it is packed.
        id: of the module; "" before it is packed.
    """

    method: str
    task: str
    classes: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, Tensor]]
    backbone_name: str
    backbone: str
    counts: tuple[int, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    recipe: str = ""
    data: str = ""
    seq: int = 1
    replaces: tuple[str, ...] = ()
    author: str = ""
    id: str = ""
