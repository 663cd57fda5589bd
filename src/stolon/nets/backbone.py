"""A frozen backbone: a pretrained network, its pre-processing, and a fingerprint over both.

Everything that is learned on its features is worthless on another's, so the fingerprint goes wherever the
knowledge goes and is compared before any use.
"""

import ast
import copy
import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, final
from urllib.parse import parse_qsl

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from stolon.errors import BackboneError, BackboneUnavailableError, SettingError, StolonError
from stolon.nets import registry
from stolon.nets.preprocessing import Preprocessing
from stolon.tasks import to_float

BATCH = 64
"""Images per forward pass: a constant, because other groupings give other last bits."""


@final
class Backbone:
    """A frozen network with its pre-processing.

    Args:
        module: gives features [B, D] or feature maps [B, D, H, W] (then averaged over H and W). It is put in
            evaluation mode, its parameters want no gradients any more.
        preprocessing: how images become its inputs; None takes inputs as they are (uint8 divided by 255).
        name: where it comes from, such as ``"timm:mobilenetv2_100?pad_type=same"``; part of the fingerprint.

    Attributes:
        fingerprint: SHA-256 over name, weights and pre-processing.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing | None, name: str) -> None:
        module = copy.deepcopy(module)  # its giver may train on; what was learned on it must not notice
        self.module = _channels_last(module.eval().requires_grad_(requires_grad=False))
        self.preprocessing = preprocessing
        self.name = name
        self.fingerprint = _fingerprint(name, module, preprocessing)

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.fingerprint[:12]})"

    def features(self, x: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features [B, D] of images [B, C, H, W].

        Args:
            x: uint8, or floats between 0 and 1.
            parameters: what replaces parameters of these names (a task's biases); gradients flow to them.

        Raises:
            DataError: these are no images that the pre-processing takes.
            BackboneError: the module gives no features.
        """
        prepared = to_float(x) if self.preprocessing is None else self.preprocessing(x)
        if prepared.ndim == 4:
            prepared = prepared.contiguous(memory_format=torch.channels_last)
        if parameters:
            features = functional_call(self.module, dict(parameters), (prepared,), tie_weights=False)
        else:
            with torch.no_grad():
                features = self.module(prepared)
        if not isinstance(features, Tensor) or features.ndim not in (2, 4):
            found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise BackboneError(f"{self.name}: expected features [B, D] or maps [B, D, H, W], found {found}")
        return features.mean((2, 3)) if features.ndim == 4 else features


def pretrained(spec: str, weights: str | Path | Mapping[str, Tensor] | None = None) -> Backbone:
    """A backbone by name, with weights from a local file or by timm's own download.

    Args:
        spec: ``"timm:NAME"`` or another name of :func:`stolon.nets.names`, with options behind a question
            mark: ``size=160`` (pixels; timm's own if left out), ``shape=1x8x8`` (the inputs of nets that are
            not timm's), and whatever timm's model takes (``pad_type=same``).
        weights: a safetensors file with the model's own parameter names, or such tensors; a classifier among
            them is left out. None downloads them, where timm offers any.

    Raises:
        BackboneUnavailableError: the file is missing, or the download failed.
        BackboneError: the weights are not this model's.
        SettingError: the name or an option is unknown.
    """
    name, options = parse_spec(spec)
    tensors = _read_weights(Path(weights)) if isinstance(weights, str | Path) else weights
    if name.startswith("timm:"):
        size = _whole("size", options.pop("size", "0"))
        values = {key: _value(text) for key, text in options.items()}
        module = timm_model(name, pretrained=weights is None, options=values)
        preprocessing = _timm_preprocessing(module, size)
        classifier = str(getattr(module, "pretrained_cfg", {}).get("classifier") or "")
    else:
        shape = tuple(_whole("shape", part) for part in options.pop("shape", "1x28x28").split("x"))
        if options:
            raise SettingError(f"unknown option {next(iter(options))!r} in {spec!r}; known is: shape")
        registry.own(name)  # an unknown name is refused as such
        if tensors is None:
            raise BackboneUnavailableError(f"{name} has no published weights; give a file (--weights FILE)")
        module, classifier = registry.make(name, input_shape=shape), ""
        preprocessing = Preprocessing(channels=shape[0], size=shape[-1])
    if tensors is not None:
        _load_weights(module, tensors, classifier, spec)
    backbone = Backbone(module, preprocessing, spec)
    _try_one_image(backbone)
    return backbone


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Split ``"NAME?key=value&key=value"`` into the name and its options.

    Example:
        >>> parse_spec("timm:mobilenetv2_100?pad_type=same&size=160")
        ('timm:mobilenetv2_100', {'pad_type': 'same', 'size': '160'})
    """
    name, _, query = spec.partition("?")
    try:
        return name, dict(parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError:
        raise SettingError(f"expected NAME?key=value&key=value, found {spec!r}") from None


def _channels_last(module: nn.Module) -> nn.Module:
    """Lay convolutions out as the CPU likes them; others stay as they are."""
    if any(p.ndim == 5 for p in module.parameters()):  # torch refuses the format for three dimensions
        return module
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # not in torch's stubs


def _whole(what: str, text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"{what}: expected a whole number, found {text!r}")
    return int(text)


def _value(text: str) -> Any:  # noqa: ANN401 - whatever the option means to timm
    """A number, a bool or None where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _try_one_image(backbone: Backbone) -> None:
    """Refuse a size or an option that the model only stumbles over when it sees an image."""
    preprocessing = backbone.preprocessing
    assert preprocessing is not None, "pretrained backbones have one"
    size = preprocessing.size
    try:
        backbone.features(torch.zeros(1, preprocessing.channels, size, size))
    except StolonError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingError(
            f"{backbone.name} does not take images of {size} x {size} pixels: {error}; "
            "some models want img_size=N beside size=N"
        ) from error


