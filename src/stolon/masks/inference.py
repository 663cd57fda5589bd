r"""Which task an input belongs to, when nobody says: the mask that makes the network sure (SupSup, section 3.3).

All K tasks' weights are mixed, :math:`W = \sum_t \beta_t W_t` with :math:`\beta_t = 1/K`, and an objective of the
outputs is differentiated by :math:`\beta`: the task whose share should grow most, since that lowers the objective, is
the answer. **One-shot** looks once; **binary** keeps the better half of the tasks and looks again, log2(K) times.
**Each**, which is no paper's, mixes nothing: every task's network answers by itself, and the one with the least
objective wins; K passes forwards, about what one-shot costs for single samples, and a bound on what mixtures can tell.

Objectives: ``"entropy"`` of the softmax outputs; ``"superfluous"`` (SupSup's G): log-sum-exp of the outputs, whose
gradient flows only through outputs that no task has a class for: trained tasks push these down. (Each looks at how much
of the softmax they have.)

``per="batch"`` gives one answer for all inputs, as in the papers, where a batch of 128 comes from one task: that is
easier than it sounds. ``per="sample"`` gives one for each: the derivative of each sample's own objective, all tasks by
forward-mode differentiation. Normalisation uses the batch's own statistics in the former, as released, and the mean of
the tasks' statistics in the latter, where a sample must not depend on the others.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, final

import torch
from torch import Tensor

from stolon.errors import SettingError
from stolon.masks.frozen import FrozenNet
from stolon.randomness import seeded
from stolon.settings import one_of

Objective = Literal["entropy", "superfluous"]
OBJECTIVES: Final = ("entropy", "superfluous")
Search = Literal["one-shot", "binary", "each"]
SEARCHES: Final = ("one-shot", "binary", "each")
Per = Literal["sample", "batch"]
PERS: Final = ("sample", "batch")

Weights = Sequence[Tensor]


def objective_of(outputs: Tensor, kind: Objective, used: int) -> Tensor:
    """The objective of each sample [B], of outputs [B, O] of which tasks use the first ``used``."""
    if kind == "entropy":
        logs = outputs.log_softmax(1)
        return -(logs.exp() * logs).sum(1)
    return torch.cat([outputs[:, :used].detach(), outputs[:, used:]], 1).logsumexp(1)


class Candidates:
    """The tasks that inputs may belong to.

    Args:
        frozen: the network.
        weights: gives the weights of each layer under a task, by its position.
        statistics: normalisation's of each task.
    """

    def __init__(
        self,
        frozen: FrozenNet,
        weights: Callable[[int], Weights],
        statistics: Sequence[Mapping[str, Tensor]],
    ) -> None:
        self.frozen, self.weights, self._statistics = frozen, weights, statistics

    def __len__(self) -> int:
        return len(self._statistics)

    @torch.no_grad()
    def mixture(self, tasks: Sequence[int]) -> list[Tensor]:
        """The mean weights of some tasks."""
        total = [torch.zeros(shape) for shape in self.frozen.shapes]
        for task in tasks:
            for layer, weight in zip(total, self.weights(task), strict=True):
                layer.add_(weight, alpha=1 / len(tasks))
        return total

    @torch.no_grad()
    def slopes(self, gradients: Weights, tasks: Sequence[int]) -> Tensor:
        """The derivative by each task's share [K']: the sum over layers of <d objective / d W, W_t>."""
        found = torch.zeros(len(tasks))
        for i, task in enumerate(tasks):
            for gradient, weight in zip(gradients, self.weights(task), strict=True):
                found[i] += gradient.flatten() @ weight.flatten()
        return found

    def statistics(self, task: int) -> Mapping[str, Tensor]:
        """Normalisation's statistics of a task."""
        return self._statistics[task]

    def mean_statistics(self, tasks: Sequence[int]) -> dict[str, Tensor]:
        """Normalisation's statistics, the tasks' mean."""
        return {
            name: torch.stack([self._statistics[t][name].float() for t in tasks]).mean(0).to(value.dtype)
            for name, value in self.frozen.begin_statistics().items()
        }


