r"""HopSupSup: masks kept as the attractors of a Hopfield network, whose size does not grow with the tasks.

Wortsman et al., "Supermasks in Superposition" (NeurIPS 2020), HopSupSup; constants as released. A mask chooses hidden
units (the gains of a batch normalisation, 0 or 1); as a pattern z of -1 and 1 it has an entry for each. Storkey's rule
adds a layer's patterns to one matrix W, and an unnamed task's mask is found again by going down the energy E and the
entropy of the outputs together (:func:`recover_gains`).

.. math::
    W \leftarrow W + \tfrac1d (z z^\top - I - z h^\top - h z^\top), \quad h = W z, \qquad
    E(z) = -\tfrac12 z^\top W z

W has d^2 numbers of 32 bits, a pattern d bits: W is smaller than the patterns themselves only from 32 d of them on, and
holds far fewer. Share of random patterns recovered exactly (:func:`capacity`, seed 0, plain dynamics):

====  =======  ======  ======  ======  ======  ======
d     flipped  d / 32  d / 16  d / 8   d / 4   d / 2
====  =======  ======  ======  ======  ======  ======
256   0 %      1       1       1       0.97    0.46
256   10 %     1       1       1       0.95    0.43
256   20 %     1       1       1       0.72    0.30
====  =======  ======  ======  ======  ======  ======

:func:`recover_gains` on split MNIST (five tasks of two digits, outputs of their own, 900 training images a class, one
pass, seed 0; recovery as released on up to 2000 test images): with 2048 units a layer four of five masks are found to
the bit, and the fifth task gets none that helps (2 % right). With 512 units and 1350 images three of five are nearly
found (2, 62 and 67 of 1024 entries off; none after plain dynamics).

Storkey and Valabregue (1999) leave units i and j out of h_ij, which keeps the diagonal 0; the released code, and this,
do not. The diagonal adds the same to the energy of every pattern, and plain dynamics leave it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, linear, silu

from stolon.errors import DataError, SettingError, StoreDamagedError, TaskError
from stolon.masks.fitting import MaskTraining
from stolon.masks.inference import objective_of
from stolon.masks.popup import MaskRule, masked
from stolon.randomness import generator, permutation
from stolon.settings import at_least, whole, within
from stolon.tasks import Split, to_float
from stolon.training import OptimizerName, Training, make_optimizer, mini_batches

_SIGN: Final = MaskRule(rule="nonnegative", scaled=False)
_TIE = 1e-6  # a unit whose field is nearer to 0 stays: rounding must not flip it for ever

AS_RELEASED: Final = MaskTraining(
    epochs=1, batch_size=128, learning_rate=0.1, optimizer="sgd", momentum=0.9, weight_decay=1e-4
)
"""How gains are trained."""


@final
class HopfieldStore:
    """Patterns of -1 and 1 as the attractors of one matrix.

    Args:
        units: d, >= 2.

    Raises:
        SettingError: fewer.

    Example:
        >>> store = HopfieldStore(4)
        >>> store.add(torch.tensor([1.0, 1.0, -1.0, -1.0]))
        >>> store.recover(torch.tensor([1.0, -1.0, -1.0, -1.0]))
        tensor([ 1.,  1., -1., -1.])
    """

    def __init__(self, units: int) -> None:
        whole("units", units, 2)
        self.units = units
        self.weights = torch.zeros(units, units)
        """W, float32 [d, d], symmetric."""
        self.total = torch.zeros(units)
        """The sum of the patterns [d]: recovery begins with their mean."""
        self.count = 0
        """How many patterns were added."""

    @property
    def mean(self) -> Tensor:
        """The mean pattern [d]; zeros where there is none."""
        return self.total / max(1, self.count)

    def add(self, pattern: Tensor) -> None:
        """Make a pattern [d] an attractor; what was added before may suffer.

        Raises:
            DataError: it is none of -1 and 1.
        """
        z = self._checked(pattern)
        if z.ndim != 1:
            raise DataError(f"expected one pattern [{self.units}], found {list(z.shape)}")
        a = z / 2 - self.weights @ z  # z a' + a z' is z z' - z h' - h z'
        self.weights.addr_(z, a, alpha=1 / self.units).addr_(a, z, alpha=1 / self.units)
        self.weights.diagonal().sub_(1 / self.units)
        self.total += z
        self.count += 1

    def energy(self, z: Tensor) -> Tensor:
        """E of states [..., d]; gradients flow."""
        return -0.5 * ((z @ self.weights) * z).sum(-1)

    def recover(self, pattern: Tensor) -> Tensor:
        """The attractors that patterns [..., d] of -1 and 1 come to rest in.

        Asynchronous: time and again the one unit whose flip lowers the energy most is flipped, until none does. The
        energy falls with every flip, so that it ends; nothing is random.

        Raises:
            DataError: there are other values, or of another length.
        """
        found = self._checked(pattern)
        z = found.reshape(-1, self.units).double()
        weights = self.weights.double().fill_diagonal_(0)
        field = z @ weights
        while True:
            worst, unit = (z * field).min(1)
            rows = (worst < -_TIE).nonzero().flatten()
            if not len(rows):
                return z.float().reshape(found.shape)
            flipped = unit[rows]
            z[rows, flipped] *= -1
            field[rows] += 2 * z[rows, flipped, None] * weights[flipped]

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, copied."""
        return {
            "weights": self.weights.clone(), "total": self.total.clone(), "count": torch.tensor(self.count)
        }  # fmt: skip

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave.

        Raises:
            StoreDamagedError: it is of another size, or no such thing; nothing changed.
        """
        shapes = {name: list(value.shape) for name, value in state.items()}
        if shapes != {"weights": [self.units, self.units], "total": [self.units], "count": []}:
            raise StoreDamagedError(
                f"expected a Hopfield store of {self.units} units, found tensors {shapes}"
            )
        if not all(bool(value.isfinite().all()) for value in state.values()) or int(state["count"]) < 0:
            raise StoreDamagedError(
                "expected a Hopfield store of finite numbers, found NaN or infinity, or a negative count"
            )
        self.weights, self.total = state["weights"].clone(), state["total"].clone()
        self.count = int(state["count"])

    def _checked(self, pattern: Tensor) -> Tensor:
        if not pattern.ndim or pattern.shape[-1] != self.units:
            raise DataError(f"expected patterns [..., {self.units}], found {list(pattern.shape)}")
        if pattern.dtype == torch.bool or not bool(((pattern == 1) | (pattern == -1)).all()):
            raise DataError("expected patterns of -1 and 1, found other values; of a mask take 2 * mask - 1")
        return pattern.detach().float()


def capacity(units: int, patterns: int, noise: float, seed: int = 0) -> float:
    """Share of random patterns that plain dynamics recover exactly from starts with this share of units flipped.

    Args:
        units: d, >= 2.
        patterns: how many are stored, >= 1.
        noise: share of the units, 0 to 1, that a start has flipped.
        seed: patterns and starts are functions of it.

    Raises:
        SettingError: a value is out of its range.

    Example:
        >>> capacity(64, 3, 0.1)
        1.0
    """
    whole("patterns", patterns, 1)
    within("noise", noise, 0, 1)
    store = HopfieldStore(units)
    draws = torch.rand(2, patterns, units, generator=generator(seed, "masks", "hopfield", units, patterns))
    stored = (draws[0] < 0.5).float() * 2 - 1
    for pattern in stored:
        store.add(pattern)
    flipped = draws[1].argsort(1).argsort(1) < round(noise * units)
    found = store.recover(torch.where(flipped, -stored, stored))
    return float((found == stored).all(1).float().mean())


@final
class GainNet:
    """Frozen random linear layers without biases; behind each hidden one batch normalisation, gains, and Swish.

    A gain of 0 switches its unit off. Normalisation takes the mini-batch's own statistics at all times, as released:
    statistics of each task would grow with the tasks. An answer so depends on the batch that it is asked for in.

    Args:
        inputs: numbers in one input.
        outputs: of the last layer.
        width: of each hidden layer, >= 2.
        hidden: how many there are, >= 1.
        seed: the weights, plus or minus sqrt(2 / fan_in), are a function of it.

    Raises:
        SettingError: a value is out of its range.
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int = 2048, hidden: int = 2, seed: int = 0
    ) -> None:
        for name, value in (("inputs", inputs), ("outputs", outputs), ("hidden", hidden)):
            whole(name, value, 1)
        whole("width", width, 2)
        sizes = [inputs, *[width] * hidden, outputs]
        self.inputs, self.outputs, self.width, self.hidden = inputs, outputs, width, hidden
        self.weights = tuple(
            torch.randn(sizes[i + 1], sizes[i], generator=generator(seed, "masks", "gain-net", i)).sign()
            * (2 / sizes[i]) ** 0.5
            for i in range(hidden + 1)
        )

    def __call__(self, x: Tensor, gains: Sequence[Tensor]) -> Tensor:
        """Outputs [B, outputs] of inputs [B, ...] under the gains [width] of each hidden layer.

        Raises:
            DataError: inputs of another size, or fewer than two; or gains that are not its hidden layers'.
        """
        self.check_layers("gains", gains)
        if len(x) < 2 or x[0].numel() != self.inputs:
            raise DataError(f"expected at least two inputs of {self.inputs} numbers, found {list(x.shape)}")
        x = to_float(x).flatten(1)
        for weight, gain in zip(self.weights[:-1], gains, strict=True):
            x = silu(batch_norm(linear(x, weight), None, None, weight=gain, training=True))
        return linear(x, self.weights[-1])

    def check_layers(self, what: str, found: Sequence[Tensor]) -> None:
        """Refuse what is not a vector [width] for each hidden layer.

        Raises:
            DataError: it is not.
        """
        shapes = [list(each.shape) for each in found]
        if shapes != [[self.width]] * self.hidden:
            raise DataError(
                f"{what}: expected one vector [{self.width}] for each of {self.hidden} hidden layers, found {shapes}"
            )


