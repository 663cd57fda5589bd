"""An agent as the page sees it, made up."""

import dataclasses
import threading
from datetime import UTC, datetime, timedelta

from torch import Tensor

from stolon.shell.web.facade import (
    Alternative,
    Answer,
    Confusion,
    Costs,
    Identity,
    KnownTask,
    Offer,
    Peer,
    Progress,
    Traffic,
)

NOON = datetime(2026, 11, 21, 12, 3, tzinfo=UTC)
# fmt: off
CLASSES = {
    "fruit": ("apple", "banana", "cherry", "grape", "mango"),
    "road signs": ("stop", "give way", "no entry", "speed limit 30", "speed limit 50", "roundabout"),
    "beans": ("angular leaf spot", "bean rust", "healthy"),
    "pneumonia": ("normal", "pneumonia"),
    "oxford pets": (
        "Abyssinian",
        "beagle",
        "Bengal",
        "Birman",
        "Bombay",
        "boxer",
        "chihuahua",
        "Maine Coon",
        "Persian",
        "pug",
        "Ragdoll",
        "Russian Blue",
        "Samoyed",
        "Siamese",
        "Sphynx",
    ),
    "fashion": (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ),
    "galaxies": ("spiral", "elliptical", "irregular"),
}
# fmt: on


def tasks() -> list[KnownTask]:
    made = []
    for index, (name, classes) in enumerate(CLASSES.items()):
        own = index in (0, 4)
        held = index == 6
        made.append(
            KnownTask(
                name=name,
                classes=classes,
                author="" if own else ("Wren's laptop", "lab-2", "greenhouse")[index % 3],
                fingerprint="3f9a-12bc" if own else ("77d0-c2e1", "09ab-44f0", "e15b-9c3d")[index % 3],
                own=own,
                arrived=NOON - timedelta(hours=7 * index, minutes=13 * index),
                size=52_000 + 9_700 * len(classes),
                active=not held,
                reason="it takes 7 % of the pictures of fashion" if held else "",
                accuracy=None if index == 3 else 0.981 - 0.017 * index,
                parameters=200_000,
            )
        )
    return made


def confusion(names: list[str]) -> Confusion:
    count = len(names)
    rows = []
    for row in range(count):
        shares = [0.0] * (count + 1)
        shares[row] = 0.985 - 0.03 * (row % 4)
        shares[(row + 1) % count] += (1 - shares[row]) * 0.6
        shares[count] = 1 - sum(shares)
        rows.append(tuple(shares))
    return Confusion(tuple(names), tuple(rows))


class FakeAgent:
    """Answers by a picture's mean: reddish ones are apples, dark ones unknown, the others bananas."""

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self.known = tasks()
        self.confused: Confusion | None = confusion([task.name for task in self.known if task.active])
        self.progress: Progress | None = Progress("mushrooms", "train", 7, 30, 0.912)
        self.strangers = [Offer("5d" * 32, "5d5d-5d5d", "postage stamps")]
        self.others = [
            Peer("Wren's laptop", "77d0-c2e1", 1.2, True),
            Peer("lab-2", "09ab-44f0", 14.0, False),
            Peer("greenhouse", "e15b-9c3d", 5400.0, True),
            Peer("", "c0de-0bad", 40.0, None, ignored_s=95.0, rejects=12),
        ]
        self.who = Identity(
            "heron", "3f9a-12bc", "3f9a12bc" * 8, "timm:mobilenetv2_100, 160 pixels", "0.1.0", NOON
        )
        self.spent = Costs(
            (
                Traffic("modules", 1_204_332, 871_020),
                Traffic("hints", 18_210, 20_404),
                Traffic("comparing", 41_077, 39_818),
            ),
            bank=4_311_002,
            shared=1_990_000,
            overhead=0.0576,
            teacher_macs=1.84e12,
            teacher_s=214.0,
        )
        self.asked = 0
        self.gate: threading.Event | None = None
        self.fails: Exception | None = None

    @property
    def size(self) -> int:
        return self._size

    def identity(self) -> Identity:
        return self.who

    def tasks(self) -> list[KnownTask]:
        return self.known

    def peers(self) -> list[Peer]:
        return self.others

    def costs(self) -> Costs:
        return self.spent

    def confusion(self) -> Confusion | None:
        return self.confused

    def offers(self) -> list[Offer]:
        return self.strangers

    def learning(self) -> Progress | None:
        return self.progress

    def classify(self, pixels: Tensor) -> Answer:
        assert tuple(pixels.shape) == (1, 3, self._size, self._size)
        assert str(pixels.dtype) == "torch.uint8"
        self.asked += 1
        if self.gate is not None:
            self.gate.wait(20)
        if self.fails is not None:
            raise self.fails
        red, green, blue = pixels[0].float().mean((1, 2)).tolist()
        names = [self.known[0].name, self.known[0].classes[0]] if self.known else ["fruit", "apple"]
        others = (Alternative("fruit", "cherry", 0.04), Alternative("beans", "bean rust", 0.01))
        if red + green + blue < 60:
            return Answer(known=False, alternatives=others)
        label = names[1] if red > 2 * green else "banana"
        return Answer(known=True, task=names[0], label=label, confidence=0.934, alternatives=others)

    def learn(self, **changes: object) -> None:
        """One more task."""
        self.known = [dataclasses.replace(self.known[0], **changes), *self.known]
