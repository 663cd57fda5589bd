"""The bridge between lightweight learners and modules: what is packed of a task, and what may be unpacked.

A module of this method has a blob for the head, one for the anchor and, where the task has any, one for the
biases. In the compact form the anchor is thinned as well: what it loses was measured to be next to nothing
(benchmarks/module_size.py).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear

from stolon.errors import DataError, SettingError, StolonError
from stolon.light.anchoring import Anchor, Anchoring
from stolon.light.anchors import GaussianAnchor, ImageAnchor, MahalanobisAnchor, values
from stolon.light.answering import TaskKnowledge, features
from stolon.light.features import FeatureMemo
from stolon.light.lightweight import Lightweight
from stolon.nets.backbone import Backbone
from stolon.sharing import precision as precisions
from stolon.sharing import strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import MAX_ANCHORS_PER_CLASS
from stolon.sharing.manifest import Manifest
from stolon.sharing.strict_json import Json
from stolon.sharing.task_module import TaskModule

METHOD: Final = "lightweight"
COSTS: Final = frozenset({"seconds", "forward", "backward", "macs", "stored", "sent"})
"""Facts that say what was spent; other numbers say what was measured."""

COMPACT_PROBES: Final = 16
COMPACT_EXAMPLES: Final = 2
"""Probes, and examples of each class, that the compact form keeps at most."""

MAX_COMPONENTS: Final = 25
"""Components that any Gaussian anchor may have; one of many classes may have more."""
MAX_EXAMPLES: Final = 8
"""Examples of each class, as features or pictures."""
MAX_PROBES: Final = 64
MAX_PIXELS: Final = 1024
"""Height and width of a picture."""
MAX_VALUE: Final = 1e6
"""Largest number in any tensor: far above what is ever learned, and far below what overflows in use."""

_MATRICES: Final = {"head": {"weight"}, "anchor": {"means", "examples", "probes"}, "biases": set[str]()}
_NO_FACTS: Final[Mapping[str, Json]] = MappingProxyType({})


def module_of(
    learner: Lightweight,
    task: str,
    *,
    facts: Mapping[str, Json] = _NO_FACTS,
    precision: precisions.Precision = "compact",
    seq: int = 1,
    replaces: tuple[str, ...] = (),
) -> TaskModule:
    """What a learner knows of a task, in the form in which it is shared.

    Args:
        learner: has learned the task.
        task: which.
        facts: what was measured of it; numbers among them are told to others.
        precision: ``"compact"``, ``"half"`` or ``"full"``.
        seq: version of the task.
        replaces: ids of earlier modules of it.

    Raises:
        TaskUnknownError: the learner has not learned it.
    """
    recipe = learner.recipe(task)
    return of_knowledge(
        learner.knowledge(task),
        TaskModule(
            METHOD,
            task,
            learner.classes(task),
            {},
            learner.backbone.name,
            learner.backbone.fingerprint,
            metrics=_figures(facts, costs=False),
            costs=_figures(facts, costs=True),
            recipe=hashlib.sha256(strict_json.dumps(recipe)).hexdigest(),
            data=recipe["data"],
            seq=seq,
            replaces=replaces,
        ),
        learner.anchoring,
        precision,
    )


def of_knowledge(
    own: TaskKnowledge, about: TaskModule, anchoring: Anchoring, precision: precisions.Precision
) -> TaskModule:
    """A module of this knowledge, with everything else as in ``about``."""
    anchor = _thinned(own.anchor) if precision == "compact" else own.anchor
    roles = {"head": {"weight": own.weight, "bias": own.bias}, "anchor": anchor.tensors()}
    if len(own.biases):
        roles["biases"] = {"biases": own.biases}
    counts = own.anchor.counts.tolist() if isinstance(own.anchor, MahalanobisAnchor | ImageAnchor) else []
    return replace(
        about,
        tensors={
            role: precisions.store(tensors, precision, _MATRICES[role]) for role, tensors in roles.items()
        },
        counts=tuple(counts) if len(counts) == len(about.classes) else (),
        settings={"anchor": anchoring.fitted_with, "precision": precision},
    )


def knowledge(module: TaskModule) -> TaskKnowledge:
    """What a module knows, as float32: the same bits for everybody who has the module.

    Raises:
        DataError: it is none of this method.
    """
    return _knowledge(module.settings, module.tensors)


def check_manifest(manifest: Manifest) -> Refused | None:
    """What is wrong with what a module of this method says of itself, before any of its files is fetched."""
    try:
        _anchoring(manifest.settings)
    except (SettingError, DataError) as error:
        return Refused(Code.UNSUPPORTED, f"settings: {error}")
    try:
        shapes = {file.role: _shapes(file.tensors) for file in manifest.files}
        _check_shapes(shapes, len(manifest.classes), str(manifest.settings["anchor"]["anchor"]))
    except DataError as error:
        return Refused(Code.BAD_KNOWLEDGE, str(error))
    return None


def check(manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Refused | None:
    """What is wrong with the numbers of a module whose manifest passed :func:`check_manifest`."""
    try:
        own = _knowledge(manifest.settings, tensors)
        _check_range(own)
        if manifest.settings["anchor"]["transform"] != "none":
            if isinstance(own.anchor, ImageAnchor):
                values.check_unit("means", own.anchor.means)
            else:
                own.anchor.check(unit=True)
    except DataError as error:
        return Refused(Code.BAD_KNOWLEDGE, str(error))
    return None


@torch.no_grad()
def misfit(own: TaskKnowledge, backbone: Backbone) -> str:
    """Why this knowledge cannot be answered from on a backbone, or "" where it can: tried on one blank image.

    Acceptance compares fingerprints and has no backbone at hand. An author who signs the right fingerprint over a
    head or biases of another network would be found out by the first real image otherwise.
    """
    taken = backbone.preprocessing
    if taken is None:
        return ""  # nobody knows what its inputs look like
    blank = torch.zeros(1, taken.channels, taken.size or 32, taken.size or 32, dtype=torch.uint8)
    try:
        found = features(FeatureMemo(backbone), blank, own.biases)
        scores = linear(found, own.weight, own.bias)
        if isinstance(own.anchor, ImageAnchor):
            backbone.features(own.anchor.images[:1])
    except (StolonError, RuntimeError, ValueError) as error:
        return f"it does not fit the backbone: {str(error).splitlines()[0]}"
    if own.anchor.means.shape[1] != found.shape[1] or not bool(torch.isfinite(scores).all()):
        return f"it does not fit the backbone, whose features are {found.shape[1]} finite numbers"
    return ""


def _check_range(own: TaskKnowledge) -> None:
    for name, value in own.tensors().items():
        # written so that NaN, which overflowing scales can make, is refused as well
        if value.is_floating_point() and value.numel() and not float(value.abs().max()) <= MAX_VALUE:
            raise DataError(f"{name}: expected numbers of at most {MAX_VALUE:g} in magnitude")


def _knowledge(settings: Mapping[str, Json], stored: Mapping[str, Mapping[str, Tensor]]) -> TaskKnowledge:
    read = {role: precisions.read(tensors) for role, tensors in stored.items()}
    head, biases = read.get("head", {}), read.get("biases", {"biases": torch.zeros(0)})
    weight, bias = values.take("head", head, ("weight", "bias"))
    (flat,) = values.take("biases", biases, ("biases",))
    return TaskKnowledge(weight, bias, flat, _anchoring(settings).load(read.get("anchor", {})))


def _anchoring(settings: Mapping[str, Json]) -> Anchoring:
    """How anchors of such a module are read."""
    if set(settings) != {"anchor", "precision"} or not isinstance(settings["anchor"], dict):
        raise DataError("expected anchor and precision")
    if settings["precision"] not in precisions.PRECISIONS:
        raise DataError(f"expected a precision of {', '.join(precisions.PRECISIONS)}")
    fitted = settings["anchor"]
    if not all(isinstance(value, str) for value in fitted.values()):
        raise DataError("expected words for how the anchor was fitted")
    return _fitted_with(tuple(fitted.items()))


@lru_cache(maxsize=32)
def _fitted_with(words: tuple[tuple[str, str], ...]) -> Anchoring:
    """The anchoring that anchors fitted like this are read with; all modules of a bank have the same few."""
    settings = dict(words)
    kind = settings.pop("anchor", "")
    anchoring = Anchoring(kind, settings)
    if anchoring.fitted_with != dict(words):
        raise DataError(f"expected what {kind} anchors are fitted with, found {', '.join(settings)}")
    return anchoring


def _thinned(anchor: Anchor) -> Anchor:
    if isinstance(anchor, GaussianAnchor):
        return anchor._replace(probes=anchor.probes[:COMPACT_PROBES])
    order = anchor.labels.argsort(stable=True)
    labels = anchor.labels[order]
    counts = labels.bincount()
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels]
    kept = order[rank < COMPACT_EXAMPLES].sort().values
    if isinstance(anchor, ImageAnchor):
        return anchor._replace(images=anchor.images[kept], labels=anchor.labels[kept])
    return anchor._replace(
        examples=anchor.examples[kept], labels=anchor.labels[kept], probes=anchor.probes[:COMPACT_PROBES]
    )


def _figures(facts: Mapping[str, Json], *, costs: bool) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in facts.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (key in COSTS) == costs
    }


# Shapes, as a manifest declares them

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def _shapes(stored: Shapes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind ("float", "I64", "U8") and shape of each tensor once its scale is applied."""
    found = {}
    for name, (dtype, shape) in stored.items():
        if not name.endswith(precisions.SCALE):
            found[name] = (dtype if dtype in {"I64", "U8"} else "float", shape)
    return found