def timm_model(name: str, *, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    """A model of timm without its classifier; the options are timm's own.

    Raises:
        SettingError: timm has no such model, or it has no such option.
        BackboneUnavailableError: its weights could not be downloaded.
    """
    from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

    import timm  # isort: skip

    bare = name.removeprefix("timm:")
    if not timm.is_model(bare):
        close = ", ".join(get_close_matches(bare, timm.list_models())) or "see timm's documentation"
        raise SettingError(f"timm has no model {bare!r}; close to it: {close}")
    try:
        model: nn.Module = timm.create_model(bare, pretrained=pretrained, num_classes=0, **options)
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise SettingError(f"{name} does not take these options {dict(options)}: {error!r}") from error
    except (OSError, RuntimeError) as error:
        raise BackboneUnavailableError(
            f"the weights of {name} could not be downloaded ({type(error).__name__}); connect to the internet, "
            "or give a safetensors file (--weights FILE)"
        ) from error
    return model


def _timm_preprocessing(module: nn.Module, size: int) -> Preprocessing:
    """Size, mean and standard deviation as timm has them.

    Not its crop: timm enlarges an image and keeps 87.5 % or so of it (xception: 333 pixels, cropped to 299);
    here the shorter side becomes ``size``, so that nothing near the edge is lost.
    """
    from timm.data.config import resolve_model_data_config

    data = resolve_model_data_config(module)
    channels, height, _ = data["input_size"]
    return Preprocessing(channels, size or height, tuple(data["mean"]), tuple(data["std"]))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BackboneUnavailableError(f"expected weights at {path}, found no such file") from None
    except (SafetensorError, OSError) as error:
        raise BackboneError(
            f"{path} is no safetensors file: {error}; stolon never unpickles weights"
        ) from error


def _load_weights(module: nn.Module, tensors: Mapping[str, Tensor], classifier: str, spec: str) -> None:
    mine = module.state_dict()
    theirs = {key: value for key, value in tensors.items() if key in mine or not _is_below(key, classifier)}
    missing, extra = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
    if missing or extra:
        raise BackboneError(
            f"these weights are not those of {spec}: {len(missing)} missing (first: {missing[:1]}), "
            f"{len(extra)} not part of it (first: {extra[:1]})"
        )
    for key, value in theirs.items():
        if value.shape != mine[key].shape:
            raise BackboneError(
                f"{spec}: expected {key} {list(mine[key].shape)}, found {list(value.shape)}; another variant?"
            )
        if not bool(torch.isfinite(value).all()):
            raise BackboneError(f"{spec}: expected finite weights, found NaN or infinity in {key}")
    module.load_state_dict(theirs)


def _is_below(key: str, prefix: str) -> bool:
    return bool(prefix) and key.startswith(f"{prefix}.")


def _fingerprint(name: str, module: nn.Module, preprocessing: Preprocessing | None) -> str:
    bare, options = parse_spec(name)
    options.pop("size", None)  # it is in the pre-processing
    prepared = None if preprocessing is None else preprocessing.describe()
    sha = hashlib.sha256(json.dumps([bare, sorted(options.items()), prepared]).encode())
    for key, value in sorted(module.state_dict().items()):
        sha.update(f"{key}{value.dtype}{list(value.shape)}".encode())
        sha.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
