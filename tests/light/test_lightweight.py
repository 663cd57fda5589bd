from dataclasses import replace

import pytest
import torch
from tests.learner_contract import LearnerContract, toy_task

from stolon import learners, nets
from stolon.errors import BackboneMismatchError, DataError, RecipeChangedError, SettingError, TaskUnknownError
from stolon.light.features import CHUNK, FeatureMemo, FeaturePass
from stolon.nets.backbone import Backbone
from stolon.nets.preprocessing import Preprocessing
from stolon.tasks import Split, Task


def backbone(seed=0):
    net = nets.make("digits-conv", input_shape=(1, 8, 8), seed=seed)
    return Backbone(net, Preprocessing(channels=1, size=8), f"digits-conv?shape=1x8x8&seed={seed}")


def make(**settings):
    return learners.make(
        "lightweight", net=backbone(), epochs=25, batch_size=8, learning_rate=1e-2, **settings
    )


class TestHeadsKeepTheContract(LearnerContract):
    is_copied = False
    make = staticmethod(make)
    infers = True


class TestBiasesKeepTheContract(LearnerContract):
    is_copied = False
    infers = True

    @staticmethod
    def make():
        return make(biases="all", bias_epochs=3)


class TestGaussianAnchorsKeepTheContract(LearnerContract):
    is_copied = False
    infers = True

    @staticmethod
    def make():
        return make(anchor="gmm")


def test_anchors_may_bring_pictures_as_in_the_paper(tmp_path):
    """The receiver computes their features with its own backbone; without probes both kinds agree."""
    net = Backbone(
        nets.make("digits-conv", input_shape=(3, 8, 8)), Preprocessing(channels=3, size=8), "colour"
    )
    tasks = []
    for i, name in enumerate(("first", "second")):
        task = toy_task(name, i, shape=(3, 8, 8))
        parts = [
            Split.of((p.inputs * 255).to(torch.uint8), p.labels) for p in (task.train, task.val, task.test)
        ]
        tasks.append(Task(name, task.classes, *parts))
    settings = {"epochs": 5, "anchor_settings": {"probes": 0}}
    pictures = learners.make("lightweight", net=net, anchor="mahalanobis-images", **settings)
    features = learners.make("lightweight", net=net, anchor="mahalanobis", **settings)
    for task in tasks:
        list(pictures.learn(task))
        list(features.learn(task))
    assert pictures.knowledge("first").anchor.tensors()["images"].dtype == torch.uint8
    x = torch.cat([task.test.batch(torch.arange(24))[0] for task in tasks])
    assert pictures.predict(x).tasks == features.predict(x).tasks
    pictures.save(tmp_path)
    loaded = learners.make("lightweight", net=net, anchor="mahalanobis-images", **settings).load(tmp_path)
    assert loaded.predict(x).tasks == pictures.predict(x).tasks


def test_float_images_cannot_be_shared_as_pictures():
    learner = make(anchor="mahalanobis-images")
    with pytest.raises(DataError, match="uint8"):
        list(learner.learn(toy_task("first")))
    assert learner.tasks == ()


class TestAnyModuleKeepsTheContract(LearnerContract):
    is_copied = False
    infers = True

    @staticmethod
    def make():
        return learners.make(
            "lightweight", net=nets.make("mlp-40", input_shape=(1, 8, 8)), epochs=25, batch_size=8
        )


@pytest.fixture
def taught():
    learner = make()
    tasks = [toy_task("first", 1), toy_task("second", 2, classes=2)]
    for task in tasks:
        list(learner.learn(task))
    return learner, tasks


@pytest.mark.parametrize("biases", ["none", "all"])
def test_learning_a_task_changes_no_bit_of_earlier_answers(biases):
    learner = make(biases=biases, bias_epochs=2)
    first = toy_task("first", 1)
    list(learner.learn(first))
    x = first.test.batch(torch.arange(24))[0]
    before = learner.logits(x, "first")
    list(learner.learn(toy_task("second", 2)))
    assert torch.equal(before, learner.logits(x, "first"))


