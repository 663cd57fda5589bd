"""The demo: real tasks one after the other, then questions without naming the task.

On the digits that scikit-learn ships, nothing is downloaded and nothing pretrained is needed: the frozen
backbone is trained on the spot, from the digits 0 to 3, and the tasks are made of the other six digits. With a
folder of image data sets and pretrained weights, the same is done with those.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor

from stolon import learners, nets, streams
from stolon.errors import DataMissingError
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec
from stolon.learner import Epoch, Learner, Prediction
from stolon.nets.backbone import Backbone, pretrained
from stolon.nets.heads import new_head
from stolon.nets.preprocessing import Preprocessing
from stolon.randomness import generator
from stolon.tasks import Split, Stream, Task
from stolon.training import Fit, Training

PRETRAINING_DIGITS: Final = (0, 1, 2, 3)
TASK_DIGITS: Final = (4, 5, 6, 7, 8, 9)
SIZE: Final = 160
"""Height and width at which real images are taken."""


@final
@dataclass(frozen=True)
class Demo:
    """What the demo runs.

    Attributes:
        experiment: learners and stream.
        make_learner: makes the experiment's learners.
        make_stream: makes its stream.
        backbone: the lightweight learners'.
        notes: what a reader has to know to judge the figures, in sentences.
    """

    experiment: Experiment
    make_learner: Callable[[LearnerSpec], Learner]
    make_stream: Callable[[StreamSpec, int], Stream]
    backbone: Backbone
    notes: tuple[str, ...]


def on_digits(backbone: Backbone, seed: int) -> Demo:
    """Six tasks of digits on a backbone of :func:`digits_backbone`, with fine-tuning for comparison."""

    def make_learner(spec: LearnerSpec) -> Learner:
        net = backbone if spec.name == "lightweight" else spec.net
        return learners.make(spec.name, net=net, **spec.settings)

    experiment = Experiment(
        name="demo",
        learners=[
            LearnerSpec("lightweight", backbone.name, settings={"learning_rate": 1e-2}),
            LearnerSpec("finetune", "digits-conv", settings={"epochs": 10, "learning_rate": 0.05}),
        ],
        streams=[StreamSpec("digits-mixed", options={"classes": list(TASK_DIGITS)})],
        seeds=[seed],
        evaluate_every=0,
        workers=0,
    )
    notes = (
        (
            "Six tasks made of scikit-learn's handwritten digits 4 to 9: two halves, a quarter turn, inverted, pixels "
            "permuted, upside down. The same image is in the same part (train, validation, test) in every task."
        ),
        (
            "The frozen backbone was trained on the spot, from the digits 0 to 3, which are in no task: to name the "
            "digit, its quarter turn, and whether it is inverted."
        ),
        (
            "The lightweight learner is not told the task. Fine-tuning is, and cannot do without: it is there to show "
            "what forgetting looks like."
        ),
    )
    return Demo(
        experiment,
        make_learner,
        lambda spec, s: streams.make(spec.name, seed=s, **spec.options),
        backbone,
        notes,
    )


def apart(seed: int) -> Iterator[Task]:
    """Six tasks of digits that are told apart well: what agents share must not take from what others know.

    The halves of :func:`on_digits` look alike, and agents would hold one of them back.
    """
    classes = list(TASK_DIGITS)
    for task in streams.make("digits-mixed", seed=seed, classes=classes):
        if task.name in {"digits-turned", "digits-inverted", "digits-upside-down"}:
            yield task
    yield from streams.make("digits-permuted", seed=seed, tasks=4, classes=classes)[
        1:
    ]  # the first is not permuted


def on_folders(data: Path, seed: int) -> Demo:
    """All image-folder sets below ``data/datasets``, on the backbone below ``data/backbones``.

    Raises:
        DataMissingError: there are no such folders.
    """
    weights = data / "backbones" / "mobilenetv2_100.safetensors"
    if not weights.is_file() or not (data / "datasets").is_dir():
        raise DataMissingError(
            f"expected {data}/datasets and {weights}, found no such folder or file; leave DATA out for digits"
        )
    name = f"timm:mobilenetv2_100?pad_type=same&size={SIZE}"
    backbone = pretrained(name, weights)
    experiment = Experiment(
        name="demo",
        learners=[LearnerSpec("lightweight", name)],
        streams=[StreamSpec("folders", root=str(data / "datasets"), options={"size": SIZE})],
        seeds=[seed],
        evaluate_every=0,
        workers=0,
    )
    notes = (
        f"Real photographs, drawings, letters and medical images, at {SIZE} x {SIZE} pixels, one task per folder.",
        "The frozen backbone is MobileNetV2, trained on ImageNet; pictures of tiny_imagenet may be among those.",
        "The learner is not told the task.",
    )
    return Demo(
        experiment,
        lambda spec: learners.make(spec.name, net=backbone, **spec.settings),
        lambda spec, s: streams.make(spec.name, root=spec.root, seed=s, **spec.options),
        backbone,
        notes,
    )


@final
class DigitsPretraining:
    """The training of the demo's backbone; run it, then ask for the backbone.

    Args:
        seed: of its initial weights and of the order of images.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.task = _pretext_task(seed)
        self._body = nets.make("digits-conv", input_shape=(1, 8, 8), seed=seed)

    def run(self) -> Iterator[Epoch]:
        """Train; yields after every epoch."""
        head = new_head(self._body, self.task.shape, len(self.task.classes), self._seed, self.task.name)
        network = torch.nn.Sequential(self._body, head)
        training = Training(epochs=6, batch_size=64, learning_rate=2e-3, optimizer="adam")
        yield from Fit(network, training, self.task, self._seed).run()

    @property
    def backbone(self) -> Backbone:
        """The body as it is now, frozen."""
        return Backbone(self._body, Preprocessing(channels=1, size=8), "digits-conv?shape=1x8x8")


