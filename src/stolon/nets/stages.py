"""A network as stages: the layers that tasks can share, and the tail that is always a task's own.

Selective transfer decides layer by layer, so it needs a network as a list of layers. :func:`split` makes one of
any ``nn.Sequential``, by its structure alone: convolutions (and residual blocks, whole) with the normalisation,
activation and pooling behind them are the layers; flatten and the fully connected rest are the tail, which in
the papers every task has for itself (Lee, Behpour and Eaton, ICML 2021, section 4).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final, cast, final

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from stolon.errors import SettingError

CONVOLUTIONS: Final = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@final
class Stage(nn.Module):
    """One layer that can be transferred.

    The cut between ``body`` and ``pool`` is where ways to compute a layer are mixed or compared: after the
    activation, before the pooling.

    Args:
        body: everything with parameters (one convolution, fully connected layer or block, with its
            normalisation), and the activation.
        pool: what follows from the first pooling on: no parameters, no buffers; may be empty.

    Attributes:
        kernels: names within the stage, such as ``"body.0.weight"``, of the weights of convolutions and fully
            connected layers: what a transfer mechanism can factorize.
        others: names of all other parameters: biases, normalisation. Buffers are in neither.
        width: outputs of the last convolution or fully connected layer, in order of registration: channels.

    Raises:
        SettingError: nothing to transfer in the body, weights that are not plain parameters, or a pool that
            has a state.
    """

    def __init__(self, body: nn.Sequential, pool: nn.Sequential) -> None:
        super().__init__()
        self.body, self.pool = body, pool
        if _has_state(pool):
            raise SettingError(
                "pool: expected modules without parameters and buffers; put these into the body"
            )
        layers = [(name, module) for name, module in body.named_modules() if _is_layer(module)]
        if not layers:
            raise SettingError("body: expected a convolution or nn.Linear, found none")
        for name, module in layers:
            check_plain(name, module)
        self.kernels: tuple[str, ...] = tuple(f"body.{name}.weight" for name, _ in layers)
        self.others: tuple[str, ...] = tuple(
            name for name, _ in self.named_parameters() if name not in self.kernels
        )
        self.width: int = _width(layers[-1][1])

    @cached_property
    def is_plain(self) -> bool:
        """Whether the body is one zero-padded convolution of images, followed by what has no state."""
        first, *rest = self.body
        if type(first) is not nn.Conv2d or first.padding_mode != "zeros":
            return False
        return not any(_has_state(module) for module in rest)

    @cached_property
    def takes_whole_batches(self) -> bool:
        """See :func:`takes_whole_batches`."""
        return takes_whole_batches(self)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs of the next stage."""
        y: Tensor = self.pool(self.body(x))
        return y


def takes_whole_batches(module: nn.Module) -> bool:
    """Whether a mini-batch is more to a module than its samples: batch normalisation, or whatever has buffers.

    Batch normalisation that keeps no running statistics has none; it takes each mini-batch's own in evaluation too.

    Example:
        >>> takes_whole_batches(nn.BatchNorm2d(3, affine=False, track_running_stats=False))
        True
        >>> takes_whole_batches(nn.GroupNorm(1, 3))
        False
    """
    normalises = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
    return normalises or any(True for _ in module.buffers())


@final
class Staged(nn.Module):
    """A network as stages; made by :func:`split`.

    Args:
        stages: what can be transferred, in order.
        tail: what is always a task's own: flatten, dropout, hidden fully connected layers; may be empty.
        initialise: draws a module's parameters as the network's own were drawn; None means torch's own way
            (see :func:`stolon.nets.initialisation.renew`).

    Attributes:
        layers: the stages, an ``nn.ModuleList``.
        tail: an ``nn.Sequential``.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        tail: nn.Sequential,
        initialise: Callable[[nn.Module], None] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(stages)
        self.tail = tail
        self.initialise = initialise

    def __iter__(self) -> Iterator[Stage]:
        """The stages in order."""
        return (cast("Stage", stage) for stage in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, F] of inputs [B, ...]."""
        for stage in self.layers:
            x = stage(x)
        features: Tensor = self.tail(x)
        return features


