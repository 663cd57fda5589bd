r"""Lifelong architecture search via EM: which layers a task shares is inferred while it trains (LASEM, Algorithm 1).

For every mini-batch the E-step weighs all configurations by prior times likelihood (:mod:`stolon.transfer.em`), and
the M-step takes ``m_steps`` steps on the posterior-weighted loss
:math:`\sum_c P(c \mid X, y) \, (-\log P(y \mid X, c))`, whose gradient is that of Eq. 3 and 4: a shared tensor gets
what configurations that share its layer give, a task's own tensor what the others give. All configurations use one set
of shared and one set of own parameters, and one tail.

**Exactly** (``exact=True``) this computes every configuration at every mini-batch, common prefixes once
(:mod:`stolon.transfer.prefix`), E- and M-step from the same activations. **By default** it is estimated: each sample of
the mini-batch goes its own way in the M-step, by a configuration drawn from the posterior. That costs one network,
whatever the number of configurations, since a layer is computed once per sample; its gradient is the exact one in
expectation; and while the posterior is broad all tensors get gradients at every step, as in the exact one. (One
configuration for the whole mini-batch, ``draw_for="batch"``, has the same mean, but under RMSProp, which divides a
weight p out of exact gradients, it moves a tensor only about sqrt(p) as far.) The E-step looks at every ``e_every``-th
mini-batch only, the rarer the more configurations there are, and stands for those in between: they have its posterior,
and it counts as often in the prior. What that costs and
whether it loses anything: docs/methods/transfer.md.

Differences from the released code: dropout is off in the E-step and on in the M-step as there; the likelihood and the
prior are the papers' by default, the released ones by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor, nn

from stolon.errors import SettingError
from stolon.nets.stages import takes_whole_batches
from stolon.records import Json
from stolon.settings import above, one_of, whole, within
from stolon.tasks import Task
from stolon.transfer import related
from stolon.transfer.configurations import Configuration, Space, parse
from stolon.transfer.em import LIKELIHOODS, PRIORS, Belief, Likelihood, Prior, batch_log_likelihood
from stolon.transfer.fit import Lesson, Strategy
from stolon.transfer.learner import Groups, TransferConfig, TransferLearner
from stolon.transfer.objectives import log_likelihood, loss
from stolon.transfer.prefix import Plan, Variant
from stolon.transfer.sampling import draw, e_step_interval, spread

WEIGHTLESS: Final = 1e-8
"""Configurations of less posterior weight are left out of an exact M-step: their gradients are rounding errors."""
MOST_PLANS: Final = 4096
"""Plans that are kept; sharp posteriors make ever other ones."""
TOLD: Final = 5e-4
"""Configurations of less posterior weight are not listed in an epoch's notes."""


