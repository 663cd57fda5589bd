"""What learning costs: multiply-accumulates (MACs), bytes stored, bytes sent.

MACs are half of the floating point operations that the framework's own counter counts: convolutions, matrix
products and attention; norms, activations and other elementwise work are not counted, by it or by the papers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from stolon.errors import SettingError
from stolon.settings import at_least

ALPHA: Final = 1000.0
"""MACs that sending one byte is worth (Ge et al., TMLR 2023, section 6)."""


@final
@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one step.

    Attributes:
        forward: computing the answers.
        backward: computing the gradients of what is trained.
    """

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Both."""
        return self.forward + self.backward


@final
@dataclass(frozen=True)
class Cost:
    """What something costs; costs add up, and repeat.

    Attributes:
        forward: MACs of forward passes, >= 0.
        backward: MACs of backward passes, >= 0.
        stored: bytes kept for answering later, >= 0.
        sent: bytes sent to others, or received from them, >= 0.
        alpha: MACs that one byte sent is worth, >= 0.

    Raises:
        SettingError: a value is negative, or costs of different ``alpha`` are added.

    Example:
        >>> learned = 10 * Cost(forward=3, backward=6)
        >>> (learned + Cost(sent=2)).total
        2090.0
    """

    forward: int = 0
    backward: int = 0
    stored: int = 0
    sent: int = 0
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        for name in ("forward", "backward", "stored", "sent", "alpha"):
            at_least(name, getattr(self, name), 0)

    @property
    def macs(self) -> int:
        """MACs computed, forward and backward."""
        return self.forward + self.backward

    @property
    def total(self) -> float:
        """Everything in MACs: computed, plus ``alpha`` for each byte sent."""
        return self.macs + self.alpha * self.sent

    def __add__(self, other: Self) -> Self:
        if self.alpha != other.alpha:
            raise SettingError(f"alpha: expected equal MACs per byte, found {self.alpha} and {other.alpha}")
        return type(self)(
            self.forward + other.forward,
            self.backward + other.backward,
            self.stored + other.stored,
            self.sent + other.sent,
            self.alpha,
        )

    def __rmul__(self, times: int) -> Self:
        """The same work ``times`` times; what is stored is stored once."""
        return type(self)(
            times * self.forward, times * self.backward, self.stored, times * self.sent, self.alpha
        )


@final
@dataclass(frozen=True)
class Stored:
    """Bytes that a learner keeps for answering.

    Attributes:
        shared: used by all tasks.
        per_task: each task's own.
    """

    shared: int
    per_task: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return self.shared + sum(self.per_task.values())


def stored(total_bytes: int, per_task: Mapping[str, int]) -> Stored:
    """Bytes per task and shared, from a learner's size.

    Args:
        total_bytes: what everything takes.
        per_task: what each task's own takes.

    Raises:
        SettingError: a count is negative, or the tasks take more than everything.

    Example:
        >>> stored(120, {"a": 60, "b": 20})
        Stored(shared=40, per_task={'a': 60, 'b': 20})
    """
    own = dict(per_task)
    for name, value in {"total_bytes": total_bytes, **own}.items():
        at_least(name, value, 0)
    at_least("total_bytes", total_bytes, sum(own.values()))
    return Stored(total_bytes - sum(own.values()), own)


def flop_counter() -> FlopCounterMode:
    """The framework's counter, also counting the attention kernel of the CPU, which it leaves out.

    Use it as a context manager; ``.get_total_flops() // 2`` are the MACs. On the CPU it still misses what
    fused recurrent layers do (LSTM, GRU); :func:`macs` counts on the meta device, where nothing is missed.
    """
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    cpu: dict[Any, Any] = {
        kernel: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        backward: lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4]),
    }
    return FlopCounterMode(display=False, custom_mapping=cpu)


def macs(
    network: nn.Module, shape: Sequence[int], *, batch: int = 1, dtype: torch.dtype | None = None
) -> Macs:
    """Count the MACs of one training step, without computing anything.

    The network is called, and its backward pass really run, on the meta device. Only gradients that the
    parameters with ``requires_grad`` need are counted: trained biases in a frozen backbone cost the gradients
    that pass through it, a frozen backbone under a trained head costs none. The network stays as it was.

    Args:
        network: maps inputs [B, ...] to scores; in the mode (train, eval) in which it is to be counted.
        shape: the shape of one input, such as (3, 32, 32).
        batch: B, >= 1.
        dtype: of the inputs; that of the network's first floating point parameter by default.

    Returns:
        MACs of the whole batch.

    Raises:
        SettingError: the batch is below 1, the network gives no tensor, or does not take such inputs.

    Example:
        >>> macs(nn.Linear(10, 5), (10,), batch=2)
        Macs(forward=100, backward=100)
    """
    at_least("batch", batch, 1)
    if dtype is None:
        floating = (p.dtype for p in network.parameters() if p.is_floating_point())
        dtype = next(floating, torch.float32)
    hollow: dict[str, Tensor] = {
        name: torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        for name, value in network.named_parameters()
    }
    hollow |= {name: torch.empty_like(value, device="meta") for name, value in network.named_buffers()}
    x = torch.empty(batch, *shape, dtype=dtype, device="meta")
    try:
        with torch.enable_grad(), flop_counter() as counter:
            scores = torch.func.functional_call(network, hollow, (x,))
        if not isinstance(scores, Tensor):
            raise SettingError(f"network: expected one that gives a tensor, found {type(scores).__name__}")
        forward = counter.get_total_flops() // 2
        with flop_counter() as counter:
            if scores.requires_grad:
                scores.sum().backward()
    except (RuntimeError, IndexError) as error:
        raise SettingError(f"network: cannot be called with inputs {[batch, *shape]}: {error}") from error
    return Macs(forward, counter.get_total_flops() // 2)


def cost(
    network: nn.Module,
    shape: Sequence[int],
    *,
    samples: int = 1,
    batch_size: int = 64,
    epochs: int = 1,
    stored: int = 0,
    sent: int = 0,
    alpha: float = ALPHA,
) -> Cost:
    """What training a network costs: MACs by :func:`macs`, and the bytes that it leaves.

    Args:
        network: see :func:`macs`.
        shape: the shape of one input.
        samples: inputs per epoch, >= 0.
        batch_size: inputs per step, >= 1; what a step does once, such as making its parameters, is counted
            once per step. The last step of an epoch takes the rest.
        epochs: >= 0.
        stored: bytes kept.
        sent: bytes sent.
        alpha: MACs that one byte sent is worth.

    Raises:
        SettingError: a value is out of its range, or the network does not take such inputs.

    Example:
        >>> cost(nn.Linear(10, 5), (10,), samples=100, epochs=2, sent=220).total
        240000.0
    """
    at_least("samples", samples, 0)
    at_least("batch_size", batch_size, 1)
    at_least("epochs", epochs, 0)
    steps, rest = divmod(samples, batch_size)
    forward = backward = 0
    for batch, times in ((batch_size, steps), (rest, 1)):
        if batch and times:
            step = macs(network, shape, batch=batch)
            forward, backward = forward + times * step.forward, backward + times * step.backward
    return Cost(epochs * forward, epochs * backward, stored, sent, alpha)


def parallel_efficiency(
    single_macs: float,
    *,
    agents: int,
    sent_bytes: float,
    student_macs: float = 0.0,
    teacher_macs: float | None = None,
    alpha: float = ALPHA,
) -> float:
    r"""How close N agents come to being N times as fast as one; 1 is perfect.

    .. math::
        E = \frac{S}{N \, (\text{teacher} + \alpha \cdot \text{bytes} + \text{student})}

    Args:
        single_macs: S, MACs of one agent that learns all tasks, > 0.
        agents: N, >= 1.
        sent_bytes: bytes that one agent receives from all others, one after the other.
        student_macs: MACs that one agent spends on what it received.
        teacher_macs: MACs that one agent spends on its own tasks; S / N by default.
        alpha: MACs that one byte is worth.

    Raises:
        SettingError: a value is out of its range.

    Example:
        >>> round(parallel_efficiency(1.73e16, agents=102, sent_bytes=6.72e9, student_macs=5e9), 3)
        0.962

    Source:
        Ge et al., TMLR 2023, arXiv:2305.15591, Fig. 10. This is the definition of its caption; the printed
        column does not follow it (0.9966 in place of the 0.962 above): two of its rows divide the bytes' cost
        by the single agent's total, and the Mahalanobis rows fit neither.
    """
    at_least("agents", agents, 1)
    for name, value in {"sent_bytes": sent_bytes, "student_macs": student_macs, "alpha": alpha}.items():
        at_least(name, value, 0)
    teacher = single_macs / agents if teacher_macs is None else teacher_macs
    at_least("teacher_macs", teacher, 0)
    if not (single_macs > 0 and math.isfinite(single_macs)):
        raise SettingError(f"single_macs: expected more than 0, found {single_macs}")
    parallel = teacher + alpha * sent_bytes + student_macs
    if parallel <= 0:
        raise SettingError("teacher_macs: expected parallel work of more than 0 MACs, found none")
    return single_macs / parallel / agents
