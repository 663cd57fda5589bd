import dataclasses
import os
import subprocess
import sys
import time

import pytest
from tests.experiments.fakes import make_learner, make_stream

from stolon.errors import RecipeChangedError, SettingError, StoreLockedError
from stolon.experiments import Experiment, LearnerSpec, Results, StreamSpec, TrialsFailedError, run
from stolon.experiments.trial import run_trial


def toy(workers=0, **learner):
    return Experiment(
        "toy", [LearnerSpec("fake", "x", **learner)], [StreamSpec("s")], seeds=[0, 1], workers=workers
    )


def go(experiment, folder):
    return list(run(experiment, folder, make_learner=make_learner, make_stream=make_stream))


def numbers(folder):
    return {
        record.key: {key: value for key, value in record.data.items() if "seconds" not in key}
        for record in Results(folder / "results.jsonl").read()
        if record.kind != "experiment"
    }


def test_events_tell_what_is_stored_and_how_far_it_is(tmp_path):
    events = go(toy(), tmp_path)
    stored = [r for r in Results(tmp_path / "results.jsonl").read() if r.kind != "experiment"]
    assert [event.record for event in events] == stored
    assert [event.done for event in events if event.record.kind == "done"] == [1, 2]
    assert {event.of for event in events} == {2}


def test_nothing_is_left_to_do_the_second_time(tmp_path):
    go(toy(), tmp_path)
    assert go(toy(), tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": [0]}, "seeds"),
        ({"threads": 2}, "threads"),
        ({"learners": [LearnerSpec("fake", "x", settings={"epochs": 9})]}, "learners"),
        ({"name": "other"}, "toy|name"),
    ],
)
def test_another_experiment_in_the_same_folder_is_refused_naming_the_difference(tmp_path, changes, named):
    go(toy(), tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    with pytest.raises(RecipeChangedError, match=named):
        go(dataclasses.replace(toy(), **changes), tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_how_it_is_run_may_change(tmp_path):
    go(toy(), tmp_path)
    assert go(dataclasses.replace(toy(), workers=3, checkpoint_every_s=99), tmp_path) == []


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    first = run(toy(), tmp_path, make_learner=make_learner, make_stream=make_stream)
    next(first)
    with pytest.raises(StoreLockedError, match="another process"):
        go(toy(), tmp_path)
    first.close()
    go(toy(), tmp_path)


def test_names_are_checked_before_anything_runs(tmp_path):
    with pytest.raises(SettingError, match="fake"):
        run(toy(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_is_kept_for_the_report(tmp_path):
    list(run(toy(), tmp_path, command="stolon run x", make_learner=make_learner, make_stream=make_stream))
    assert Results(tmp_path / "results.jsonl").read()[0].data["command"] == "stolon run x"


def test_one_trial_fails_the_others_go_on_and_it_is_told_at_the_end(tmp_path):
    learners = [LearnerSpec("fake", "x", label="bad", settings={"fails_on": "s-1"}), LearnerSpec("fake", "x")]
    experiment = Experiment("toy", learners, [StreamSpec("s")], workers=0)
    seen = []
    with pytest.raises(TrialsFailedError, match=r"1 of 2 trial.*\n.*bad, s, 0: DataError: cannot learn"):
        seen.extend(run(experiment, tmp_path, make_learner=make_learner, make_stream=make_stream))
    records = Results(tmp_path / "results.jsonl").read()
    assert [r.trial for r in records if r.kind == "done"] == [("fake", "s", 0)]
    assert [r.trial for r in records if r.kind == "failed"] == [("bad", "s", 0)]


def test_a_pool_gives_the_same_numbers_and_outlives_a_worker_that_dies(tmp_path):
    inline, pooled = tmp_path / "inline", tmp_path / "pooled"
    healthy = dataclasses.replace(toy(), seeds=[0])
    go(healthy, inline)
    dying = LearnerSpec("fake", "x", label="dying", settings={"dies_on": "s-0"})
    experiment = dataclasses.replace(healthy, workers=1, learners=[dying, *healthy.learners])
    with pytest.raises(TrialsFailedError, match="dying, s, 0: RuntimeError: its process was killed"):
        go(experiment, pooled)
    found = {key: data for key, data in numbers(pooled).items() if key[1] == "fake"}
    assert found == numbers(inline)


class Brittle:
    """A pool that runs trials at once, and breaks with all in flight when one of them kills its process."""

    def __init__(self, lab):
        self.lab, self.running = lab, {}

    def submit(self, trial):
        self.running[len(self.running)] = trial

    def settle(self):
        lost, self.running = list(self.running.values()), {}
        if any(trial.learner.label == "dying" for trial in lost):
            return lost
        for trial in lost:
            list(run_trial(trial, self.lab))
        return []

    def close(self):
        self.running = {}


def test_who_was_in_flight_with_a_dying_trial_is_not_blamed_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("stolon.experiments.runner._Pool", Brittle)
    learners = [LearnerSpec("fake", "x", label=label) for label in ("a", "dying", "b")]
    experiment = Experiment("toy", learners, [StreamSpec("s")], seeds=[0, 1], workers=3)
    with pytest.raises(TrialsFailedError, match="2 of 6"):
        go(experiment, tmp_path)
    done = {r.trial for r in Results(tmp_path / "results.jsonl").read() if r.kind == "done"}
    assert done == {(label, "s", seed) for label in "ab" for seed in (0, 1)}


def test_closing_the_generator_stops_the_pool_and_the_next_run_goes_on(tmp_path):
    experiment = dataclasses.replace(toy(settings={"epochs": 6, "pause_s": 0.03}), seeds=[0])
    pooled = dataclasses.replace(experiment, workers=1)
    events = run(pooled, tmp_path / "a", make_learner=make_learner, make_stream=make_stream)
    for event in events:
        if event.record.kind == "epoch":
            break
    events.close()
    go(experiment, tmp_path / "a")
    go(experiment, tmp_path / "b")
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


ORPHAN = """
import os, sys, time
from stolon.experiments.attendance import attend
parent = os.getpid()
if os.fork() == 0:
    attend(parent)
    sys.stdout.write(f"{os.getpid()}\\n")
    sys.stdout.flush()
    os.close(1)
    time.sleep(60)
    os._exit(0)
time.sleep(0.5)
os.kill(parent, 9)
"""


def test_a_worker_ends_when_its_runner_is_killed():
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    worker = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its runner")
