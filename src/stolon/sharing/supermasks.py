r"""The bridge between learners on a frozen random network and modules: supermasks, and sums of them.

===============  ================  ===================================================================================
method           file              what is in it
===============  ================  ===================================================================================
``supsup``       ``mask``          all layers behind each other, in parts of 2^20 weights, ``mask.0`` ...: each in the
                                   smallest form of :mod:`stolon.masks.storage` (U8); real values as one ``mask``
                                   (F16). ``scales`` (F32 [d])
``impressions``  ``coefficients``  ``alpha`` (F16 [d, m])
\                ``last``          of hybrid ones, the last layer's own mask, as above
both             ``statistics``    where the network has normalisation: ``floats`` (F32), ``integers`` (I64)
===============  ================  ===================================================================================

The frozen network itself is never sent: its weights are a function of its settings. A module's backbone is its
fingerprint, and the module's settings tell the shapes of inputs and layers, so that a learner that knows no task yet
can make the network. A module of coefficients also names the basis that they are for, and is of no use with another.
A task that a basis was made of is a module of the method ``supsup``, which tells the mask's place in the basis; where a
task left several, each is a module, and a mask that answers the task.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from torch import Tensor

from stolon.errors import DataError, TaskError
from stolon.masks.adoption import place_of, values_of
from stolon.masks.impressions import Impressions
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.supsup import SupSup
from stolon.sharing import blobs, lightweight, strict_json, supermask_files
from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import MAX_NAME
from stolon.sharing.manifest import Manifest
from stolon.sharing.strict_json import Json, JsonError
from stolon.sharing.supermask_files import (
    IMPRESSIONS,
    MAX_INPUT,
    MAX_STATISTICS,
    MAX_WEIGHTS,
    SUPSUP,
    Told,
    check_layouts,
    named,
    told,
)
from stolon.sharing.task_module import TaskModule

__all__ = [
    "IMPRESSIONS",
    "SUPSUP",
    "adopt",
    "basis_modules",
    "check",
    "check_manifest",
    "knowledge",
    "module_of",
    "take_basis",
]

MAX_FACTOR: Final = 1e4
"""Largest coefficient, scale, or value of a real-valued mask."""
MAX_COUNT: Final = 2**53

_NO_FACTS: Final[Mapping[str, Json]] = MappingProxyType({})


def module_of(
    learner: SupSup | Impressions,
    task: str,
    *,
    facts: Mapping[str, Json] = _NO_FACTS,
    seq: int = 1,
    replaces: tuple[str, ...] = (),
) -> TaskModule:
    """What a learner knows of a task, in the form in which it is shared; nothing is lost.

    Args:
        learner: has learned the task.
        task: which.
        facts: what was measured of it; numbers among them are told to others.
        seq: version of the task.
        replaces: ids of earlier modules of it.

    Raises:
        TaskUnknownError: the learner has not learned it.
        TaskError: its normalisation keeps numbers of a type that modules do not have, or it is no such learner.
    """
    if not isinstance(learner, SupSup | Impressions):
        raise TaskError(f"expected a supsup or an impressions learner, found {type(learner).__name__}")
    own, recipe = learner.knowledge(task), learner.recipe(task)
    place = -1
    if isinstance(own, StoredMask) and isinstance(learner, Impressions):
        place = place_of(own, learner.basis)
    found = _module(learner, task, own, place, recipe)
    return replace(
        found,
        metrics=lightweight._figures(facts, costs=False),
        costs=lightweight._figures(facts, costs=True),
        seq=seq,
        replaces=replaces,
    )


def basis_modules(learner: Impressions) -> list[TaskModule]:
    """The masks of a learner's basis, each as a module of the task that left it: what :func:`take_basis` takes.

    A task's own mask is what :func:`module_of` makes of it. Further ones of it (homogeneous and mixed bases) are
    modules of their own, of a task of that name and ``" mask 2"``, ``" mask 3"``, ...; each of them answers the task.

    Raises:
        TaskError: the basis is random, and a function of the settings; it is not whole yet; a task that left masks was
            forgotten, or is another learner's, who shares them.
    """
    if learner.config.basis == "random":
        raise TaskError("expected a basis that tasks left, found a random one: equal settings make it anew")
    if not learner.is_whole:
        raise TaskError(
            f"expected a whole basis of {learner.config.impressions} masks, found {len(learner.basis)}; learn on first"
        )
    found: dict[int, TaskModule] = {}
    for task in learner.tasks:
        for number, place in enumerate(learner.masks_of(task), 1):
            if number == 1:
                found[place] = _module(learner, task, learner.knowledge(task), place, learner.recipe(task))
                continue
            name, recipe = f"{task} mask {number}", {**learner.recipe(task), "mask": number}
            if name in learner.tasks or len(name) > MAX_NAME:
                raise TaskError(
                    f"task {task!r}: expected a name whose further masks can be called {name!r} (at most {MAX_NAME} "
                    "characters, and no other task), found one that is taken or too long; learn it under another name"
                )
            found[place] = replace(_module(learner, task, learner.basis[place], place, recipe), task=name)
    missing = [place for place in range(len(learner.basis)) if place not in found]
    if missing:
        raise TaskError(
            f"expected the tasks that left the masks {missing}, found them forgotten here, or another learner's; take "
            "their author's modules, or give the learner's basis on, as a saved learner"
        )
    return [found[place] for place in sorted(found)]


def _module(
    learner: SupSup | Impressions, task: str, own: StoredMask | Kept, place: int, recipe: Mapping[str, Json]
) -> TaskModule:
    network, shapes = learner.frozen.identity(), learner.frozen.shapes
    about = Told(network.input_shape, network.shapes, network.outputs, named(task, own.statistics), "")
    if isinstance(own, StoredMask):
        method, about = SUPSUP, replace(about, values=values_of(own, shapes), place=place)
    else:
        assert isinstance(learner, Impressions), "others keep masks"
        values = "" if own.last is None else values_of(own.last, shapes[-1:])
        basis, masks = learner.basis_fingerprint, own.alpha.shape[1]
        method, about = IMPRESSIONS, replace(about, values=values, basis=basis, masks=masks)
    return TaskModule(
        method,
        task,
        learner.classes(task),
        supermask_files.write(about, own),
        str(learner.settings()["net"]),
        network.fingerprint,
        settings=about.settings(),
        recipe=hashlib.sha256(strict_json.dumps(dict(recipe))).hexdigest(),
        data=str(recipe["data"]),
    )


def knowledge(module: TaskModule) -> StoredMask | Kept:
    """What a module knows, as learners keep it: the same bits for everybody.

    Raises:
        DataError: it is none of these methods.
    """
    return supermask_files.read(_told(module), module.tensors)


def adopt(learner: SupSup | Impressions, module: TaskModule, *, name: str | None = None) -> None:
    """Let a learner take on a module's task; see :meth:`stolon.masks.base.MaskLearner.adopt`.

    Args:
        learner: knows the same network, or none yet.
        module: accepted before.
        name: what the task is to be called; by default as its author calls it.

    Raises:
        DataError: the module is none of these methods, or does not fit.
        BackboneMismatchError: it was learned on another network.
        TaskError: the name is known, or another task is being learned.
    """
    about = _told(module)
    learner.adopt(
        module.task if name is None else name,
        module.classes,
        knowledge(module),
        about.network(module.backbone),
        basis=about.basis,
        origin={
            "module": module.id,
            "author": module.author,
            "task": module.task,
            "recipe": module.recipe,
            "data": module.data,
        },
    )


def take_basis(learner: Impressions, modules: Sequence[TaskModule]) -> None:
    """Let a learner begin with the basis that these modules' tasks left; see :meth:`Impressions.take_basis`.

    Args:
        learner: has learned nothing yet.
        modules: of one author, one for each mask of the basis, in any order.

    Raises:
        DataError: masks are missing, or there are others among them, or they do not fit.
        BackboneMismatchError: they are of another network.
        TaskError: the learner has tasks already.
    """
    found = sorted(modules, key=lambda module: _told(module).place)
    places = [_told(module).place for module in found]
    if not found or places != list(range(len(found))):
        raise DataError(
            f"expected modules of all masks of one basis, each once, found {_told_places(places)}"
        )
    if len({(module.author, module.backbone) for module in found}) > 1:
        raise DataError("expected modules of one author, on one network, found several")
    masks = [mask for mask in map(knowledge, found) if isinstance(mask, StoredMask)]
    learner.take_basis(masks, _told(found[0]).network(found[0].backbone))


def _told_places(places: Sequence[int]) -> str:
    """Which masks there are, as people count; -1 is the place of what is none of a basis."""
    others = places.count(-1)
    masks = ", ".join(str(place + 1) for place in places if place >= 0)
    found = [
        f"masks {masks}" * bool(masks),
        f"{others} of no basis (coefficients, or supsup's)" * bool(others),
    ]
    return " and ".join(filter(None, found)) or "none"


def check_manifest(manifest: Manifest) -> Refused | None:
    """What is wrong with what a module of these methods says of itself, before any of its files is fetched."""
    try:
        about = told(manifest.method, manifest.settings)
    except JsonError as error:
        return Refused(Code.UNSUPPORTED, f"settings: {error}")
    for what, found, most in (
        ("weights", about.weights, MAX_WEIGHTS),
        ("numbers in an input", math.prod(about.input), MAX_INPUT),
        ("numbers in statistics", sum(about.lengths.values()), MAX_STATISTICS),
    ):
        if found > most:
            return Refused(Code.TOO_LARGE, f"expected at most {most:,} {what}, found {found:,}")
    last, classes = about.layers[-1][0], len(manifest.classes)
    if about.outputs != last or classes > last:
        return Refused(
            Code.BAD_KNOWLEDGE,
            f"expected as many outputs as the last layer has, {last}, and no more classes, found {about.outputs} and "
            f"{classes}",
        )
    try:
        check_layouts(about, {file.role: file.tensors for file in manifest.files})
    except DataError as error:
        return Refused(Code.BAD_KNOWLEDGE, str(error))
    return None


def check(manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Refused | None:
    """What is wrong with the numbers of a module whose manifest passed :func:`check_manifest`."""
    about = told(manifest.method, manifest.settings)
    try:
        check_layouts(about, {role: blobs.layout(found) for role, found in tensors.items()})
        _check_range(supermask_files.read(about, tensors))
    except ValueError as error:  # as DataError is; blobs have no typed errors
        return Refused(Code.BAD_KNOWLEDGE, str(error))
    return None


def _told(module: TaskModule) -> Told:
    try:
        return told(module.method, module.settings)
    except JsonError as error:
        raise DataError(f"expected a module of a mask, or of coefficients: {error}") from None


def _check_range(own: StoredMask | Kept) -> None:
    masks = [mask for mask in (own, getattr(own, "last", None)) if isinstance(mask, StoredMask)]
    factors = [layer for mask in masks for layer in mask.layers if layer.is_floating_point()]
    if isinstance(own, Kept):
        factors.append(own.alpha)
    for mask in masks:
        _check_between("scales", mask.scales, 1 / MAX_FACTOR, MAX_FACTOR)
    for factor in factors:
        _check_between("coefficients", factor, -MAX_FACTOR, MAX_FACTOR)
    for name, value in own.statistics.items():
        most = lightweight.MAX_VALUE if value.is_floating_point() else MAX_COUNT
        _check_between(name, value, 0 if name.endswith("running_var") else -most, most)


def _check_between(name: str, value: Tensor, least: float, most: float) -> None:
    if not bool(((value >= least) & (value <= most)).all()):  # so NaN is refused as well
        raise DataError(f"{name}: expected numbers from {least:g} to {most:g}, found others")
