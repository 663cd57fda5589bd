import itertools
import math

import pytest

from stolon.errors import DataMissingError, SettingError
from stolon.experiments import check
from stolon.experiments.lasem.methods import VARIANTS, Wanted
from stolon.experiments.lasem.plans import DEFAULT_STREAM, TABLES, open_stream, plans
from stolon.experiments.lasem.streams import SCALES, STREAMS
from stolon.transfer.lasem import LasemConfig


def only(table, **options):
    (plan,) = plans(Wanted(table, **options))
    return plan


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("stream", STREAMS)
def test_every_table_on_every_stream_at_every_scale_is_an_experiment(table, stream):
    for scale in SCALES:
        plan = only(table, scale=scale, streams=(stream,))
        check(plan.experiment)
        assert len(plan.experiment.learners) == len(plan.methods)


def test_full_scale_is_the_papers_protocol():
    plan = only("lasem-figure4", scale="full", root="data")
    assert plan.stream == "cifar100-lasem"
    assert plan.experiment.seeds == [0, 1, 2, 3, 4]
    assert plan.experiment.streams[0].options == {"tasks": 10}
    for learner in plan.experiment.learners:
        settings = learner.settings
        assert (learner.net, settings["epochs"], settings["batch_size"]) == ("cifar-conv4", 2000, 10)
        assert (settings["learning_rate"], settings["decay"]) == (1e-4, 1 / 4000)
    office = only("lasem-table1", scale="full").experiment.learners[0]
    assert (office.net, office.settings["epochs"], office.settings["batch_size"]) == (
        "office-conv4",
        1000,
        16,
    )
    assert (office.settings["learning_rate"], office.settings["decay"]) == (2e-5, 1e-4)
    stl = only("lasem-figure4", scale="full", streams=("stl10-lasem",)).experiment
    assert {learner.net for learner in stl.learners} == {"stl-conv6", "stl-conv6-128"}
    assert stl.learners[0].settings["decay"] == 0


def test_figure_4_has_the_papers_eight_and_sixteen_static_configurations():
    four = only("lasem-figure4", scale="half")
    assert len(four.find(kind="static", transfer="hard")) == 8
    assert four.transfers == ("hard", "tensor-factorization", "deconvolution")
    six = only("lasem-figure4", scale="full", streams=("stl10-lasem",))
    assert len(six.find(kind="static", transfer="deconvolution")) == 16
    eight = only("lasem-figure4", scale="half", streams=("stl10-lasem",))
    assert len(eight.find(kind="static", transfer="deconvolution")) == 8
    assert six.transfers == ("tensor-factorization", "deconvolution")


def test_fewer_epochs_let_the_learning_rate_fall_as_far():
    full, few = (only("lasem-table3", scale="full", epochs=epochs).setting.protocol for epochs in (None, 20))
    assert full.decay * full.epochs == pytest.approx(few.decay * few.epochs)
    assert few.epochs == 20
    assert only("lasem-table3", learning_rate=0.5).setting.protocol.learning_rate == 0.5


def test_the_first_stream_is_the_papers_and_runs_are_by_seed():
    assert {DEFAULT_STREAM[table] for table in TABLES} == {"cifar100-lasem", "office-home-lasem"}
    assert only("lasem-figure1", seeds=3).experiment.seeds == [0, 1, 2]
    assert only("lasem-figure1").experiment.seeds == [0, 1]
    both = plans(Wanted("lasem-figure1", streams=("cifar10-stl", "digits-mixed")))
    assert [plan.stream for plan in both] == ["cifar10-stl", "digits-mixed"]


def test_table_2_ties_layers_into_groups():
    ten = only("lasem-table2", scale="half")
    assert [method.label for method in ten.methods] == ["HPS All", *(f"LASEM HPS {g}G" for g in (4, 5, 6, 7))]
    assert ten.methods[1].settings["groups"] == [[1, 2, 3], [4, 5], [6, 7], [8, 9]]
    assert {learner.net for learner in ten.experiment.learners} == {"resnet18-plain"}
    forty = only("lasem-table2", scale="half", tasks=40)
    assert forty.experiment.streams[0].options == {"tasks": 40}
    stl = only("lasem-table2", scale="full", streams=("cifar10-stl",))
    assert [method.label for method in stl.methods] == ["DF-CNN All", "LASEM DF-CNN 3G"]
    assert stl.experiment.streams[0].options["variant"] == "15x5"
    assert stl.setting.tasks == 15


def test_figure_6_fixes_the_posterior_of_the_configuration_asked_for():
    plan = only("lasem-figure6", scale="half", fixed="1,2")
    fixed = [method for method in plan.methods if method.probability]
    assert [method.probability for method in fixed] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert all(method.settings["fixed"] == "1,2" for method in fixed)
    with pytest.raises(SettingError, match="top-9"):
        only("lasem-figure6", fixed="top-9")


def test_table_1_searches_where_the_paper_does():
    labels = [method.label for method in only("lasem-table1").methods]
    assert labels == ["DARTS HPS", "DARTS DF-CNN", "LASEM HPS", "LASEM TF", "LASEM DF-CNN"]
    tensor = only("lasem-table1", transfers=("tensor-factorization",))
    assert [method.label for method in tensor.methods] == ["LASEM TF"]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_settings_of_lasem(name):
    LasemConfig(**VARIANTS[name])
    plan = only("lasem-table3", variants=("default", *({name} - {"default"})))
    assert plan.find(kind="lasem", variant=name)[0].label == (
        "LASEM HPS" if name == "default" else f"LASEM {name} HPS"
    )


def test_cifar10_gives_as_many_images_as_the_papers_have_of_stl10(tmp_path):
    share = only("lasem-figure4", streams=("cifar10-stl",)).experiment.streams[0].options["data_share"]
    assert math.floor(share * 150 + 1e-9) == 125
    (tmp_path / "cifar-10-batches-bin").mkdir()
    plan = only("lasem-figure4", streams=("cifar10-stl",), root=str(tmp_path))
    assert math.floor(plan.experiment.streams[0].options["data_share"] * 5000 + 1e-9) == 125


def test_a_folder_with_datasets_stands_for_them(tmp_path):
    assert only("lasem-table3", root=str(tmp_path)).experiment.streams[0].root == str(tmp_path)
    (tmp_path / "datasets").mkdir()
    assert only("lasem-table3", root=str(tmp_path)).experiment.streams[0].root == str(tmp_path / "datasets")


def test_data_that_are_not_there_are_told_with_streams_to_take_instead(tmp_path):
    with pytest.raises(DataMissingError, match=r"take --stream from .*digits-mixed"):
        open_stream(only("lasem-table3", root=str(tmp_path)))


def test_the_stream_is_as_long_as_what_is_learned():
    assert len(open_stream(only("lasem-table3", streams=("digits-mixed",), tasks=2))) == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scale": "huge"}, "scale"),
        ({"streams": ("mnist",)}, "stream"),
        ({"streams": ("digits-mixed",) * 2}, "different"),
        ({"transfers": ("soft",)}, "transfer"),
        ({"transfers": ()}, "at least one"),
        ({"variants": ("fast",)}, "variants"),
        ({"seeds": 0}, "seeds"),
        ({"tasks": 0}, "tasks"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"workers": -1}, "workers"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options, word):
    with pytest.raises(SettingError, match=word):
        Wanted("lasem-figure4", **options)


def test_labels_differ_within_every_table():
    for table, scale in itertools.product(TABLES, SCALES):
        labels = [m.label for m in only(table, scale=scale, variants=tuple(VARIANTS)).methods]
        assert len(set(labels)) == len(labels)