@final
class TaskSearch:
    """Finds the task of inputs.

    Args:
        candidates: the tasks.
        used: outputs that tasks have classes for.
        objective: see the module.

    Raises:
        SettingError: the objective needs outputs that no task uses, and there are none; or there is no task.
    """

    def __init__(self, candidates: Candidates, used: int, objective: Objective = "entropy") -> None:
        one_of("objective", objective, OBJECTIVES)
        frozen = candidates.frozen
        if not len(candidates):
            raise SettingError("expected at least one task to choose from, found none")
        if objective == "superfluous" and used >= frozen.outputs:
            raise SettingError(
                f"objective 'superfluous': expected more outputs than the {used} that tasks use, found "
                f"{frozen.outputs}; make the learner with more outputs, or take the entropy"
            )
        self._candidates, self._frozen, self._count = candidates, frozen, len(candidates)
        self._used, self._objective = used, objective

    def find(self, x: Tensor, search: Search = "one-shot", per: Per = "sample") -> Tensor:
        """The position of the task of each input [B, ...], int64 [B]; all the same ``per="batch"``."""
        one_of("search", search, SEARCHES)
        one_of("per", per, PERS)
        if self._count == 1 or not len(x):
            return torch.zeros(len(x), dtype=torch.int64)
        if search == "each":
            values = self.objectives(x)
            return values.argmin(1) if per == "sample" else values.mean(0).argmin().expand(len(x)).clone()
        if search == "one-shot":
            if per == "batch":
                return self.batch_gradient(x, range(self._count)).argmin().expand(len(x)).clone()
            return self.sample_gradients(x).argmin(1)
        if per == "batch":
            return torch.full((len(x),), self._halved(x, own=True))
        return torch.tensor([self._halved(each[None], own=False) for each in x])

    def batch_gradient(self, x: Tensor, tasks: Sequence[int], *, own: bool = True) -> Tensor:
        """The derivative of the mean objective by each task's share [K'], where these tasks are mixed evenly.

        Args:
            x: inputs [B, ...].
            tasks: positions.
            own: whether normalisation uses the batch's own statistics; of one input, which has none, the tasks' mean.
        """
        own = own and (len(x) > 1 or not self._frozen.has_statistics)
        mixed = [layer.requires_grad_() for layer in self._candidates.mixture(tasks)]
        with torch.enable_grad(), seeded(0, "masks", "search"):  # what drops out is the same at every call
            statistics = self._frozen.begin_statistics() if own else self._candidates.mean_statistics(tasks)
            outputs = self._frozen(x, mixed, statistics, training=own)
            found = objective_of(outputs, self._objective, self._used).mean()
            gradients = torch.autograd.grad(found, mixed)
        return self._candidates.slopes(gradients, tasks)

    @torch.no_grad()
    def sample_gradients(self, x: Tensor) -> Tensor:
        """The derivative of each sample's objective by each task's share [B, K], where all are mixed evenly."""
        _load_forward_mode()
        tasks = range(self._count)
        mixed, statistics = tuple(self._candidates.mixture(tasks)), self._candidates.mean_statistics(tasks)

        def objective(*weights: Tensor) -> Tensor:
            outputs = self._frozen(x, weights, statistics, training=False)
            return objective_of(outputs, self._objective, self._used)

        found = []
        for task in tasks:
            slopes: tuple[Tensor, Tensor] = torch.func.jvp(
                objective, mixed, tuple(self._candidates.weights(task))
            )  # type: ignore[assignment]  # two without has_aux
            found.append(slopes[1])
        return torch.stack(found, 1)

    @torch.no_grad()
    def objectives(self, x: Tensor) -> Tensor:
        """How unsure each task's own network is of each input [B, K]: its entropy, or what superfluous outputs have."""
        found = []
        for task in range(self._count):
            weights, statistics = self._candidates.weights(task), self._candidates.statistics(task)
            outputs = self._frozen(x, weights, statistics, training=False)
            if self._objective == "entropy":
                found.append(objective_of(outputs, "entropy", self._used))
            else:
                found.append(outputs.softmax(1)[:, self._used :].sum(1))
        return torch.stack(found, 1)

    def _halved(self, x: Tensor, *, own: bool) -> int:
        tasks = list(range(self._count))
        while len(tasks) > 1:
            slopes = self.batch_gradient(x, tasks, own=own)
            order = slopes.argsort(stable=True)[: (len(tasks) + 1) // 2]
            tasks = [tasks[i] for i in sorted(order.tolist())]
        return tasks[0]


def _load_forward_mode() -> None:
    """Let torch load its formulas for forward-mode differentiation, which it does with what it itself deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")
