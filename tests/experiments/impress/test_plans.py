import json
import math

import pytest

from stolon.errors import DataMissingError, SettingError
from stolon.experiments.impress.plans import FIGURES, SPECS, Plan, Wanted, open_stream, plans
from stolon.experiments.impress.settings import SCALES, STREAMS

EVERY = [(figure, stream, scale) for figure in FIGURES for stream in STREAMS for scale in SCALES]


def made(figure, stream, scale):
    (plan,) = plans(Wanted(figure, scale, (stream,)))
    return plan


@pytest.mark.parametrize(("figure", "stream", "scale"), EVERY)
def test_every_figure_can_be_made_of_every_stream_at_every_scale(figure, stream, scale):
    plan = made(figure, stream, scale)
    assert (
        len(set(plan.units()))
        == len(plan.units())
        == plan.setting.runs * len(plan.setting.densities) * len(plan.spec.kinds)
    )
    for kind in plan.spec.kinds:
        items = plan.items(kind)
        assert items
        assert len({item.where for item in items}) == len(items)
    assert plan.setting.different + plan.setting.new <= plan.tasks
    assert max(plan.sizes("heterogeneous")) <= plan.setting.different
    json.dumps(plan.recipe(), allow_nan=False)


@pytest.mark.parametrize("figure", FIGURES)
def test_by_default_a_figure_runs_on_the_papers_stream(figure):
    (plan,) = plans(Wanted(figure))
    assert plan.stream == SPECS[figure].stream


def test_full_scale_is_the_papers_protocol():
    for stream, most, new in (
        ("mnist-rotated", 250, 10),
        ("mnist-permuted", 250, 10),
        ("cifar100-split", 75, 5),
        ("imagenet-split", 75, 5),
    ):
        setting = STREAMS[stream]["full"]
        assert setting.densities == (0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3)
        assert (max(setting.sizes), setting.new, setting.runs, setting.backbones) == (most, new, 9, 3)
        assert setting.alphas.batch_size == setting.paper.batch_size
        assert setting.alphas.learning_rate == setting.paper.learning_rate
        assert setting.alphas.optimizer == setting.paper.optimizer.lower()
        assert setting.penalty == setting.paper.penalty
    assert STREAMS["mnist-permuted"]["full"].many == (100, 250)


def test_another_set_stands_in_for_mnist():
    (plan,) = plans(Wanted("impress-figure2", dataset="FashionMNIST"))
    (mnist,) = plans(Wanted("impress-figure2"))
    assert plan.setting.options == {**mnist.setting.options, "dataset": "FashionMNIST"}
    assert plan.setting.paper is None  # the paper has nothing on it
    assert plan.recipe() != mnist.recipe()
    with pytest.raises(SettingError, match="dataset: of no use to cifar100-split"):
        plans(Wanted("impress-figure4", dataset="FashionMNIST"))


def test_tiny_imagenet_at_quick_needs_no_more_than_three_tasks():
    setting = STREAMS["tiny-imagenet-split"]["quick"]
    assert setting.different + setting.new == 3


def test_runs_take_backbones_in_turn_or_have_one_each():
    full, half = STREAMS["mnist-rotated"]["full"], STREAMS["mnist-rotated"]["half"]
    assert [full.backbone(run) for run in range(9)] == [0, 1, 2] * 3
    assert [half.backbone(run) for run in range(3)] == [0, 1, 2]


def test_turned_tasks_come_in_one_random_order():
    setting = STREAMS["mnist-rotated"]["quick"]
    order = setting.order(360)
    assert sorted(order) == list(range(360))
    assert order != sorted(order)
    assert order == STREAMS["mnist-rotated"]["full"].order(360)
    assert STREAMS["mnist-permuted"]["quick"].order(4) == [0, 1, 2, 3]


def test_figures_on_one_stream_share_their_items():
    two, six, seven = (
        made(figure, "digits-permuted", "quick")
        for figure in ("impress-figure3", "impress-figure6", "impress-figure7")
    )
    assert two.name == six.name == seven.name
    assert two.recipe() == six.recipe() == seven.recipe()
    shared = {item for item in two.items("heterogeneous") if item.what in ("basis-gn", "gg")}
    assert shared
    assert shared <= set(six.items("heterogeneous"))
    assert set(two.items("homogeneous")) <= set(seven.items("homogeneous"))
    assert two.items("supsup") == seven.items("supsup")


def test_what_is_wanted_changes_the_setting():
    (plan,) = plans(
        Wanted("impress-figure3", "half", ("digits-permuted",), seeds=4, tasks=7, epochs=9, workers=2)
    )
    setting = plan.setting
    assert (setting.runs, setting.new, setting.masks.epochs, setting.alphas.epochs) == (4, 7, 9, 9)
    assert plan.many == (25, 50)
    (more,) = plans(Wanted("impress-figure3", "half", ("digits-permuted",), tasks=60))
    assert more.many == (0, 0)
    assert more.tasks == 25 + 60