def split(net: nn.Module, *, linear: bool = False) -> Staged:
    """Split an ``nn.Sequential`` into stages and tail; nested ones are flattened, nothing is copied.

    A stage begins at every module that is a convolution or contains one (a block of one's own stays whole) and
    runs to the next; what comes before the first belongs to it. The tail begins at the first ``nn.Flatten``, or
    module that is or contains an ``nn.Linear`` beside no convolution. Without any convolution every
    ``nn.Linear`` begins a stage, and the tail is empty. Within a stage the pool begins at the first module
    whose class is called ``...Pool...`` and behind which nothing has parameters or buffers.

    Args:
        net: the network; the result consists of its very modules, and shares its ``initialise``, if any.
        linear: fully connected layers begin stages too, behind convolutions as without any. The tail is then empty,
            and a pool can also begin at an ``nn.Flatten``.

    Raises:
        SettingError: not an ``nn.Sequential``, no layer to transfer, a parameter that occurs twice, parameters
            that are not plain, or convolutions after the tail began.

    Example:
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3), nn.ReLU(),
        ...     nn.Flatten(), nn.Linear(16 * 36, 10),
        ... )
        >>> staged = split(net)
        >>> [(stage.width, len(stage.body), len(stage.pool)) for stage in staged], len(staged.tail)
        ([(8, 2, 1), (16, 2, 0)], 2)
    """
    if not _is_plain_sequential(net):
        raise SettingError(
            f"expected an nn.Sequential, whose modules are called in order, found {type(net).__name__}; "
            "write the network as one (parts with a forward of their own can be its modules)"
        )
    _check_distinct(net)
    flat = list(_flatten("", net))
    modules = [module for _, module in flat]
    has_tail = not linear and any(_contains(module, CONVOLUTIONS) for module in modules)
    kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS if has_tail else (nn.Linear,)
    kinds = (*CONVOLUTIONS, nn.Linear) if linear else kinds
    begins = [i for i, module in enumerate(modules) if _contains(module, kinds)]
    if not begins:
        found = ", ".join(type(module).__name__ for module in modules) or "nothing"
        raise SettingError(f"expected a convolution or nn.Linear, a layer to transfer, found {found}")
    end = len(modules)
    if has_tail:
        end = next((i for i, module in enumerate(modules) if _begins_tail(module)), end)
        if begins[-1] > end:
            raise SettingError(
                f"expected all convolutions before the first nn.Flatten or nn.Linear, found {flat[begins[-1]][0]!r} "
                f"after {flat[end][0]!r}; write what belongs together as one nn.Module of its own"
            )
    bounds = [0, *begins[1:], end]
    stages = [_stage(modules[first:last], flatten=linear) for first, last in pairwise(bounds)]
    return Staged(stages, nn.Sequential(*modules[end:]), getattr(net, "initialise", None))


def _stage(modules: Sequence[nn.Module], *, flatten: bool) -> Stage:
    last = max(i for i, module in enumerate(modules) if _has_state(module))
    pools = (
        "Pool" in type(module).__name__ or (flatten and isinstance(module, nn.Flatten)) for module in modules
    )
    cut = next((i for i, is_pool in enumerate(pools) if is_pool and i > last), len(modules))
    return Stage(nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:]))


def _flatten(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are called one after the other, with their names."""
    if not _is_plain_sequential(module):
        yield name, module
        return
    for key, child in module._modules.items():  # named_children leaves out what occurs twice
        assert child is not None, "nn.Sequential holds modules"
        yield from _flatten(f"{name}.{key}" if name else key, child)


def _is_plain_sequential(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (*CONVOLUTIONS, nn.Linear))


def _contains(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return any(isinstance(part, kinds) for part in module.modules())


def _begins_tail(module: nn.Module) -> bool:
    linear = _contains(module, (nn.Linear,)) and not _contains(module, CONVOLUTIONS)
    return linear or isinstance(module, nn.Flatten)


def _has_state(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _width(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def check_plain(name: str, layer: nn.Module) -> None:
    """Refuse weights that another tensor cannot simply replace.

    Args:
        name: of the layer, for the error.
        layer: with a weight.

    Raises:
        SettingError: they are parametrised, or not drawn yet.
    """
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    if weight is None:
        raise SettingError(
            f"expected a plain weight in layer {name!r}, found a parametrised one; remove the parametrisation "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )
    if is_lazy(weight):
        raise SettingError(
            f"expected weights of known shape, found {type(layer).__name__} without any; "
            "pass one input through the network first"
        )


def _check_distinct(net: nn.Module) -> None:
    """Refuse a parameter or buffer that occurs twice: two stages could not decide about it."""
    seen: dict[int, str] = {}
    for name, tensor in (
        *net.named_parameters(remove_duplicate=False),
        *net.named_buffers(remove_duplicate=False),
    ):
        first = seen.setdefault(id(tensor), name)
        if first != name:
            raise SettingError(
                f"expected every parameter and buffer once, found {first!r} again as {name!r}; "
                "give each place a module of its own"
            )