def test_order_of_learning_changes_no_answer():
    """Anchors merge to the same mapper in any order, and heads know nothing of each other."""
    a, b = make(), make()
    tasks = [toy_task(name, i) for i, name in enumerate(("one", "two", "three"))]
    for task in tasks:
        list(a.learn(task))
    for task in reversed(tasks):
        list(b.learn(task))
    x = torch.cat([task.test.batch(torch.arange(24))[0] for task in tasks])
    mine, theirs = a.predict(x), b.predict(x)
    assert mine.tasks == theirs.tasks
    assert mine.classes == theirs.classes
    assert torch.equal(mine.confidence, theirs.confidence)


def test_inferring_equals_asking_the_mapped_task_by_name(taught):
    """The naive twin of prediction in groups: one image at a time, the mapper first, then the head."""
    learner, tasks = taught
    x = torch.cat([task.test.batch(torch.arange(12))[0] for task in tasks])
    answer = learner.predict(x)
    for i in range(len(x)):
        mapped = learner.mapper.map(learner.backbone.features(x[i : i + 1]))
        index = int(mapped.tasks[0])
        if index < 0:
            assert answer.tasks[i] is None
            assert answer.labels[i] == -1
            continue
        task = learner.mapper.tasks[index]
        assert answer.tasks[i] == task
        assert answer.labels[i] == learner.logits(x[i : i + 1], task).argmax()


def test_an_image_passes_the_backbone_once_and_once_more_only_for_biases(monkeypatch):
    learner = make(biases="all", bias_epochs=2)
    tuned, plain = toy_task("tuned", 1), toy_task("plain", 2)
    list(learner.learn(tuned))
    list(learner.learn(plain))
    own = learner.knowledge("plain")
    learner._knowledge["plain"] = own._replace(biases=torch.zeros(0))
    with_biases = len(learner.knowledge("tuned").biases) > 0
    x = torch.cat([task.test.batch(torch.arange(10))[0] for task in (tuned, plain)])
    expected = learner.predict(x).tasks.count("tuned") if with_biases else 0
    passed = []
    original = Backbone.features
    monkeypatch.setattr(
        Backbone,
        "features",
        lambda self, x, parameters=None: passed.append(len(x)) or original(self, x, parameters),
    )
    learner._memo = FeatureMemo(learner.backbone)
    learner.predict(x)
    assert sum(passed) == len(x) + expected


def test_features_of_inputs_seen_lately_are_not_computed_again(monkeypatch):
    memo = FeatureMemo(backbone(), most_bytes=3 * 5 * 128 * 4)
    passed = []
    original = Backbone.features
    monkeypatch.setattr(Backbone, "features", lambda self, x: passed.append(len(x)) or original(self, x))
    batches = [torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    first = memo.features(batches[0])
    assert torch.equal(first, memo.features(batches[0].clone()))
    assert passed == [5]
    for x in batches:
        assert torch.equal(memo.features(x), original(memo._backbone, x))
    assert passed == [5] * 4
    memo.features(batches[0])  # dropped: only three batches fit
    assert passed == [5] * 5


def test_inputs_far_from_everything_are_unknown(taught):
    learner, _ = taught
    x = (torch.arange(64).view(1, 1, 8, 8) % 2).float().repeat(4, 1, 1, 1)
    answer = learner.predict(x)
    assert answer.tasks == (None,) * 4
    assert answer.classes == (None,) * 4
    assert not answer.known.any()


def test_features_are_computed_in_chunks_that_add_up_to_one_pass():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2 * CHUNK + 7, 1, 8, 8, generator=g)
    split = Split.of(x, torch.zeros(len(x), dtype=torch.int64))
    whole = FeaturePass(backbone(), split)
    assert list(whole.run()) == [CHUNK, 2 * CHUNK, 2 * CHUNK + 7]
    part = FeaturePass(backbone(), split)
    next(part.run())
    rest = FeaturePass(backbone(), split, part.features)
    list(rest.run())
    assert torch.equal(whole.features, rest.features)
    assert torch.allclose(whole.features, backbone().features(x), atol=1e-5)


def test_another_backbone_is_refused_and_changes_nothing(taught, tmp_path):
    learner, _ = taught
    learner.save(tmp_path)
    other = learners.make(
        "lightweight",
        net=Backbone(
            nets.make("digits-conv", input_shape=(1, 8, 8), seed=9), Preprocessing(1, 8), backbone().name
        ),
    )
    with pytest.raises(BackboneMismatchError, match="it was made with"):
        other.load(tmp_path)
    assert other.tasks == ()


