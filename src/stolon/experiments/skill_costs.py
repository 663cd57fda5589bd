r"""What sharing costs, by SKILL's definition: teachers, bytes, students, and how well N agents share the work.

.. math::
    E = \frac{S}{N \left(S / N + \alpha \, b + s\right)}, \qquad \text{speed-up} = N E

with S the MACs of one agent that learns all T tasks, b the bytes that one of N agents receives from the others,
s the MACs that it spends on them, and :math:`\alpha` = 1000 MACs per byte.

Nothing here is measured by a clock. A teacher's MACs are counted on the meta device from what its learning went
through; clustering, which is no network, by its iterations. A student's are counted while it does its work.

Source:
    Ge et al., TMLR 2023, arXiv:2305.15591, section 6 and Figs. 9 and 10. The efficiencies printed in Fig. 10
    do not follow the definition in its caption; :data:`PAPER` has both.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from stolon import measure
from stolon.light.anchoring import Anchor, Anchoring
from stolon.light.config import LightweightConfig
from stolon.measure.costs import Cost, flop_counter
from stolon.nets.backbone import Backbone


@final
@dataclass(frozen=True)
class Lesson:
    """What the learning of one task went through.

    Attributes:
        task: its name.
        agent: who learned it, from 0.
        train: training images.
        val: validation images.
        classes: how many.
        epochs: done, by phase: ``"head"`` and maybe ``"biases"``.
        clustering: MACs of fitting the anchor.
        seconds: how long it took, for people.
    """

    task: str
    agent: int
    train: int
    val: int
    classes: int
    epochs: Mapping[str, int]
    clustering: int
    seconds: float


@final
@dataclass(frozen=True)
class Accounting:
    """One population's costs.

    Attributes:
        agents: N.
        single_macs: S: one agent learns everything.
        slowest_macs: of the agent that has most to learn.
        received_bytes: what an agent receives, mean over agents.
        student_macs: what an agent spends on all it received.
    """

    agents: int
    single_macs: float
    slowest_macs: float
    received_bytes: float
    student_macs: float

    @property
    def teacher_macs(self) -> float:
        """S / N: the definition takes the work as evenly divided."""
        return self.single_macs / self.agents

    @property
    def total_macs(self) -> float:
        """What one of the agents does: learning, receiving, merging."""
        return self.teacher_macs + measure.ALPHA * self.received_bytes + self.student_macs

    @property
    def efficiency(self) -> float:
        """E, by the definition; 1 is perfect."""
        return self._efficiency(None)

    @property
    def efficiency_of_slowest(self) -> float:
        """The same with what the busiest agent really had to learn in place of S / N."""
        return self._efficiency(self.slowest_macs)

    def _efficiency(self, teacher_macs: float | None) -> float:
        return measure.parallel_efficiency(
            self.single_macs,
            agents=self.agents,
            sent_bytes=self.received_bytes,
            student_macs=self.student_macs,
            teacher_macs=teacher_macs,
        )

    def speed_up(self, agents: int, all_bytes: float) -> float:
        """N E for another number of agents, each of which learns as many tasks as the others.

        Args:
            agents: N; one agent alone receives nothing and merges nothing.
            all_bytes: of all modules together.
        """
        if agents == 1:
            return 1.0
        received = all_bytes * (agents - 1) / agents
        return agents * measure.parallel_efficiency(
            self.single_macs, agents=agents, sent_bytes=received, student_macs=self.student_macs
        )


@final
@dataclass(frozen=True)
class PaperRow:
    """A row of Fig. 10, with N = T = 102 (its caption says N = 51; its numbers are those of 102).

    Attributes:
        name: the method.
        single_macs: of Fig. 9.
        received_bytes: as printed.
        student_macs: as printed.
        printed: the efficiency as printed.
        accuracy: after 102 tasks, 0 to 1.
    """

    name: str
    single_macs: float
    received_bytes: float
    student_macs: float
    printed: float
    accuracy: float

    @property
    def accounting(self) -> Accounting:
        """The same numbers, accounted for by the definition."""
        return Accounting(
            PAPER_AGENTS,
            self.single_macs,
            self.single_macs / PAPER_AGENTS,
            self.received_bytes,
            self.student_macs,
        )


PAPER_AGENTS: Final = 102
PAPER: Final = (
    PaperRow("Gaussian, no biases", 1.73e16, 8.22e7, 0.0, 0.99999519, 0.6743),
    PaperRow("Gaussian, biases", 1.56e18, 1.03e8, 0.0, 0.999999934, 0.7058),
    PaperRow("Mahalanobis, no biases", 1.73e16, 6.72e9, 5.00e9, 0.996630551, 0.6887),
    PaperRow("Mahalanobis, biases", 1.56e18, 6.74e9, 5.00e9, 0.999962712, 0.7210),
    PaperRow("Parallel SUPSUP, told the task", 1.01e18, 3.03e8, 0.0, 0.999999697, 0.5622),
)
"""Figs. 9 and 10 of the paper."""


def teacher(backbone: Backbone, shape: Sequence[int], lesson: Lesson, config: LightweightConfig) -> Cost:
    """What learning a task took: features, head, biases where asked for, anchor.

    Args:
        backbone: the frozen one.
        shape: of the task's images [C, H, W].
        lesson: what it went through.
        config: how it was learned.
    """
    inputs = _input_shape(backbone, shape)
    body = _Body(backbone.module)
    width = int(body(torch.zeros(1, *inputs)).shape[1])
    head, images = nn.Linear(width, lesson.classes), lesson.train + lesson.val
    batch, epochs = config.batch_size, lesson.epochs
    heads = epochs.get("head", 0)
    total = measure.cost(body, inputs, samples=images)
    total += measure.cost(head, (width,), samples=lesson.train, batch_size=batch, epochs=heads)
    # the start is a candidate too: judged once more than there are epochs
    total += Cost(forward=(heads + 1) * lesson.val * width * lesson.classes)
    if config.biases != "none":
        passes = epochs.get("biases", 0)
        tuned = nn.Sequential(_with_trainable_biases(body, config.biases), head)
        total += measure.cost(tuned, inputs, samples=lesson.train, batch_size=batch, epochs=passes)
        judged = measure.macs(tuned, inputs).forward
        total += Cost(forward=(passes + 1) * lesson.val * judged)
    return total + Cost(forward=lesson.clustering)


def student(anchoring: Anchoring, anchors: Mapping[str, Anchor], features: Callable[[Tensor], Tensor]) -> int:
    """MACs of merging anchors into a task mapper: counted while it is made.

    Products of matrices are counted by the framework; the factorisation of the covariance and its inverse, which
    it does not count, as D cubed.

    Args:
        anchoring: how anchors are merged.
        anchors: by task.
        features: the receiver's features of pictures, for anchors that bring pictures.
    """
    with flop_counter() as counter:
        anchoring.mapper(anchors, features)
    dimensions = next(iter(anchors.values())).means.shape[1]
    products: int = counter.get_total_flops() // 2
    return products + int(dimensions) ** 3


@contextmanager
def counted_clustering() -> Iterator[list[int]]:
    """Within it, every clustering of scikit-learn adds its MACs to the list.

    k-means: one distance per sample, cluster and iteration, after a start that looks at 2 + log k candidates for
    each cluster. Expectation maximisation with diagonals: four products of samples x clusters x dimensions per
    iteration. As in the paper, by a hook: its "sniffed".
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    found: list[int] = []

    def hooked(kind: Any, macs: Callable[[Any, int], int]) -> Callable[..., Any]:  # noqa: ANN401 - untyped library
        original = kind.fit

        def fit(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
            result = original(self, x, *args, **kwargs)
            found.append(macs(self, x.shape[0] * x.shape[1]))
            return result

        kind.fit = fit
        return lambda: setattr(kind, "fit", original)

    undo = [
        hooked(KMeans, lambda m, nd: nd * m.n_clusters * (m.n_iter_ + 2 + m.n_clusters.bit_length())),
        hooked(GaussianMixture, lambda m, nd: nd * m.n_components * 4 * (m.n_iter_ + 1)),
    ]
    try:
        yield found
    finally:
        for each in undo:
            each()


class _Body(nn.Module):
    """A backbone's network that gives features [B, D], as :meth:`Backbone.features` does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.module(x)
        return features.mean((2, 3)) if features.ndim == 4 else features


def _with_trainable_biases(body: _Body, sites: str) -> _Body:
    """A copy whose convolutions and linear layers have a bias that wants gradients: Eq. 1 and 2."""
    body = copy.deepcopy(body)
    for layer in body.modules():
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            continue
        groups = getattr(layer, "groups", 1)
        if sites == "pointwise" and groups > 1 and groups == getattr(layer, "in_channels", 0):
            continue
        layer.bias = nn.Parameter(torch.zeros(len(layer.weight)))
    return body


def _input_shape(backbone: Backbone, shape: Sequence[int]) -> tuple[int, ...]:
    """What the network itself gets of an image [C, H, W]."""
    prepared = backbone.preprocessing
    if prepared is None:
        return tuple(shape)
    height, width = (prepared.size, prepared.size) if prepared.size else shape[1:]
    return (prepared.channels, height, width)