def test_how_many_runs_and_new_tasks_there_are_changes_no_result():
    (few,) = plans(Wanted("impress-figure2", tasks=2, seeds=1))
    (many,) = plans(Wanted("impress-figure2", tasks=9, seeds=5))
    assert few.recipe() == many.recipe()
    assert few.recipe() != plans(Wanted("impress-figure2", epochs=3))[0].recipe()


def test_many_tasks_are_inferred_in_figure_3_alone():
    three, six = (made(f, "mnist-permuted", "full") for f in ("impress-figure3", "impress-figure6"))
    assert math.prod(three.many) == 100 * 250
    assert six.many == (0, 0)
    among = {item.among for item in three.items("heterogeneous") if item.what == "found-alone"}
    assert among == {10, 250}
    assert three.tasks == 250 + 250


def test_one_task_is_inferred_among_none():
    (plan,) = plans(Wanted("impress-figure2", tasks=1))
    assert not [item for item in plan.items("supsup") if item.among]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"figure": "impress-figure5"}, "figure: expected one of"),
        ({"scale": "huge"}, "scale: expected one of"),
        ({"streams": ("cifar10-split",)}, "stream: expected one of mnist-rotated"),
        ({"streams": ("digits-rotated",) * 2}, "expected different ones"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"tasks": 0}, "tasks: expected at least 1"),
        ({"epochs": 1.5}, "epochs: expected a whole number"),
        ({"workers": -1}, "workers: expected at least 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, words):
    with pytest.raises(SettingError, match=words):
        Wanted(**{"figure": "impress-figure2", **wrong})


def test_more_new_tasks_than_a_stream_has_are_refused():
    with pytest.raises(SettingError, match="at most 5 new ones"):
        plans(Wanted("impress-figure4", "full", tasks=6))
    with pytest.raises(SettingError, match="at most 335 new ones"):
        plans(Wanted("impress-figure2", tasks=336))


def test_missing_data_are_told_with_what_there_is_besides(tmp_path):
    (plan,) = plans(Wanted("impress-figure2", root=str(tmp_path)))
    with pytest.raises(DataMissingError, match=r"take --stream from mnist-permuted, .*digits-rotated"):
        open_stream(plan)


def test_a_stream_has_the_tasks_of_basis_and_new_ones():
    (plan,) = plans(Wanted("impress-figure3", streams=("digits-permuted",), tasks=3))
    assert len(open_stream(plan)) == 4 + 3
    assert isinstance(plan, Plan)


def test_what_is_asked_for_takes_the_place_of_the_scales():
    (plan,) = plans(
        Wanted(
            "impress-figure3",
            epochs=3,
            alpha_epochs=7,
            sizes=(50, 10),
            densities=(0.2, 0.4),
            images=300,
            among=40,
        )
    )
    setting = plan.setting
    assert (setting.masks.epochs, setting.alphas.epochs) == (3, 7)
    assert (setting.sizes, setting.different, setting.densities) == ((10, 50), 50, (0.2, 0.4))
    assert setting.options["train_per_class"] == 300
    assert plan.many == (50, 40)
    assert plan.tasks == 50 + 40
    asked = [item for item in plan.items("heterogeneous") if item.what == "found-alone" and item.among == 40]
    assert [item.size for item in asked] == [50] * 40


def test_heterogeneous_bases_are_as_large_as_the_stream_allows():
    (plan,) = plans(Wanted("impress-figure4", sizes=(5, 100), tasks=4))
    assert plan.setting.different == 20 - 4
    assert plan.sizes("heterogeneous") == (5,)
    assert plan.sizes("homogeneous") == (5, 100)


@pytest.mark.parametrize(
    ("figure", "asked", "word"),
    [
        ("impress-figure3", {"sizes": ()}, "sizes"),
        ("impress-figure3", {"sizes": (5, 5)}, "sizes"),
        ("impress-figure3", {"sizes": (0,)}, "sizes"),
        ("impress-figure2", {"sizes": (400,)}, "at most 350 masks of tasks of their own"),
        ("impress-figure2", {"sizes": (4,), "tasks": 360}, "at most 0 masks of tasks of their own"),
        ("impress-figure3", {"densities": (0.0,)}, "density"),
        ("impress-figure3", {"densities": (1.5,)}, "density"),
        ("impress-figure3", {"alpha_epochs": 0}, "alpha_epochs"),
        ("impress-figure2", {"among": 20}, "among: of no use to impress-figure2"),
        ("impress-figure4", {"images": 20}, "images: of no use to cifar100-split"),
    ],
)
def test_what_cannot_be_is_refused_by_name(figure, asked, word):
    with pytest.raises(SettingError, match=word):
        plans(Wanted(figure, **asked))
