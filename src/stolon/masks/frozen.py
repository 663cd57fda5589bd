"""The random network that masks choose from: its weights are drawn once and never trained.

Zhou et al. (2019) and Ramanujan et al. (2020): a large enough random network contains subnetworks that do a task well.
"""

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stolon import nets
from stolon.errors import DataError, SettingError, StoreDamagedError
from stolon.nets.registry import feature_count
from stolon.nets.stages import CONVOLUTIONS, check_plain
from stolon.randomness import generator, seeded

Weights = Literal["signed-constant", "kaiming-normal", "given"]
WEIGHTS: Final = ("signed-constant", "kaiming-normal", "given")

_MASKED: Final = (nn.Linear, *CONVOLUTIONS)
_NORMS: Final = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@final
@dataclass(frozen=True)
class Identity:
    """Which frozen network; with the same settings, enough to make it again.

    Attributes:
        fingerprint: SHA-256, 64 hexadecimal digits: see :meth:`FrozenNet.fingerprint`.
        input_shape: of one input.
        outputs: of the last layer.
        shapes: of the masked weights, in order.
    """

    fingerprint: str
    input_shape: tuple[int, ...]
    outputs: int
    shapes: tuple[tuple[int, ...], ...]


@final
class FrozenNet:
    """A network without biases, whose weights are given to it at every call.

    Biases of convolutions and linear layers and the affine parameters of normalisation are taken out, as in SupSup and
    ImpressLearn: what a task knows is which weights it uses. A bias-free linear layer with ``outputs`` outputs is put
    behind the net. Batch normalisation has no running statistics of its own: each task has them. Whatever other
    parameters there are (attention's projection of its inputs, for one) stay as the net draws them.

    Args:
        net: a name of :func:`stolon.nets.names`, or a module that gives features [B, F] (copied).
        input_shape: of one input.
        outputs: of the last layer; a task may use fewer. SupSup uses more than any task needs, for its objective G.
        weights: how the weights are drawn: ``"signed-constant"``: plus or minus sqrt(2 / fan_in) (SupSup);
            ``"kaiming-normal"``: normal with that deviation (ImpressLearn, footnote 2); ``"given"``: as the net itself
            draws them, or as the module that is passed has them.
        seed: the weights are a function of it.

    Raises:
        SettingError: a value is out of its range, the net has no layer to mask, or one whose weight is not its own.
    """

    def __init__(
        self,
        net: str | nn.Module,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        weights: Weights = "signed-constant",
        seed: int = 0,
    ) -> None:
        if outputs < 1:
            raise SettingError(f"outputs: expected >= 1, found {outputs}")
        body = nets.build(net, input_shape=input_shape, seed=seed)
        features = feature_count(body, input_shape)
        with seeded(seed, "masks", "head"):  # drawn below; the layer draws too
            self._net = nn.Sequential(body, nn.Linear(features, outputs, bias=False))
        self.input_shape, self.outputs = input_shape, outputs
        _strip(self._net)
        found = {
            f"{name}.weight": module
            for name, module in self._net.named_modules()
            if isinstance(module, _MASKED)
        }
        if len(found) < 2:
            raise SettingError("expected a net with convolutions or linear layers to mask, found none")
        _check_own(found)
        self.names: tuple[str, ...] = tuple(found)
        """The masked weights, in order of the layers; the last is the output layer's."""
        self.weights: tuple[Tensor, ...] = tuple(
            _drawn(name, module, weights, seed, is_last=name == self.names[-1])
            for name, module in found.items()
        )
        self.shapes: tuple[torch.Size, ...] = tuple(weight.shape for weight in self.weights)
        self._others = {
            name: value.detach() for name, value in self._net.named_parameters() if name not in found
        }
        self._net.requires_grad_(requires_grad=False)
        self.has_statistics = any(True for _ in self._net.buffers())

    @property
    def entries(self) -> tuple[int, ...]:
        """Weights in each layer."""
        return tuple(math.prod(shape) for shape in self.shapes)

    def begin_statistics(self) -> dict[str, Tensor]:
        """Normalisation's running statistics before any input, by name; empty where there is none."""
        return {name: value.clone() for name, value in self._net.named_buffers()}

    def __call__(
        self, x: Tensor, weights: Sequence[Tensor], statistics: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Outputs [B, outputs] of inputs [B, ...] under these weights.

        Args:
            x: the inputs.
            weights: of each layer, in order.
            statistics: the task's own; in training they are updated in place.
            training: whether normalisation takes the mini-batch's own statistics.
        """
        self._net.train(training)
        given = {**self._others, **dict(zip(self.names, weights, strict=True)), **statistics}
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        scores: Tensor = functional_call(self._net, given, (x,))
        return scores

    def at_once(
        self,
        x: Tensor,
        weights: Sequence[Tensor],
        statistics: Mapping[str, Tensor],
        *,
        training: bool,
    ) -> Tensor:
        """Outputs [K, B, outputs] of K networks, each on inputs of its own [K, B, ...].

        Args:
            x: the inputs.
            weights: of each layer [K, ...].
            statistics: [K, ...]; in training they are updated in place.
            training: as above.
        """
        self._net.train(training)

        def one(x: Tensor, weights: tuple[Tensor, ...], statistics: dict[str, Tensor]) -> Tensor:
            given = {**self._others, **dict(zip(self.names, weights, strict=True)), **statistics}
            found: Tensor = functional_call(self._net, given, (x,))
            return found

        scores: Tensor = torch.vmap(one, randomness="different")(x, tuple(weights), dict(statistics))
        return scores

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights, by name, in place of the drawn ones.

        Raises:
            StoreDamagedError: they are not this network's.
        """
        found = {name: tuple(value.shape) for name, value in weights.items()}
        expected = dict(zip(self.names, map(tuple, self.shapes), strict=True))
        if found != expected:
            raise StoreDamagedError(f"expected the weights {expected} of the frozen network, found {found}")
        self.weights = tuple(weights[name].clone() for name in self.names)

    def fingerprint(self) -> str:
        """What two networks must share for masks of one to mean something in the other, hexadecimal."""
        digest = hashlib.sha256(repr((str(self._net), self.names, self.input_shape)).encode())
        for tensor in (*self.weights, *self._others.values()):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def identity(self) -> Identity:
        """Which network this is, for others."""
        return Identity(self.fingerprint(), self.input_shape, self.outputs, tuple(map(tuple, self.shapes)))

    def check(self, x: Tensor) -> None:
        """Refuse inputs of another shape, and what is no number.

        Raises:
            DataError: they are.
        """
        if tuple(x.shape[1:]) != self.input_shape:
            raise DataError(f"expected inputs [B, {self.input_shape}], found {list(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise DataError("expected finite inputs, found NaN or infinity; clean the data first")


def planned(net: str | nn.Module, input_shape: tuple[int, ...], outputs: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of the weights that such a network would have; nothing is allocated, whatever is asked for.

    Raises:
        SettingError: there is no such network.
    """
    try:
        with torch.device("meta"):
            body = (
                nets.build(net, input_shape=input_shape, seed=0)
                if isinstance(net, str)
                else copy.deepcopy(net)
            )
            body = body.to("meta")
            whole = nn.Sequential(body, nn.Linear(feature_count(body, input_shape), outputs, bias=False))
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise SettingError(f"this net cannot be made for inputs {input_shape}: {error}") from error
    return tuple(tuple(module.weight.shape) for module in whole.modules() if isinstance(module, _MASKED))


def _check_own(layers: Mapping[str, nn.Module]) -> None:
    """Refuse weights that are computed of others, and ones that two layers have in common."""
    seen: dict[int, str] = {}
    for name, module in layers.items():
        check_plain(name.removesuffix(".weight"), module)
        first = seen.setdefault(id(module.weight), name)
        if first != name:
            raise SettingError(
                f"expected layers with weights of their own, found {first} and {name} to be one tensor; a mask chooses "
                "for each layer by itself: untie them"
            )


def _strip(net: nn.Module) -> None:
    """Take out biases, and what normalisation multiplies and adds."""
    for module in net.modules():
        if isinstance(module, _MASKED):
            module.register_parameter("bias", None)
        elif isinstance(module, _NORMS):
            for parameter in ("weight", "bias"):
                if hasattr(module, parameter):
                    module.register_parameter(parameter, None)
            if hasattr(module, "affine"):
                module.affine = False


def _drawn(name: str, module: nn.Module, kind: Weights, seed: int, *, is_last: bool) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    if kind == "given" and not is_last:
        return weight.detach().clone()
    deviation = math.sqrt(2 / (weight[0].numel()))
    g = generator(seed, "masks", "weights", name)
    drawn = torch.randn(weight.shape, generator=g)
    if kind == "signed-constant":
        return drawn.sign().mul_(deviation)
    return drawn.mul_(deviation)
