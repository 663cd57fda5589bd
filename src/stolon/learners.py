"""Learners by name: ``learners.make("finetune", net="lenet-300-100", epochs=5)``."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from torch import nn

from stolon.errors import SettingError, UnknownNameError
from stolon.learner import Learner
from stolon.nets.backbone import Backbone, pretrained

_HOMES = {
    "finetune": "stolon.baselines.finetune:Finetune",
    "single-task": "stolon.baselines.single_task:SingleTask",
    "lightweight": "stolon.light.lightweight:Lightweight",
    "static": "stolon.transfer.static:Static",
    "lasem": "stolon.transfer.lasem:Lasem",
    "brute-force": "stolon.transfer.brute_force:BruteForce",
    "darts": "stolon.transfer.darts:Darts",
    "supsup": "stolon.masks.supsup:SupSup",
    "impressions": "stolon.masks.impressions:Impressions",
    "bind-and-grow": "stolon.growth.bind_and_grow:BindAndGrow",
    "learn-to-grow": "stolon.growth.learn_to_grow:LearnToGrow",
    "rcl": "stolon.growth.rcl:Rcl",
}


def names() -> tuple[str, ...]:
    """The methods that :func:`make` knows."""
    return tuple(_HOMES)


def make(
    name: str,
    *,
    net: str | nn.Module | Backbone,
    weights: str | Path | None = None,
    **settings: Any,  # noqa: ANN401 - values of any type
) -> Learner:
    """A learner that knows no task yet.

    Args:
        name: one of :func:`names`.
        net: the network: a name of :func:`stolon.nets.names`, or a module that gives features [B, F]; for
            learners on a frozen backbone also a :class:`~stolon.nets.backbone.Backbone`.
        weights: for learners on a frozen backbone: a safetensors file with the weights of the named net.
        settings: the method's own; each method's ``Config`` documents them.

    Raises:
        UnknownNameError: no such method or net.
        SettingError: a setting is unknown or out of its range.
    """
    method = find(name)
    known = [field.name for field in dataclasses.fields(method.Config)]
    for key in settings:
        if key not in known:
            raise SettingError(f"unknown setting {key!r} of {name}; known are: {', '.join(known)}")
    if weights is not None:
        if name != "lightweight" or not isinstance(net, str):
            raise SettingError(f"weights: expected a lightweight learner and a net's name, found {name}")
        net = pretrained(net, weights)
    learner: Learner = method(net, method.Config(**settings))
    return learner


def find(name: str) -> Any:  # noqa: ANN401 - a class with a Config; learners share no constructor type
    """The class of a method, with its settings as ``Config``.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in _HOMES:
        raise UnknownNameError("learner", name, names())
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
