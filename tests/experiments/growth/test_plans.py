import json

import pytest

from stolon.errors import DataMissingError, SettingError
from stolon.experiments.growth.plans import FIGURES, Item, Wanted, open_stream, plans
from stolon.experiments.growth.settings import DELTAS, SCALES, STREAMS
from stolon.learners import make

EVERY = [(figure, stream, scale) for figure in FIGURES for stream in STREAMS for scale in SCALES]


def made(figure, stream, scale, **asked):
    (plan,) = plans(Wanted(figure, scale, (stream,), **asked))
    return plan


@pytest.mark.parametrize(("figure", "stream", "scale"), EVERY)
def test_every_figure_can_be_made_of_every_stream_at_every_scale(figure, stream, scale):
    plan = made(figure, stream, scale)
    labels = [(item.label, unit.seed) for unit in plan.units() for item in plan.items(unit.kind)]
    assert len(set(labels)) == len(labels)
    assert plan.kinds[0] == "independent"
    assert 2 <= plan.setting.tasks <= (plan.setting.pool or 100)
    assert plan.config("independent").grow == "nucleus"
    json.dumps(plan.recipe(), allow_nan=False)
    for kind in plan.kinds:
        assert plan.config(kind).epochs == plan.setting.epochs
        if kind in ("learn-to-grow", "rcl", "finetune"):
            make(kind, net=plan.setting.net, **plan.settings_of(kind))


def test_full_scale_is_the_papers_protocol():
    for stream in ("cifar100-split", "mnist-permuted"):
        setting = STREAMS[stream]["full"]
        assert (setting.tasks, setting.epochs, setting.batch_size, setting.learning_rate) == (10, 5, 64, 0.01)
        assert (setting.samples, setting.draws, setting.deltas) == (500, 20, DELTAS)
    mnist = STREAMS["mnist-permuted"]["full"]
    assert (mnist.net, mnist.head, mnist.rcl_trials, mnist.rcl_epochs) == (
        "mlp-300-300-300",
        "shared",
        50,
        15,
    )
    assert STREAMS["cifar100-split"]["full"].head == "own"


def test_by_default_figures_run_on_split_cifar_100():
    assert [plan.stream for plan in plans(Wanted("growth-pareto"))] == ["cifar100-split"]


def test_methods_differ_in_what_they_are_about():
    plan = made("growth-figure4", "digits-split", "quick")
    assert [item.label for kind in plan.kinds for item in plan.items(kind)] == [
        "independent", "delta 0.5", "full-rate", "frozen", "as-released 0.5", "learn-to-grow", "rcl", "finetune",
    ]  # fmt: skip
    assert plan.config("sweep").bound_rate == 0.1
    assert plan.config("full-rate").bound_rate == 1
    assert plan.config("frozen").bound_rate == 0
    assert plan.config("as-released").as_released
    assert (plan.config("random").grow, plan.config("random").bind) == ("random", "random")


def test_the_sweep_has_all_coefficients_and_random_growth_all_draws():
    plan = made("growth-pareto", "mnist-permuted", "full")
    assert [item.delta for item in plan.items("sweep")] == list(DELTAS)
    assert [item.label for item in plan.items("random")] == [f"random {draw}" for draw in range(20)]
    assert [item.label for item in plan.items("searched")] == [f"searched {trial}" for trial in range(20)]
    assert Item("sweep", 0.5).label == "delta 0.5"
    few = made("growth-pareto", "mnist-permuted", "quick", draws=3)
    assert len(few.items("random")) == len(few.items("searched")) == 3
    assert [item.delta for item in few.items("as-released")] == list(few.deltas)


def test_figures_on_one_stream_share_their_items():
    recipes = {json.dumps(made(figure, "digits-split", "half").recipe()) for figure in FIGURES}
    names = {made(figure, "digits-split", "half").name for figure in FIGURES}
    assert len(recipes) == len(names) == 1
    few, many = (made("growth-pareto", "digits-split", "quick", seeds=seeds) for seeds in (1, 7))
    assert few.recipe() == many.recipe()
    assert few.recipe() != made("growth-pareto", "digits-split", "quick", epochs=9).recipe()


def test_what_is_asked_for_takes_the_place_of_the_scales():
    plan = made("growth-figure4", "digits-permuted", "quick", seeds=4, tasks=7, epochs=2)
    setting = plan.setting
    assert (setting.seeds, setting.tasks, setting.epochs, setting.rcl_epochs) == (4, 7, 2, 2)
    assert len(open_stream(plan)) == 7


@pytest.mark.parametrize("stream", ["digits-split", "digits-permuted"])
def test_a_stream_has_as_many_tasks_as_are_learned(stream):
    plan = made("growth-figure6", stream, "quick", tasks=3)
    assert [len(task.classes) for task in open_stream(plan)] == [2 if stream == "digits-split" else 10] * 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"figure": "growth-figure3"}, "figure: expected one of"),
        ({"scale": "huge"}, "scale: expected one of"),
        ({"streams": ("cifar10-split",)}, "stream: expected one of cifar100-split"),
        ({"streams": ("digits-split",) * 2}, "expected different ones"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"tasks": 1}, "tasks: expected at least 2"),
        ({"epochs": 1.5}, "epochs: expected a whole number"),
        ({"draws": 0}, "draws: expected at least 1"),
        ({"figure": "growth-figure6", "draws": 3}, "draws: of no use to growth-figure6"),
        ({"workers": -1}, "workers: expected at least 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, words):
    with pytest.raises(SettingError, match=words):
        Wanted(**{"figure": "growth-figure2", **wrong})


def test_more_tasks_than_a_stream_has_are_refused():
    with pytest.raises(SettingError, match="tasks: expected at most 5, which digits-split has, found 6"):
        made("growth-figure2", "digits-split", "full", tasks=6)


def test_missing_data_are_told_with_what_there_is_besides(tmp_path):
    (plan,) = plans(Wanted("growth-figure2", root=str(tmp_path)))
    with pytest.raises(DataMissingError, match=r"take --stream from mnist-permuted, .*digits-split"):
        open_stream(plan)