@final
@dataclass(frozen=True)
class LasemConfig(TransferConfig):
    """Settings of :class:`Lasem`; the others are those of :class:`~stolon.transfer.learner.TransferConfig`.

    Attributes:
        likelihood: of a mini-batch: ``"joint"`` (Eq. 2 as written), ``"geometric-mean"``, ``"mean-probability"``
            (released).
        prior: ``"counts"`` (Eq. 1), ``"running-mean"`` of posteriors (released), ``"history"``: counts of all tasks
            so far are added, ``"related"``: weighted by how similar each of these tasks is (see
            :mod:`stolon.transfer.related`).
        exact: compute all configurations at every mini-batch; ``samples`` and ``e_every`` are not used then.
        samples: configurations drawn per M-step, >= 1.
        draw_for: ``"sample"``: each sample of the mini-batch has its own draws, which come up as often as the posterior
            says, up to one; ``"batch"``: all have the same, always so with batch normalisation, which wants them whole.
        e_every: an E-step at every so many mini-batches, >= 1; by default as often as its multiply-accumulates allow:
            they are then at most two fifths of the M-steps'.
        m_steps: steps on each mini-batch (the papers' numMSteps), >= 1.
        e_precision: of the E-step's forward pass where it is not the M-step's too: ``"float32"`` or ``"bfloat16"``.
        groups: layers that are shared together, counted from 1, such as ``[[1, 2], [3, 4]]``; none by default.
        fixed: the ablation of section 4.3: the posterior is not inferred; this configuration has ``fixed_probability``.
            Likelihood, prior, ``e_every`` and ``warm_up`` are not used then.
        fixed_probability: of that one, above 0 up to 1; the others share the rest evenly.
        warm_up: epochs in which the prior stays as it was at first, >= 0: what is most probable before anything has
            been learned is chance, and Eq. 1 never forgets it. Ours; 0 is the papers'.

    Raises:
        SettingError: a value is out of its range.
    """

    likelihood: Likelihood = "joint"
    prior: Prior = "counts"
    exact: bool = False
    samples: int = 1
    draw_for: Literal["sample", "batch"] = "sample"
    e_every: int | None = None
    m_steps: int = 1
    e_precision: Literal["float32", "bfloat16"] = "float32"
    groups: list[list[int]] | None = None
    fixed: str | None = None
    fixed_probability: float = 1.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("likelihood", self.likelihood, LIKELIHOODS)
        one_of("prior", self.prior, PRIORS)
        one_of("draw_for", self.draw_for, ("sample", "batch"))
        one_of("e_precision", self.e_precision, ("float32", "bfloat16"))
        for name in ("samples", "m_steps"):
            whole(name, getattr(self, name), 1)
        if self.e_every is not None:
            whole("e_every", self.e_every, 1)
        above("fixed_probability", self.fixed_probability, 0)
        within("fixed_probability", self.fixed_probability, 0, 1)
        whole("warm_up", self.warm_up, 0)
        if self.fixed is None and self.fixed_probability != 1:
            raise SettingError(
                "fixed_probability: of no use without a fixed configuration; name one, or leave it out"
            )

    def belief(self, space: Space, depth: int, before: Tensor | None) -> Belief:
        """What is believed when a task begins."""
        fixed = None
        if self.fixed is not None:
            chosen = space.index(parse(self.fixed, depth, self.parts))
            rest = (1 - self.fixed_probability) / max(1, len(space) - 1)
            fixed = torch.full((len(space),), rest, dtype=torch.float64)
            fixed[chosen] = 1.0 if len(space) == 1 else self.fixed_probability
        return Belief(len(space), running_mean=self.prior == "running-mean", before=before, fixed=fixed)


