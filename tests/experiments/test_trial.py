import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.experiments.fakes import Config, Fake, make_learner, make_stream, toy_task
from tests.experiments.kill_me import experiment as killed_experiment
from tests.transfer.making import linear_map

from stolon import measure
from stolon.errors import DataError, SettingError, TaskUnknownError
from stolon.experiments import Experiment, LearnerSpec, StreamSpec, evaluate, run
from stolon.experiments.progress import Progress
from stolon.experiments.results import Results
from stolon.experiments.runner import default_learner
from stolon.experiments.trial import trials
from stolon.learner import Epoch
from stolon.tasks import Split, Stream, Task


def one(folder, *, stream=make_stream, learner=make_learner, **settings):
    spec = {
        key: settings.pop(key) for key in ("evaluate_every", "count_macs", "infer_tasks") if key in settings
    }
    experiment = Experiment(
        "t", [LearnerSpec("fake", "x", settings=settings)], [StreamSpec("s")], workers=0, **spec
    )
    list(run(experiment, folder, make_learner=learner, make_stream=stream))
    return Results(folder / "results.jsonl").read()


def of(records, kind):
    return [record.data for record in records if record.kind == kind]


def numbers(path):
    """All that is told but for times."""
    return {
        record.key: {key: value for key, value in record.data.items() if "seconds" not in key}
        for record in Results(path).read()
    }


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return one(tmp_path_factory.mktemp("one"), infers=True)


def test_every_line_says_where_it_comes_from(records):
    for record in records:
        assert record.experiment == "t"
        assert record.versions["torch"] == torch.__version__
        assert record.hardware["threads"] == 1
        assert record.hardware["machine"]
        assert record.time.endswith("+00:00")
        if record.kind != "experiment":
            assert record.trial == ("fake", "s", 0)


def test_after_each_task_all_tasks_so_far_are_asked_about(records):
    tasks = of(records, "task")
    assert [len(data["row"]) for data in tasks] == [1, 2, 3]
    assert [len(data["unnamed_row"]) for data in tasks] == [1, 2, 3]
    assert [sum(map(sum, data["confusion"])) for data in tasks] == [30, 60, 90]
    assert tasks[0]["mapper_accuracy"] == 1.0


def test_the_accuracies_are_those_of_asking_the_learner_by_hand(records):
    learner, stream = Fake("x", Config(infers=True)), make_stream(StreamSpec("s"), 0)
    for i, task in enumerate(stream):
        list(learner.learn(task, seed=0))
        data = of(records, "task")[i]
        for j, known in enumerate(stream[: i + 1]):
            x, y = known.test.batch(torch.arange(30))
            named, unnamed = learner.predict(x, known.name), learner.predict(x)
            right = (unnamed.labels == y) & torch.tensor([t == known.name for t in unnamed.tasks])
            assert data["row"][j] == pytest.approx((named.labels == y).float().mean().item())
            assert data["unnamed_row"][j] == pytest.approx(right.float().mean().item())


def test_the_peak_is_that_of_its_definition(tmp_path):
    peaks = [data["peak"] for data in of(one(tmp_path), "task")]
    learner = Fake("x", Config())
    for task, peak in zip(make_stream(StreamSpec("s"), 0), peaks, strict=True):
        pairs = [
            tuple(evaluate(learner, task, part=part).accuracy for part in ("val", "test"))
            for _ in learner.learn(task, seed=0)
        ]
        assert peak == measure.peak_accuracy(pairs)


def test_looking_less_often_changes_nothing_but_the_peak(tmp_path, records):
    seldom = one(tmp_path, infers=True, evaluate_every=0)
    assert [d["row"] for d in of(seldom, "task")] == [d["row"] for d in of(records, "task")]
    assert [d["peak"] for d in of(seldom, "task")] == [d["row"][-1] for d in of(seldom, "task")]
    assert all(d["test_accuracy"] is None for d in of(seldom, "epoch"))


def test_counting_macs_changes_nothing_and_counts_by_hand(tmp_path, records):
    uncounted = one(tmp_path, infers=True, count_macs=False)
    assert [d["row"] for d in of(uncounted, "task")] == [d["row"] for d in of(records, "task")]
    assert {d["macs"] for d in of(uncounted, "task")} == {None}
    # 24 images of 16 numbers, 3 classes, 4 epochs; forward and the weights' gradient
    assert {d["macs"] for d in of(records, "task")} == {4 * 2 * 24 * 16 * 3}
    assert of(records, "done")[0]["macs"] == 3 * 4 * 2 * 24 * 16 * 3
    assert {d["answer_macs"] for d in of(records, "task")} == {16 * 3}


def test_a_learner_that_cannot_infer_tasks_is_asked_once(tmp_path, monkeypatch):
    asked = []
    infer = Fake._infer
    monkeypatch.setattr(Fake, "_infer", lambda self, x: (asked.append(1), infer(self, x))[1])
    found = of(one(tmp_path), "task")
    assert not any("unnamed_row" in data or "confusion" in data for data in found)
    assert len(asked) == 1


def test_sizes_are_the_learners(records):
    size = of(records, "task")[-1]["size"]
    assert size == {
        "parameters": 153,
        "shared": 0,
        "per_task": {f"s-{i}": 51 for i in range(3)},
        "bytes": 612,
        "bytes_per_task": {f"s-{i}": 204 for i in range(3)},
    }


def test_without_test_data_nothing_is_learned(tmp_path):
    full = toy_task("full", 0)
    empty = Split.of(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))
    task = Task("untestable", full.classes, full.train, full.val, empty)
    with pytest.raises(RuntimeError, match="expected test data"):
        one(tmp_path, stream=lambda spec, seed: Stream("s", [full, task]))


