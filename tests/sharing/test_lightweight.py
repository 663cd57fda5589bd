import math
from dataclasses import replace

import pytest
import torch
from tests.sharing.samples import ADA, LISTED, a_module, knowledge

from stolon import nets
from stolon.errors import TaskUnknownError
from stolon.light.biases import BiasSites
from stolon.light.config import LightweightConfig
from stolon.light.lightweight import Lightweight
from stolon.nets.backbone import Backbone, pretrained
from stolon.sharing import blobs, lightweight, manifest, module
from stolon.sharing.codes import Code
from stolon.sharing.envelope import open_envelope
from stolon.tasks import Split, Task

KINDS = ["gmm", "mahalanobis", "mahalanobis-images"]


def a_task(name="digits", n=60):
    g = torch.Generator().manual_seed(0)

    def split(n):
        y = torch.arange(n) % 3
        return Split.of((torch.rand(n, 3, 8, 8, generator=g) * 99 + y.view(-1, 1, 1, 1) * 70).byte(), y)

    return Task(name, ("a", "b", "c"), split(n), split(15), split(9))


def learned(kind="mahalanobis", **settings):
    weights = nets.make("digits-conv", input_shape=(3, 8, 8), seed=0).state_dict()
    backbone = pretrained("digits-conv?shape=3x8x8", weights)
    learner = Lightweight(backbone, LightweightConfig(epochs=2, bias_epochs=1, anchor=kind, **settings))
    list(learner.learn(a_task()))
    return learner


@pytest.mark.parametrize("kind", KINDS)
def test_a_learners_task_travels_bit_for_bit_at_full_precision(kind):
    learner = learned(kind, biases="all")
    made = lightweight.module_of(learner, "digits", precision="full")
    found = lightweight.knowledge(module.unpack(module.pack(made, ADA), LISTED))
    mine = learner.knowledge("digits").tensors()
    assert found.tensors().keys() == mine.keys()
    assert all(torch.equal(value, mine[name]) for name, value in found.tensors().items())


def test_a_module_says_where_it_comes_from():
    learner = learned()
    facts = {
        "test_accuracy": 0.5,
        "images": 60,
        "seconds": 3,
        "macs": None,
        "note": "x",
        "ok": True,
        "bad": math.inf,
    }
    made = lightweight.module_of(learner, "digits", facts=facts, seq=3, replaces=("1" * 64,))
    assert (made.method, made.task, made.classes) == ("lightweight", "digits", ("a", "b", "c"))
    assert (made.backbone_name, made.backbone) == (learner.backbone.name, learner.backbone.fingerprint)
    assert made.metrics == {"test_accuracy": 0.5, "images": 60.0}
    assert made.costs == {"seconds": 3.0}
    assert made.counts == (20, 20, 20)
    assert made.data == a_task().digest()
    assert (made.seq, made.replaces) == (3, ("1" * 64,))
    assert made.settings == {"anchor": learner.anchoring.fitted_with, "precision": "compact"}
    assert made.recipe == lightweight.module_of(learned(), "digits").recipe
    assert made.recipe != lightweight.module_of(learned("gmm"), "digits").recipe


def test_the_same_learning_gives_the_same_file():
    first, again = (module.pack(lightweight.module_of(learned(), "digits"), ADA) for _ in range(2))
    assert first == again


def test_a_task_that_was_never_learned_has_no_module():
    with pytest.raises(TaskUnknownError):
        lightweight.module_of(learned(), "letters")


def test_the_compact_form_keeps_two_examples_of_each_class_and_half_the_probes():
    full, compact = (
        lightweight.knowledge(a_module(kind="mahalanobis", classes=4, precision=p)).anchor
        for p in ("full", "compact")
    )
    assert full.labels.bincount().tolist() == [5] * 4
    assert compact.labels.bincount().tolist() == [2] * 4
    assert len(compact.probes) == 16
    assert torch.allclose(compact.probes, full.probes[:16], atol=0.01)
    for label in range(4):  # of each class the first ones, in their order
        first = full.examples[full.labels == label][:2]
        assert torch.allclose(compact.examples[compact.labels == label], first, atol=0.01)


def test_the_compact_form_thins_pictures_and_gaussian_probes_too():
    pictures = lightweight.knowledge(a_module(kind="mahalanobis-images")).anchor
    assert pictures.labels.bincount().tolist() == [2] * 3
    assert len(pictures.images) == 6
    gaussian = lightweight.knowledge(a_module(kind="gmm", classes=6)).anchor
    assert len(gaussian.probes) == 16


@pytest.mark.parametrize("kind", KINDS)
def test_thinning_what_is_thin_already_changes_nothing(kind):
    thin = lightweight._thinned(knowledge(kind).anchor)
    again = lightweight._thinned(thin)
    assert all(torch.equal(a, b) for a, b in zip(thin, again, strict=True))