def gains_of(patterns: Sequence[Tensor]) -> list[Tensor]:
    """Gains of 0 and 1 from patterns of -1 and 1."""
    return [(pattern > 0).float() for pattern in patterns]


def train_gains(
    net: GainNet,
    split: Split,
    training: MaskTraining = AS_RELEASED,
    *,
    seed: int = 0,
    first_output: int = 0,
    start: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """A task's pattern of -1 and 1 for each hidden layer, by edge-popup with a score for each unit (on where >= 0).

    Args:
        net: the network.
        split: what to learn.
        training: how.
        seed: the order of the data is a function of it.
        first_output: the output of the task's first class: 0 where tasks share their labels; the released experiment
            on split MNIST gives each task outputs of its own.
        start: scores to begin with, such as the stores' means; by default zeros, as released: all units are on.

    Raises:
        DataError: there are no data, the classes go beyond the network's outputs, or scores to begin with are not of
            its hidden layers.
        TaskError: the loss is not finite.
    """
    if not len(split):
        raise DataError("expected training data, found none")
    first, last = (first_output + int(label) for label in split.labels.aminmax())
    if first < 0 or first_output < 0 or last >= net.outputs:
        raise DataError(f"expected labels for outputs 0 to {net.outputs - 1}, found {first} to {last}")
    begun = [torch.zeros(net.width) for _ in range(net.hidden)] if start is None else start
    net.check_layers("start", begun)
    scores = [layer.clone().requires_grad_() for layer in begun]
    optimizer = make_optimizer(scores, training)
    for epoch in range(training.epochs):
        for group in optimizer.param_groups:
            group["lr"] = training.rate(epoch)
        order = permutation(len(split), seed, "order", "gains", epoch)
        for indices in mini_batches(order, training.batch_size):
            x, y = split.batch(indices)
            loss = cross_entropy(net(x, _straight_through(scores)), y + first_output)
            _require_finite(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return _patterns(scores)


@final
@dataclass(frozen=True)
class Recovery(Training):
    """How a mask is recovered, as released; what is not named here is as in :class:`~stolon.training.Training`.

    Attributes:
        epochs: passes over the inputs, >= 1.
        batch_size: inputs per step, >= 2.
        gamma: weight of the energy at the last step, >= 0.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 500.0
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gamma: float = 1.5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("batch_size", self.batch_size, 2)
        at_least("gamma", self.gamma, 0)


def recover_gains(
    net: GainNet, stores: Sequence[HopfieldStore], x: Tensor, recovery: Recovery | None = None
) -> tuple[Tensor, ...]:
    r"""The mask of the task that inputs belong to, as a pattern of -1 and 1 for each hidden layer.

    Scores begin at the mean of the stored patterns. Step b of B, on the b-th mini-batch, goes down

    .. math::
        \gamma \tfrac bB \sum_l E_l(z_l) + (1 - \tfrac bB) H(\text{outputs under } z)

    where z is the scores' sign and gradients pass straight through it. The entropy points at the task; the energy then
    pulls to a stored pattern. Nothing makes sure that it ends at one, or at the right one;
    :meth:`HopfieldStore.recover` goes the rest of the way to one that is near.

    Args:
        net: the network.
        stores: of each hidden layer.
        x: inputs of one task [N, ...], N >= 2.
        recovery: how.

    Raises:
        SettingError: the stores are not the network's, or hold nothing.
        DataError: inputs of another size, or fewer than two.
        TaskError: the objective is not finite.
    """
    how = recovery or Recovery()
    if [store.units for store in stores] != [net.width] * net.hidden or not all(
        store.count for store in stores
    ):
        raise SettingError(
            f"expected {net.hidden} stores of {net.width} units that hold patterns, found "
            f"{[(store.units, store.count) for store in stores]} (units, patterns)"
        )
    if len(x) < 2:
        raise DataError(f"expected at least two inputs, found {list(x.shape)}")
    scores = [store.mean.requires_grad_() for store in stores]
    optimizer = make_optimizer(scores, how)
    batches = mini_batches(torch.arange(len(x)), how.batch_size) * how.epochs
    for step, indices in enumerate(batches, start=1):
        done = step / len(batches)
        gains = _straight_through(scores)
        entropy = objective_of(net(x[indices], gains), "entropy", net.outputs).mean()
        energy = sum(store.energy(2 * gain - 1) for store, gain in zip(stores, gains, strict=True))
        loss = how.gamma * done * energy + (1 - done) * entropy
        _require_finite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _patterns(scores)


def _straight_through(scores: Sequence[Tensor]) -> list[Tensor]:
    return [masked(layer, torch.ones_like(layer), _SIGN) for layer in scores]


def _patterns(scores: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(_SIGN.mask(layer) * 2.0 - 1 for layer in scores)


def _require_finite(loss: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise TaskError(
            f"expected a training that stays finite, found loss {loss.item()}; lower the learning rate"
        )