def test_anchors_fitted_otherwise_are_refused(taught, tmp_path):
    taught[0].save(tmp_path)
    with pytest.raises(RecipeChangedError, match="sqrt-l2"):
        make(anchor_settings={"transform": "sqrt-l2"}).load(tmp_path)
    assert make(anchor_settings={"unknown_quantile": 0.9}).load(tmp_path).tasks == ("first", "second")


def test_another_kind_of_anchor_is_refused(taught, tmp_path):
    taught[0].save(tmp_path)
    with pytest.raises(RecipeChangedError, match="gmm"):
        make(anchor="gmm").load(tmp_path)


def test_a_forgotten_task_is_gone_and_can_be_learned_anew(taught):
    learner, (first, second) = taught
    before = learner.logits(second.test.batch(torch.arange(4))[0], "second")
    learner.forget("first")
    assert learner.tasks == ("second",) == learner.mapper.tasks
    assert torch.equal(before, learner.logits(second.test.batch(torch.arange(4))[0], "second"))
    with pytest.raises(TaskUnknownError):
        learner.forget("first")
    list(learner.learn(first))
    assert learner.tasks == ("second", "first")


def test_an_unfinished_task_can_be_forgotten():
    learner = make()
    next(iter(learner.learn(toy_task("first", 1))))
    learner.forget("first")
    assert learner.unfinished is None
    list(learner.learn(toy_task("second", 2)))
    assert learner.tasks == ("second",)


def test_before_any_task_there_is_nothing_to_infer_from():
    with pytest.raises(TaskUnknownError, match="learn one first"):
        make().predict(torch.zeros(1, 1, 8, 8))


def test_normalised_images_are_refused_and_change_nothing():
    x = torch.randn(8, 1, 8, 8)
    split = Split.of(x, torch.arange(8) % 2)
    learner = make()
    with pytest.raises(DataError, match="normalize=False"):
        list(learner.learn(Task("bad", ("a", "b"), split, split, split)))
    assert learner.tasks == ()
    assert learner.unfinished is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, found 0"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"biases": "some"}, "expected one of none, all, pointwise"),
        ({"anchor": "svm"}, "expected one of"),
        ({"speed": 3}, "unknown setting 'speed'"),
        ({"anchor_settings": {"k": 3}}, "unknown setting 'k' of mahalanobis"),
        ({"anchor_settings": {"examples": 0}}, "examples"),
    ],
)
def test_settings_out_of_range_are_refused(setting, words):
    with pytest.raises(SettingError, match=words):
        learners.make("lightweight", net=backbone(), **setting)


def test_unknown_learners_and_nets_are_refused_with_the_known_ones():
    with pytest.raises(SettingError, match="known are: finetune"):
        learners.make("magic", net="mlp-3")
    with pytest.raises(SettingError, match="unknown net"):
        list(learners.make("finetune", net="magic").learn(toy_task("t")))


def test_local_probes_are_kept_with_the_task_and_are_none_of_its_knowledge(taught, tmp_path):
    learner, (first, _) = taught
    probes = learner.probes("first")
    assert probes.dtype == torch.float16
    assert not any("probe" in name and "anchor" not in name for name in learner.knowledge("first").tensors())
    held_out = learner.backbone.features(first.val.batch(torch.arange(12))[0])
    nearest = torch.cdist(probes.float(), held_out).amin(1)
    assert len(probes) == 12
    assert (nearest < 1e-2).all()
    learner.save(tmp_path)
    loaded = make().load(tmp_path)
    assert torch.equal(loaded.probes("first"), probes)
    learner.forget("first")
    with pytest.raises(TaskUnknownError):
        learner.probes("first")
    assert set(learner.record().groups) == {"task:second", "probes:second", "features", "run"}


def test_without_validation_data_probes_are_training_features():
    task = toy_task("bare", 1)
    empty = Split.of(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    learner = make()
    list(learner.learn(Task("bare", task.classes, task.train, empty, empty)))
    assert len(learner.probes("bare")) == 48


def test_a_store_of_an_earlier_version_has_no_probes_and_still_answers(taught):
    learner, _ = taught
    old = learner.record()
    groups = {name: tensors for name, tensors in old.groups.items() if not name.startswith("probes:")}
    loaded = make().restore(replace(old, groups=groups))
    assert loaded.tasks == learner.tasks
    assert loaded.probes("first").shape == (0, learner.knowledge("first").weight.shape[1])