# What is refused


def manifest_of(made):
    envelope, _ = module.split(module.pack(made, ADA))
    return manifest.parse(open_envelope(envelope).payload)


def with_layout(found, role, **tensors):
    """The manifest with some tensors declared otherwise; None leaves one out."""
    files = []
    for file in found.files:
        layout = {**file.tensors, **tensors} if file.role == role else dict(file.tensors)
        files.append(replace(file, tensors={name: kind for name, kind in layout.items() if kind is not None}))
    return replace(found, files=tuple(files))


@pytest.mark.parametrize(
    ("kind", "role", "tensors"),
    [
        ("gmm", "head", {"weight": ("I8", (4, 8))}),
        ("gmm", "head", {"weight": ("I8", (3, 9))}),
        ("gmm", "head", {"weight": ("I8", (24,))}),
        ("gmm", "head", {"weight": None}),
        ("gmm", "head", {"weight": ("I64", (3, 8))}),
        ("gmm", "head", {"bias": ("F16", (4,))}),
        ("gmm", "biases", {"biases": ("F16", (2, 2))}),
        ("gmm", "biases", {"biases": None, "other": ("F16", (2,))}),
        ("gmm", "anchor", {"means": ("I8", (26, 8))}),
        ("gmm", "anchor", {"means": ("I8", (0, 8))}),
        ("gmm", "anchor", {"means": ("I8", (4, 7))}),
        ("gmm", "anchor", {"probes": ("I8", (65, 8))}),
        ("gmm", "anchor", {"probes": ("I8", ())}),
        ("mahalanobis", "anchor", {"means": ("I8", (4, 8))}),
        ("mahalanobis", "anchor", {"examples": ("I8", (25, 8))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (25, 3, 4, 4))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (6, 1, 4, 4))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (6, 3, 4, 5))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (6, 3, 0, 0))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (1, 3, 1025, 1025))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", (6, 12))}),
        ("mahalanobis-images", "anchor", {"images": ("U8", ())}),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_manifest_alone(kind, role, tensors):
    found = manifest_of(a_module(kind=kind, biases=4))
    assert lightweight.check_manifest(found) is None
    assert lightweight.check_manifest(with_layout(found, role, **tensors)).code == Code.BAD_KNOWLEDGE


def test_shapes_are_accepted_at_their_limits():
    found = manifest_of(a_module(kind="gmm"))
    assert lightweight.check_manifest(with_layout(found, "anchor", means=("I8", (25, 8)))) is None
    assert lightweight.check_manifest(with_layout(found, "anchor", probes=("I8", (64, 8)))) is None
    many = manifest_of(a_module(kind="gmm", classes=10))
    assert lightweight.check_manifest(with_layout(many, "anchor", means=("I8", (40, 8)))) is None
    assert lightweight.check_manifest(with_layout(many, "anchor", means=("I8", (41, 8)))) is not None
    found = manifest_of(a_module(kind="mahalanobis"))
    assert lightweight.check_manifest(with_layout(found, "anchor", examples=("I8", (24, 8)))) is None


@pytest.mark.parametrize("roles", [("head",), ("anchor",), ("anchor", "head", "tail")])
def test_files_must_be_head_and_anchor(roles):
    found = manifest_of(a_module())
    files = tuple(replace(found.files[0], role=role) for role in roles)
    assert lightweight.check_manifest(replace(found, files=files)).code == Code.BAD_KNOWLEDGE


FITTED = a_module().settings["anchor"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "compact"},
        {"anchor": FITTED, "precision": "compact", "more": 1},
        {"anchor": FITTED, "precision": "quarter"},
        {"anchor": FITTED, "precision": ["compact"]},
        {"anchor": "gmm", "precision": "compact"},
        {"anchor": {}, "precision": "compact"},
        {"anchor": {**FITTED, "anchor": "nearest"}, "precision": "compact"},
        {"anchor": {**FITTED, "anchor": 5}, "precision": "compact"},
        {"anchor": {**FITTED, "transform": "none of these"}, "precision": "compact"},
        {"anchor": {**FITTED, "transform": ["l2"]}, "precision": "compact"},
        {"anchor": {"anchor": "gmm"}, "precision": "compact"},
        {"anchor": {**FITTED, "components": "3"}, "precision": "compact"},
    ],
)
def test_settings_of_another_version_are_unsupported(settings):
    found = manifest_of(a_module())
    assert lightweight.check_manifest(found) is None
    assert lightweight.check_manifest(replace(found, settings=settings)).code == Code.UNSUPPORTED


