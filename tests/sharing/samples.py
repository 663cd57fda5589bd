"""Small modules for tests: random knowledge of the right form, signed by keys that are always the same."""

import torch

from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.sharing import lightweight, module
from stolon.sharing.envelope import TRUST, seal
from stolon.sharing.keys import Key
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Author, Trust

ROOT, ADA, BEN, EVE = (Key(bytes([number]) * 32) for number in (1, 2, 3, 66))
BACKBONE = "b" * 64
LISTED = Trust(
    1,
    (ROOT.public,),
    1,
    (Author(ADA.public, "Ada"), Author(BEN.public, "Ben"), Author(ROOT.public, "root")),
)


def knowledge(kind="gmm", classes=3, width=8, seed=0, biases=0):
    """Random knowledge of a task, of 30 samples per class."""
    g = torch.Generator().manual_seed(seed)
    features, labels = torch.rand(30 * classes, width, generator=g), torch.arange(30 * classes) % classes
    pictures = torch.randint(0, 256, (30 * classes, 3, 4, 4), dtype=torch.uint8, generator=g)
    anchor = Anchoring(kind, {}).fit(features, labels, features[:20], seed, lambda i: pictures[i])
    return TaskKnowledge(
        torch.randn(classes, width, generator=g),
        torch.randn(classes, generator=g),
        torch.randn(biases, generator=g),
        anchor,
    )


def a_module(
    task="leaves", kind="gmm", *, precision="compact", classes=3, width=8, seed=0, biases=0, **about
):
    """A module of random knowledge."""
    names = tuple(f"class {label}" for label in range(classes))
    fields = {"backbone_name": "digits-conv", "backbone": BACKBONE, **about}
    return lightweight.of_knowledge(
        knowledge(kind, classes, width, seed, biases),
        TaskModule("lightweight", task, names, {}, **fields),
        Anchoring(kind, {}),
        precision,
    )


def packed(key=ADA, task="leaves", kind="gmm", **about):
    """A module file."""
    return module.pack(a_module(task, kind, **about), key)


def parts(key=ADA, task="leaves", kind="gmm", **about):
    """Envelope and blobs of a module."""
    return module.split(packed(key, task, kind, **about))


def sealed(trust, *keys):
    """A trust list as bytes."""
    return seal(TRUST, trust.to_payload(), *keys)