@final
class EM(Strategy):
    """E- and M-steps on one task.

    Args:
        lesson: what is trained, on what.
        space: configurations to choose from.
        belief: what is believed about them.
        config: how.
    """

    def __init__(self, lesson: Lesson, space: Space, belief: Belief, config: LasemConfig) -> None:
        self._network, self._shared, self._parts = lesson.network, lesson.shared, lesson.parts
        self._space, self._belief, self._config = space, belief, config
        self._seed, self._task = lesson.seed, lesson.task.name
        self._plans: dict[tuple[int, ...], tuple[Plan, list[set[Variant]]]] = {}
        self._all = tuple(range(len(space)))
        self._is_sharable = [any(row) for row in (space.matrix > 0).T.tolist()]
        self._broad = True  # whether the last posterior gave weight to most
        self._mark = belief.state()
        self._seen = 0  # mini-batches
        self._by_sample = config.draw_for == "sample" and not self._network.takes_whole_batches
        self._is_tail_whole, self._keeps = (
            takes_whole_batches(lesson.parts.tail),
            _keeps_inputs(lesson.parts.tail),
        )
        self._every = config.e_every or e_step_interval(self._network.macs, self._plan(self._all)[0])

    @property
    def configuration(self) -> Configuration:
        """The most probable so far."""
        return self._space.choices[self._belief.choice]

    @property
    def belief(self) -> Belief:
        """What is believed about the configurations now."""
        return self._belief

    def leaves(self) -> Sequence[Tensor]:
        """All of the task's own, and what is shared in layers that some configuration shares."""
        used = zip(self._shared, self._is_sharable, strict=True)
        return [*(t for layer, can in used if can for t in layer.values()), *self._parts.leaves()]

    def losses(self, x: Tensor, y: Tensor, epoch: int, step: int) -> Iterator[Tensor]:
        """One E-step, where it is due, and ``m_steps`` weighted losses."""
        config, belief = self._config, self._belief
        if step == 0:
            self._mark = belief.state()
        if config.exact:
            yield from self._exact(x, y, epoch)
            return
        if not belief.is_fixed and self._seen % self._every == 0:
            counts = self._every if epoch >= config.warm_up else 0
            belief.see(self._likelihood(x, y), counts)
        self._seen += 1
        for i in range(config.m_steps):
            purpose = self._seed, self._task, epoch, step, i
            if self._by_sample:
                yield self._apart(x, y, spread(belief.posterior, config.samples * len(y), *purpose))
            else:
                yield self._weighted(x, y, draw(belief.posterior, config.samples, *purpose))

    def notes(self) -> dict[str, Any]:
        """The choice, and the mean posterior of the epoch where it says anything."""
        mean = self._belief.mean_since(self._mark).tolist()
        least = min(TOLD, max(mean))  # of thousands that are alike each has less
        told = zip(self._space.choices, mean, strict=True)
        posterior = {str(c): float(f"{p:.4g}") for c, p in told if p >= least}
        return {"configuration": str(self.configuration), "posterior": posterior}

    def state(self) -> dict[str, Tensor]:
        """What is believed."""
        return {**self._belief.state(), "broad": torch.tensor(self._broad), "seen": torch.tensor(self._seen)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave."""
        self._belief.load(state)
        self._broad, self._seen = bool(state["broad"]), int(state["seen"])

    # Steps

    def _exact(self, x: Tensor, y: Tensor, epoch: int) -> Iterator[Tensor]:
        belief, nodes = self._belief, None
        counts = int(epoch >= self._config.warm_up)
        if self._broad and not self._network.has_dropout and not belief.is_fixed:
            # most configurations will be trained: one forward pass serves both steps
            nodes = self._nodes(self._all, x)
            with torch.no_grad():
                # a tail may work in place on what the M-step needs
                alone = nodes.detach() if self._keeps else nodes.detach().clone()
                found = self._judge(alone, self._all, y)
            belief.see(found, counts)
            if not bool(found.isfinite().all()):
                nodes = None  # 0 x infinity: what has blown up and has no weight must not take part
        elif not belief.is_fixed:
            belief.see(self._likelihood(x, y), counts)
        heavy = belief.posterior > WEIGHTLESS
        self._broad = int(heavy.sum()) > len(heavy) // 2
        weights = {i: float(belief.posterior[i]) for i in heavy.nonzero().flatten().tolist()}
        if nodes is not None:
            yield self._loss(nodes, self._all, y, [weights.get(i, 0.0) for i in self._all])
        for _ in range(self._config.m_steps - (nodes is not None)):
            yield self._weighted(x, y, weights)

    def _weighted(self, x: Tensor, y: Tensor, weights: Mapping[int, float]) -> Tensor:
        """The loss of some configurations, weighted."""
        chosen = tuple(weights)
        return self._loss(self._nodes(chosen, x), chosen, y, list(weights.values()))

    def _apart(self, x: Tensor, y: Tensor, drawn: Sequence[int]) -> Tensor:
        """The loss where each sample has configurations of its own, the same number each."""
        if len(set(drawn)) == 1:
            return self._weighted(x, y, {drawn[0]: 1.0})
        batch, times = len(y), len(drawn) // len(y)
        plan = Plan([self._space.choices[i] for i in drawn], [*range(batch)] * times)
        wanted = [{variant for variant, _ in level.variants} for level in plan.levels]
        made = self._network.compose(self._shared, self._parts, wanted)
        nodes = self._parts.tail.train()(self._network.features(made, plan, x))
        found = loss(plan.in_order(nodes).unflatten(0, (times, batch)), y).mean()
        shares = (self._space.matrix[list(drawn)] > 0).float().mean(0)
        penalty = self._network.penalty(self._parts, shares)
        return found if penalty is None else found + self._config.orthogonality * penalty

    @torch.no_grad()
    def _likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Of a mini-batch under every configuration, [K] (logarithms)."""
        half = self._config.e_precision == "bfloat16"
        with (
            self._network.without_dropout(),
            torch.autocast("cpu", torch.bfloat16) if half else nullcontext(),
        ):
            nodes = self._nodes(self._all, x)
            return self._judge(nodes, self._all, y)

    def _judge(self, nodes: Tensor, chosen: tuple[int, ...], y: Tensor) -> Tensor:
        outputs = self._outputs(self._behind(self._parts.tail.eval(), nodes, len(y)), chosen, len(y))
        return batch_log_likelihood(log_likelihood(outputs.float(), y), self._config.likelihood)

    def _loss(self, nodes: Tensor, chosen: tuple[int, ...], y: Tensor, weights: Sequence[float]) -> Tensor:
        outputs = self._outputs(self._behind(self._parts.tail.train(), nodes, len(y)), chosen, len(y))
        weight = torch.tensor(weights)
        found = weight @ loss(outputs, y)
        shares = weight @ (self._space.matrix[list(chosen)] > 0).float()
        penalty = self._network.penalty(self._parts, shares)
        return found if penalty is None else found + self._config.orthogonality * penalty

    def _nodes(self, chosen: tuple[int, ...], x: Tensor) -> Tensor:
        plan, wanted = self._plan(chosen)
        made = self._network.compose(self._shared, self._parts, wanted)
        return self._network.features(made, plan, x)

    def _outputs(self, nodes: Tensor, chosen: tuple[int, ...], batch: int) -> Tensor:
        """By configuration, [K, B, C]."""
        plan, _ = self._plan(chosen)
        return plan.in_order(nodes.unflatten(0, (-1, batch)))

    def _behind(self, tail: nn.Module, nodes: Tensor, batch: int) -> Tensor:
        """What the tail makes of nodes, to whose normalisation each is a mini-batch of its own."""
        apart = nodes.split(batch) if self._is_tail_whole else (nodes,)
        found = [tail(node) for node in apart]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _plan(self, chosen: tuple[int, ...]) -> tuple[Plan, list[set[Variant]]]:
        if chosen not in self._plans:
            if len(self._plans) > MOST_PLANS:
                self._plans.clear()
            plan = Plan([self._space.choices[i] for i in chosen])
            self._plans[chosen] = plan, [{variant for variant, _ in level.variants} for level in plan.levels]
        return self._plans[chosen]


@final
class Lasem(TransferLearner):
    """Infers which layers each task shares, by EM over configurations while it trains.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (see :func:`stolon.nets.stages.split`).
        config: how.

    Example:
        >>> from stolon.tasks import Split, Task
        >>> split = Split.of(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> learner = Lasem("digits-conv", LasemConfig(epochs=2))
        >>> for epoch in learner.learn(Task("t", ("a", "b"), split, split, split)):
        ...     assert round(sum(epoch.notes["posterior"].values()), 2) == 1
        >>> len(str(learner.configuration("t")))
        3
    """

    name: ClassVar[str] = "lasem"
    Config: ClassVar[type[LasemConfig]] = LasemConfig
    config: LasemConfig
    _wins: dict[str, Tensor]
    _profiles: dict[str, Tensor]

    def __init__(self, net: Any, config: LasemConfig) -> None:  # noqa: ANN401 - as its base
        super().__init__(net, config)
        self._wins, self._profiles = {}, {}

    def space(self, depth: int) -> Space:
        """The configurations that are chosen from, in a network of so many layers."""
        return Space.every(depth, groups=self.config.groups, parts=self.config.parts)

    def _strategy(self, lesson: Lesson) -> Strategy:
        depth = lesson.network.depth
        space = self.space(depth)
        return EM(
            lesson, space, self.config.belief(space, depth, self._before(lesson, len(space))), self.config
        )

    def _before(self, lesson: Lesson, count: int) -> Tensor | None:
        """Counts [K] of earlier tasks that the prior takes over."""
        if self.config.prior not in ("history", "related"):
            return None
        total = torch.zeros(count, dtype=torch.float64)
        for name, wins in self._wins.items():
            if len(wins) != count:
                raise SettingError(
                    f"prior {self.config.prior!r}: task {name!r} had {len(wins)} configurations to choose from, now "
                    f"there are {count}; take the groups and parts it had, or another prior"
                )
            weight = 1.0
            if self.config.prior == "related":
                kept = self._kept[name]
                now = related.profile(
                    lesson.network, lesson.shared, kept.parts, kept.configuration, lesson.task.train
                )
                weight = related.similarity(self._profiles[name], now)
            total += weight * wins
        return total

    def _finished(self, task: Task, strategy: Strategy) -> None:
        assert isinstance(strategy, EM)
        assert self._network is not None
        self._wins[task.name] = strategy.belief.wins.clone()
        if self.config.prior == "related":
            kept = self._kept[task.name]
            self._profiles[task.name] = related.profile(
                self._network, self._shared, kept.parts, kept.configuration, task.train
            )

    def _drop(self, task: str) -> None:
        super()._drop(task)
        self._wins.pop(task, None)
        self._profiles.pop(task, None)

    def _state(self) -> tuple[Mapping[str, Json], Groups]:
        document, groups = super()._state()
        return document, {**groups, "wins": self._wins, "profiles": self._profiles}

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        wins, profiles = dict(groups["wins"]), dict(groups["profiles"])
        super()._restore(document, groups)
        self._wins, self._profiles = wins, profiles


def _keeps_inputs(tail: nn.Module) -> bool:
    """Whether it is sure that nothing in a tail works in place."""
    return all(
        type(module).__module__.startswith("torch.nn.") and not getattr(module, "inplace", False)
        for module in tail.modules()
    )