def checked(kind, role, precision="full", **tensors):
    """The refusal of a module with other numbers in it."""
    made = a_module(kind=kind, precision=precision, biases=4)
    numbers = {**made.tensors, role: {**made.tensors[role], **tensors}}
    return lightweight.check(manifest_of(made), numbers)


def test_good_numbers_pass():
    for kind in KINDS:
        for precision in ("compact", "half", "full"):
            assert checked(kind, "head", precision) is None


@pytest.mark.parametrize(
    ("kind", "role", "tensors"),
    [
        ("gmm", "head", {"bias": torch.tensor([0.0, 0.0, 1.1e6])}),
        ("gmm", "biases", {"biases": torch.tensor([0.0, 0.0, 0.0, -1.1e6])}),
        ("gmm", "head", {"extra": torch.zeros(1)}),
        ("gmm", "biases", {"extra": torch.zeros(1)}),
        ("gmm", "anchor", {"extra": torch.zeros(1)}),
        ("gmm", "anchor", {"means": torch.full((4, 8), 0.5)}),
        ("gmm", "anchor", {"variances": torch.zeros(1, 8)}),
        ("gmm", "anchor", {"variances": -torch.ones(1, 8)}),
        ("gmm", "anchor", {"variances": torch.ones(1, 7)}),
        ("gmm", "anchor", {"weights": torch.full((4,), 0.5)}),
        ("gmm", "anchor", {"weights": torch.tensor([-1.0, 0, 1, 1])}),
        ("gmm", "anchor", {"samples": torch.tensor(0)}),
        ("gmm", "anchor", {"samples": torch.tensor([5])}),
        ("gmm", "anchor", {"probes": torch.ones(2, 8)}),
        ("mahalanobis", "anchor", {"means": torch.ones(3, 8)}),
        ("mahalanobis", "anchor", {"counts": torch.tensor([1, 0, 1])}),
        ("mahalanobis", "anchor", {"counts": torch.tensor([1, 1])}),
        ("mahalanobis", "anchor", {"labels": torch.full((15,), 3)}),
        ("mahalanobis", "anchor", {"labels": torch.full((15,), -1)}),
        ("mahalanobis", "anchor", {"examples": torch.zeros(0, 8), "labels": torch.zeros(0).long()}),
        ("mahalanobis-images", "anchor", {"means": torch.ones(3, 8)}),
        ("mahalanobis-images", "anchor", {"images": torch.zeros(15, 12, dtype=torch.uint8)}),
        ("mahalanobis-images", "anchor", {"labels": torch.full((15,), 3)}),
    ],
)
def test_numbers_that_are_never_learned_are_refused(kind, role, tensors):
    assert checked(kind, role, **tensors).code == Code.BAD_KNOWLEDGE


def test_scales_that_overflow_are_refused_as_the_numbers_they_make():
    refused = checked("gmm", "head", "compact", **{"weight.scale": torch.full((3,), 3e38)})
    assert refused.code == Code.BAD_KNOWLEDGE


def test_without_a_transform_rows_may_be_of_any_length():
    made = a_module(kind="gmm", precision="full")
    found = manifest_of(made)
    settings = {"anchor": {**FITTED, "transform": "none"}, "precision": "full"}
    long = {
        **made.tensors,
        "anchor": {**made.tensors["anchor"], "means": made.tensors["anchor"]["means"] * 50},
    }
    assert lightweight.check(found, long).code == Code.BAD_KNOWLEDGE
    assert lightweight.check(replace(found, settings=settings), long) is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_on_a_backbone_fits_it(kind):
    learner = learned(kind, biases="all")
    assert lightweight.misfit(learner.knowledge("digits"), learner.backbone) == ""


def test_what_was_learned_on_another_network_does_not_fit_whatever_its_author_says():
    learner = learned("mahalanobis-images", biases="all")
    own, backbone = learner.knowledge("digits"), learner.backbone
    total = BiasSites(backbone.module, "all").total
    wide = torch.zeros(3, own.weight.shape[1] + 1)
    for wrong in (
        own._replace(weight=wide),
        own._replace(biases=torch.zeros(total + 1)),
        own._replace(biases=torch.full((total,), 1e38)),
        own._replace(anchor=own.anchor._replace(means=wide)),
        own._replace(anchor=own.anchor._replace(images=own.anchor.images[:, :2])),
    ):
        assert lightweight.misfit(wrong, backbone).startswith("it does not fit the backbone")
        assert "\n" not in lightweight.misfit(wrong, backbone)
    assert lightweight.misfit(own._replace(weight=wide), Backbone(torch.nn.Flatten(), None, "bare")) == ""


def test_every_kind_fits_its_layout():
    for kind in KINDS:
        found = manifest_of(a_module(kind=kind, biases=4))
        assert all(blobs.size(file.tensors) == file.bytes for file in found.files)