def _check_shapes(shapes: Mapping[str, Shapes], classes: int, kind: str) -> None:
    if set(shapes) - {"biases"} != {"head", "anchor"}:
        raise DataError(f"expected the files head and anchor, maybe biases, found {', '.join(shapes)}")
    head = shapes["head"]
    _expect(head, "weight", "float", (classes, None))
    width = head["weight"][1][1]
    _expect(head, "bias", "float", (classes,))
    _expect(shapes.get("biases", {"biases": ("float", (0,))}), "biases", "float", (None,))
    anchor, most = shapes["anchor"], max(MAX_COMPONENTS, MAX_ANCHORS_PER_CLASS * classes)
    _expect(anchor, "means", "float", (None, width))
    if not 1 <= anchor["means"][1][0] <= (most if kind == "gmm" else classes):
        raise DataError(f"means: expected at most {most if kind == 'gmm' else classes}, found more or none")
    if "images" in anchor:
        shape = anchor["images"][1]
        _expect(anchor, "images", "U8", (None, 3, *shape[-1:], *shape[-1:]))
        if not 1 <= shape[-1] <= MAX_PIXELS:
            raise DataError(f"images: expected sides of 1 to {MAX_PIXELS} pixels, found {shape[-1]}")
    for name, limit in (
        ("examples", MAX_EXAMPLES * classes),
        ("images", MAX_EXAMPLES * classes),
        ("probes", MAX_PROBES),
    ):
        if name in anchor and (not anchor[name][1] or anchor[name][1][0] > limit):
            raise DataError(f"{name}: expected at most {limit}, found more")


def _expect(found: Shapes, name: str, kind: str, shape: tuple[int | None, ...]) -> None:
    actual = found.get(name)
    fits = (
        actual is not None
        and actual[0] == kind
        and len(actual[1]) == len(shape)
        and all(wanted in (None, extent) for wanted, extent in zip(shape, actual[1], strict=True))
    )
    if not fits:
        raise DataError(f"{name}: expected {kind} {list(shape)}, found {actual}")