def test_without_validation_data_the_peak_is_the_end(tmp_path):
    full = toy_task("full", 0)
    empty = Split.of(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))
    task = Task("t", full.classes, full.train, empty, full.test)
    data = of(one(tmp_path, stream=lambda spec, seed: Stream("s", [task])), "task")[0]
    assert data["peak"] == data["row"][0]
    assert data["val_accuracy"] is None


def test_a_stream_can_be_cut_short(tmp_path):
    experiment = Experiment("t", [LearnerSpec("fake", "x")], [StreamSpec("s", tasks=2)], workers=0)
    list(run(experiment, tmp_path, make_learner=make_learner, make_stream=make_stream))
    assert len(of(Results(tmp_path / "results.jsonl").read(), "task")) == 2


def test_every_combination_is_a_trial_with_a_folder_of_its_own():
    learners = [LearnerSpec("a", "x", label=label) for label in ("ä/../b", "ä/..-b", "c")]
    experiment = Experiment("t", learners, [StreamSpec("s"), StreamSpec("z")], seeds=[0, 1, 2])
    found = trials(experiment)
    assert len(found) == 18
    assert len({trial.folder for trial in found}) == 18
    assert all(trial.folder.replace("-", "").isalnum() and trial.folder.isascii() for trial in found)


# Evaluating


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size):
    learner, task = Fake("x", Config(infers=True)), toy_task("t", 3)
    list(learner.learn(task))
    for named in (True, False):
        assert evaluate(learner, task, named=named, batch_size=batch_size) == evaluate(
            learner, task, named=named
        )


def test_evaluation_refuses_what_it_cannot_do():
    learner, task = Fake("x", Config()), toy_task("t", 3)
    with pytest.raises(TaskUnknownError):
        evaluate(learner, task)
    with pytest.raises(SettingError, match="batch_size"):
        evaluate(learner, task, batch_size=0)


# Counting MACs over phases


def step(progress, phase, number, total, macs):
    progress.count(Epoch("t", phase, number, total), macs if progress.wants_count else None)


def test_steps_cost_in_proportion_to_what_they_did():
    progress = Progress()
    for number, macs in ((256, 2560), (512, 2560), (600, 880)):
        step(progress, "features", number, 600, macs)
    for number in (1, 2, 3):
        step(progress, "head", number, 10, 7)
    assert progress.macs == 6000 + 21


def test_a_phase_after_an_early_stop_is_counted_whole():
    progress = Progress()
    for number in (1, 2):
        step(
            progress, "head", number, 10, 5
        )  # stops early: the next step is not expected to be another phase
    for number in (1, 2, 3):
        step(progress, "biases", number, 10, 100)
    assert progress.macs == 10 + 300


def test_what_comes_after_the_last_epoch_is_counted():
    progress = Progress()
    step(progress, "train", 1, 1, 5)
    assert progress.wants_count
    progress.count(None, 3)
    progress.next_task()
    assert progress.total_macs == 8
    assert progress.macs == 0


# Killing


def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_numbers(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    list(run(killed_experiment(), whole, make_learner=make_learner, make_stream=make_stream))
    script = Path(__file__).with_name("kill_me.py")
    done = subprocess.run(
        [sys.executable, str(script), str(killed), "12"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count("killed") >= 5
    assert numbers(killed / "results.jsonl") == numbers(whole / "results.jsonl")


def test_a_finished_trial_is_not_run_again(tmp_path):
    one(tmp_path)

    def never(*_):
        raise AssertionError

    assert len(one(tmp_path, learner=never, stream=never)) == len(Results(tmp_path / "results.jsonl").read())


def test_an_interrupted_trial_goes_on_where_it_was(tmp_path):
    """Stopped after every single event, again and again."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    experiment = killed_experiment()
    list(run(experiment, whole, make_learner=make_learner, make_stream=make_stream))
    for _ in range(200):
        events = run(experiment, pieces, make_learner=make_learner, make_stream=make_stream)
        if next(events, None) is None:
            break
        events.close()
    assert numbers(pieces / "results.jsonl") == numbers(whole / "results.jsonl")


def test_a_failed_trial_is_told_and_tried_again(tmp_path):
    with pytest.raises(RuntimeError, match="s-1"):
        one(tmp_path, fails_on="s-1")
    found = Results(tmp_path / "results.jsonl").read()
    assert of(found, "failed")[0]["error"] == DataError.__name__
    assert len(of(found, "task")) == 1

    def mended(spec):
        return Fake(spec.net, Config())

    assert len(of(one(tmp_path, fails_on="s-1", learner=mended), "task")) == 3


def test_tasks_of_numbers_are_judged_by_the_variance_that_is_explained(tmp_path):
    tasks = [linear_map(name, 200, 2, (6,), seed) for seed, name in enumerate("ab")]

    def numbers(spec, seed):
        return tuple(tasks)

    experiment = Experiment(
        "numbers",
        [
            LearnerSpec(
                "static", "mlp-16", settings={"epochs": 12, "learning_rate": 1e-2, "optimizer": "adam"}
            )
        ],
        [StreamSpec("numbers")],
        [0],
    )
    events = run(experiment, tmp_path, make_learner=default_learner, make_stream=numbers)
    records = [event.record for event in events]
    rows = [record.data["row"] for record in records if record.kind == "task"]
    assert [len(row) for row in rows] == [1, 2]
    assert all(0.7 < value <= 1 for value in (rows[0][0], rows[1][1]))
    assert (tmp_path / "results.jsonl").exists()
