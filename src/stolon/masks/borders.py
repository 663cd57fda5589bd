r"""SupSup where nobody says when a task ends: a new mask is begun whenever no known one is sure of the data (NNs).

Wortsman et al., "Supermasks in Superposition" (NeurIPS 2020), scenario NNs: tasks have no names, neither in training
nor later, and share their labels. Every so many mini-batches all K masks, the one in training too, are mixed evenly,
and one gradient by their shares is taken of the objective H, its mean over the mini-batch, without labels:

.. math::
    \nu = \mathrm{softmax}(-\nabla_\beta H), \qquad
    K \max_k \nu_k < 1 + \epsilon \;\Rightarrow\; \text{a new mask, else mask } \arg\max_k \nu_k

That mask is trained until the next look. No mask is ever finished: data that belong to it train it further. What
comes between a border and the next look trains the wrong one. As released (``least_masks=5``), the mixture is filled up
to five with untrained masks, and K counts these. ``least_masks=1`` is the rule as the paper writes it: of one mask
K max nu is 1, so that the second look always begins another.

Differences from the released code: an untrained mask that wins begins a task (there it is trained but not counted, so
that a later task can be given it too); mini-batches are counted from first to last (there anew in every epoch, so that
every border coincides with a look); the optimiser begins anew when training moves to another mask (there at every
border); kept weights may be scaled (``MaskRule(scaled=False)`` is theirs).

The softmax has no temperature: the threshold is on an absolute scale and wants setting for the network.
:func:`stolon.masks.following.follow` on ``digits-permuted`` (6 tasks, normalised, mlp-300-100 with 100 outputs,
seed 0, scores >= 0 unscaled, RMSprop 1e-3, 80 mini-batches of 64 a task, a look every 20, ``per="sample"``):

=============  ===============  ===========  ===============  ============  ================
``tolerance``  ``least_masks``  masks begun  borders noticed  false alarms  answered rightly
=============  ===============  ===========  ===============  ============  ================
0.125          5                4            3 of 5           0             83.8 %
0.25           5                6            4 of 5           1             90.4 %
0.25           1                8            4 of 5           3             89.4 %
0.25           12               10           4 of 5           5             87.2 %
=============  ===============  ===========  ===============  ============  ================
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from stolon.errors import DataError, SettingError, StoreDamagedError, TaskError
from stolon.masks.fitting import MaskTraining
from stolon.masks.frozen import FrozenNet
from stolon.masks.inference import Candidates, Objective, Per, Search, TaskSearch
from stolon.masks.popup import MaskRule, begin_scores, masked, scaled
from stolon.randomness import seeded
from stolon.settings import at_least, whole
from stolon.tasks import to_float
from stolon.training import EVALUATION_BATCH, load_optimizer, make_optimizer, optimizer_tensors


class Decision(NamedTuple):
    """What a look before a mini-batch (counted from 0) found.

    ``sureness`` is K max nu, 1 (unsure, or nothing to compare) to K; ``mask`` is the one that is trained from there on.
    """

    batch: int
    mask: int
    sureness: float
    is_new: bool


class Answer(NamedTuple):
    """The mask of each input, int64 [B], and its label under that mask, int64 [B]."""

    masks: Tensor
    labels: Tensor


@final
class Borderless:
    """Masks that are begun and trained as the data ask for it; complete, as tensors, between any two mini-batches.

    The scores of all masks are kept (32 bits a weight), since any of them may be trained further.

    Args:
        frozen: the network.
        rule: how scores become masks.
        training: the optimiser; of its other settings, epochs and batch size are those of
            :func:`stolon.masks.following.follow`.
        seed: the scores that masks begin with are a function of it.
        look_every: mini-batches from one look to the next, >= 1.
        tolerance: epsilon, >= 0; 0.125 as released.
        least_masks: the mixture is filled up with untrained masks to this many, >= 1; see the module.
        objective: see :mod:`stolon.masks.inference`; the entropy in the paper.
        classes: labels that all tasks share, 1 to the network's outputs; by default all outputs.

    Raises:
        SettingError: a value is out of its range, the learning rate changes over epochs that nobody knows of, or the
            objective needs outputs that no class has.

    Example:
        >>> learner = Borderless(FrozenNet("mlp-16", (4,), 3), MaskRule(), MaskTraining(), look_every=2)
        >>> learner.observe(torch.rand(8, 4), torch.arange(8) % 3), learner.tasks
        (0, 1)
        >>> learner.predict(torch.rand(2, 4)).masks
        tensor([0, 0])
    """

    def __init__(
        self,
        frozen: FrozenNet,
        rule: MaskRule,
        training: MaskTraining,
        *,
        seed: int = 0,
        look_every: int = 100,
        tolerance: float = 0.125,
        least_masks: int = 5,
        objective: Objective = "entropy",
        classes: int | None = None,
    ) -> None:
        whole("look_every", look_every, 1)
        at_least("tolerance", tolerance, 0)
        whole("least_masks", least_masks, 1)
        classes = frozen.outputs if classes is None else classes
        whole("classes", classes, 1)
        if classes > frozen.outputs:
            raise SettingError(f"classes: expected at most {frozen.outputs}, the outputs, found {classes}")
        if training.schedule != "constant":
            raise SettingError(
                f"schedule: expected 'constant', since the end of a task is not known, found {training.schedule!r}"
            )
        self.frozen, self.rule, self.training, self.classes = frozen, rule, training, classes
        self.history: list[Decision] = []
        """Every look, in order."""
        self.batches = 0
        """Mini-batches seen."""
        self._seed, self._look_every, self._tolerance = seed, look_every, tolerance
        self._least, self._objective = least_masks, objective
        self._layers = scaled(frozen.weights, rule)
        self._scores: list[list[Tensor]] = []  # of each mask, each layer's
        self._statistics: list[dict[str, Tensor]] = []
        self._current = -1
        self._optimizer: Optimizer | None = None
        TaskSearch(self._candidates(1), classes, objective)  # refuses an objective that cannot be had

    @property
    def tasks(self) -> int:
        """K: masks that were begun."""
        return len(self._scores)

    def masks(self, i: int) -> tuple[Tensor, ...]:
        """The i-th mask of each layer.

        Raises:
            SettingError: there is none.
        """
        if not 0 <= i < self.tasks:
            raise SettingError(f"expected a mask from 0 to below {self.tasks}, found {i}")
        return tuple(self.rule.mask(layer) for layer in self._scores[i])

    def observe(self, x: Tensor, y: Tensor) -> int:
        """Train on a mini-batch, after a look if one is due; the mask that was trained.

        Args:
            x: inputs [B, ...].
            y: labels [B], integers.

        Raises:
            DataError: inputs or labels that the network does not take; nothing changed.
            TaskError: the loss is not finite, and nothing changed; or the step that follows from it is not: then load
                what was saved last.
        """
        x = self._checked(x, y)
        is_due = self.batches % self._look_every == 0
        decision = self._look(x) if is_due else self.history[-1]
        mask = decision.mask
        is_begun = mask < self.tasks
        scores = self._scores[mask] if is_begun else [layer.requires_grad_() for layer in self._fresh(mask)]
        before = self._statistics[mask] if is_begun else self.frozen.begin_statistics()
        statistics = {name: value.clone() for name, value in before.items()}
        with seeded(self._seed, "dropout", self.batches):
            loss = cross_entropy(self.frozen(x, self._weights(scores), statistics, training=True), y.long())
        if not math.isfinite(loss.item()):
            raise TaskError(
                f"mini-batch {self.batches}: expected a training that stays finite, found loss {loss.item()}; lower "
                "the learning rate or scale the data"
            )
        self._scores[mask : mask + 1], self._statistics[mask : mask + 1] = (
            [scores],
            [statistics],
        )  # nothing is refused now
        if self._optimizer is None or mask != self._current:
            self._optimizer = make_optimizer(scores, self.training)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        if not all(bool(layer.isfinite().all()) for layer in scores):
            raise TaskError(
                f"mini-batch {self.batches}: expected a training that stays finite, found scores that are no numbers; "
                "load what was saved last, and lower the learning rate"
            )
        self._current, self.batches = mask, self.batches + 1
        if is_due:
            self.history.append(decision)
        return mask

    @torch.no_grad()
    def predict(self, x: Tensor, *, per: Per = "sample", search: Search = "one-shot") -> Answer:
        """The mask and the label of each input [B, ...].

        Args:
            x: the inputs.
            per: a mask for each ``"sample"``, or one for the ``"batch"``, as in the paper.
            search: see :mod:`stolon.masks.inference`.

        Raises:
            SettingError: nothing has been observed.
            DataError: inputs of another shape.
        """
        self.frozen.check(x)
        finder = TaskSearch(self._candidates(self.tasks), self.classes, self._objective)
        x = to_float(x)
        parts = [x] if per == "batch" else x.split(EVALUATION_BATCH)
        with seeded(self._seed, "predict"):  # as in a look
            masks = torch.cat([finder.find(part, search, per) for part in parts])
        labels = torch.zeros_like(masks)
        for mask in masks.unique().tolist():
            weights = self._weights(self._scores[mask])
            for rows in (masks == mask).nonzero().flatten().split(EVALUATION_BATCH):
                outputs = self.frozen(x[rows], weights, self._statistics[mask], training=False)
                labels[rows] = outputs[:, : self.classes].argmax(1)
        return Answer(masks, labels)

    def _look(self, x: Tensor) -> Decision:
        if not self.tasks:
            return Decision(self.batches, 0, 1.0, is_new=True)
        count = max(self.tasks, self._least)
        finder = TaskSearch(self._candidates(count), self.classes, self._objective)
        with seeded(self._seed, "look", self.batches):  # the search has the net in training: dropout draws
            nu = (-finder.batch_gradient(x, range(count)).double()).softmax(0)
        sureness, best = count * nu.max().item(), int(nu.argmax())
        is_new = sureness < 1 + self._tolerance or best >= self.tasks
        return Decision(self.batches, self.tasks if is_new else best, sureness, is_new)

    def _candidates(self, count: int) -> Candidates:
        """The first masks; those that were not begun as they would begin."""
        begun = self._statistics[:count]
        statistics = begun + [self.frozen.begin_statistics()] * (count - len(begun))

        @torch.no_grad()
        def weights(i: int) -> Sequence[Tensor]:
            return self._weights(self._scores[i] if i < self.tasks else self._fresh(i))

        return Candidates(self.frozen, weights, statistics)

    def _weights(self, scores: Sequence[Tensor]) -> list[Tensor]:
        return [masked(layer, weight, self.rule) for layer, weight in zip(scores, self._layers, strict=True)]

    def _fresh(self, mask: int) -> list[Tensor]:
        return [
            begin_scores(shape, self.rule, self._seed, "borderless", mask, layer)
            for layer, shape in enumerate(self.frozen.shapes)
        ]

    def _checked(self, x: Tensor, y: Tensor) -> Tensor:
        self.frozen.check(x)
        least = 2 if self.frozen.has_statistics else 1  # one sample has no variance
        if y.ndim != 1 or len(y) != len(x) or len(x) < least:
            raise DataError(
                f"expected at least {least} inputs and as many labels [B], found {list(x.shape)} and {list(y.shape)}"
            )
        if (
            y.is_floating_point()
            or y.dtype == torch.bool
            or not 0 <= int(y.min()) <= int(y.max()) < self.classes
        ):
            raise DataError(
                f"expected labels as integers from 0 to {self.classes - 1}, found {y.dtype} from {y.min().item()} to "
                f"{y.max().item()}"
            )
        return to_float(x)

    # Saving

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, copied."""
        found = {
            "batches": torch.tensor(self.batches),
            "looks": torch.tensor([[each.batch, each.mask, each.is_new] for each in self.history])
            .view(-1, 3)
            .long(),
            "sureness": torch.tensor([each.sureness for each in self.history], dtype=torch.float64),
        }
        for i, (scores, statistics) in enumerate(zip(self._scores, self._statistics, strict=True)):
            found |= {f"scores.{i}.{layer}": value.detach().clone() for layer, value in enumerate(scores)}
            found |= {f"statistics.{i}.{name}": value.clone() for name, value in statistics.items()}
        if self._optimizer is not None:
            found |= {name: value.clone() for name, value in optimizer_tensors(self._optimizer).items()}
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave.

        Raises:
            StoreDamagedError: it was not made with this network and training, or is damaged; nothing changed.
        """
        begin, shapes = self.frozen.begin_statistics(), dict(enumerate(self.frozen.shapes))
        try:
            pairs = zip(state["looks"].tolist(), state["sureness"].tolist(), strict=True)
            history = [Decision(batch, mask, sure, bool(new)) for (batch, mask, new), sure in pairs]
            count = sum(decision.is_new for decision in history)
            scores = [
                [
                    state[f"scores.{i}.{layer}"].clone().reshape(shape).requires_grad_()
                    for layer, shape in shapes.items()
                ]
                for i in range(count)
            ]
            statistics = [
                {name: state[f"statistics.{i}.{name}"].clone() for name in begin} for i in range(count)
            ]
            batches = int(state["batches"])
            optimizer = self._saved_optimizer(scores[history[-1].mask], state) if history else None
        except (KeyError, ValueError, RuntimeError, IndexError) as error:  # of reshape; of a look's mask
            raise StoreDamagedError(
                f"expected the state of a learner on this network, found {error!r}"
            ) from error
        if not all(bool(layer.isfinite().all()) for each in scores for layer in each):
            raise StoreDamagedError("expected scores that are finite, found NaN or infinity")
        self.batches, self.history, self._scores, self._statistics = batches, history, scores, statistics
        self._current, self._optimizer = history[-1].mask if history else -1, optimizer

    def _saved_optimizer(self, scores: Sequence[Tensor], state: Mapping[str, Tensor]) -> Optimizer:
        """An optimiser of these scores, as it was saved.

        Raises:
            ValueError: what was saved is not what such an optimiser has after a step.
        """
        probes = [layer.detach().clone().requires_grad_() for layer in scores]
        probe = make_optimizer(probes, self.training)
        for layer in probes:
            layer.grad = torch.zeros_like(layer)
        probe.step()
        expected = {name: value.shape for name, value in optimizer_tensors(probe).items()}
        found = {name: value.shape for name, value in state.items() if name.startswith("optimizer.")}
        if found != expected:
            raise ValueError(f"of the optimiser {sorted(found)}, not {sorted(expected)}")
        made = make_optimizer(scores, self.training)
        load_optimizer(made, state)
        return made