@final
@dataclass(frozen=True)
class Example:
    """One held-back image and what the learner said of it, without being told the task.

    Attributes:
        image: a PNG as base64.
        task: the true task.
        label: the true class.
        said_task: the learner's; None where unknown.
        said_label: the learner's; None where unknown.
        confidence: the learner's, 0 to 1.
    """

    image: str
    task: str
    label: str
    said_task: str | None
    said_label: str | None
    confidence: float

    @property
    def is_right(self) -> bool:
        """Whether task and class are both right."""
        return (self.task, self.label) == (self.said_task, self.said_label)


def examples(learner: Learner, tasks: Mapping[str, Task] | Stream, per_task: int = 4) -> list[Example]:
    """Ask about the first test images of every task, spread over its classes."""
    found = []
    for task in tasks.values() if isinstance(tasks, Mapping) else tasks:
        indices = torch.linspace(0, len(task.test) - 1, per_task).long()
        x, y = task.test.batch(indices)
        answer = learner.predict(x)
        found += [_example(task, x[i], int(y[i]), answer, i) for i in range(len(x))]
    return found


def noise(task: Task, count: int, seed: int) -> Tensor:
    """Images that belong to no task: pixels drawn at random, in the form of the task's images."""
    x = torch.rand(count, *task.shape, generator=generator(seed, "noise"))
    like, _ = task.test.batch(torch.tensor([0]))
    return (x * 255).to(torch.uint8) if like.dtype == torch.uint8 else x


def _example(task: Task, x: Tensor, y: int, answer: Prediction, i: int) -> Example:
    return Example(
        image=_png(x),
        task=task.name,
        label=task.classes[y],
        said_task=answer.tasks[i],
        said_label=answer.classes[i],
        confidence=float(answer.confidence[i]),
    )


def _png(x: Tensor) -> str:
    from PIL import Image

    pixels = x if x.dtype == torch.uint8 else (x.clamp(0, 1) * 255).to(torch.uint8)
    array = pixels.permute(1, 2, 0).squeeze(-1).numpy()
    image = Image.fromarray(array)
    if image.width < 64:
        image = image.resize((64, 64), Image.Resampling.NEAREST)
    buffer = BytesIO()
    image.resize((96, 96)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _pretext_task(seed: int) -> Task:
    """The digits 0 to 3 in four quarter turns, plain and inverted: 32 classes of labelled images."""
    source = streams.make(
        "digits-split", seed=seed, tasks=1, classes=list(PRETRAINING_DIGITS), val_share=0.1, test_share=0.1
    )[0]
    turns = [(quarter, inverted) for quarter in range(4) for inverted in (False, True)]

    def all_turns(split: Split) -> Split:
        x, y = split.batch(torch.arange(len(split)))
        views = [torch.rot90(1 - x if inverted else x, quarter, (2, 3)) for quarter, inverted in turns]
        labels = [y + len(PRETRAINING_DIGITS) * index for index in range(len(turns))]
        return Split.of(torch.cat(views), torch.cat(labels))

    classes = tuple(
        f"{digit} turned {90 * quarter}{' inverted' if inverted else ''}"
        for quarter, inverted in turns
        for digit in source.classes
    )
    return Task(
        "pretraining", classes, all_turns(source.train), all_turns(source.val), all_turns(source.test)
    )
