import dataclasses
import json
import re
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.experiments.search.making import PLAN, SEARCH, SETTINGS, STREAM, trials

from stolon import learners
from stolon.errors import (
    DataError,
    RecipeChangedError,
    SettingError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    TaskError,
    TrialsFailedError,
    UnknownNameError,
)
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec
from stolon.experiments.search import picking, search_report, searching
from stolon.experiments.search.plan import SearchPlan
from stolon.experiments.search.searching import JOURNAL, run
from stolon.growth.search import SearchSettings
from stolon.growth.search_space import SearchSpace
from stolon.growth.sequence_run import run_sequence

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """No report, whose picture takes longer than all else, but where a test is about it."""
    if "report" not in request.node.name and "fails" not in request.node.name:
        monkeypatch.setattr(search_report, "publish", lambda journal, **_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of 6 trials that was never stopped, and what happened."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, list(run(PLAN, folder, trials=6, workers=0, command="stolon search"))


def test_networks_alone_come_first_then_trials(whole):
    folder, events = whole
    assert [event.task for event in events[:3]] == ["digits-split-0", "digits-split-1", "digits-split-2"]
    assert [event.trial.number for event in events[3:]] == list(range(6))
    assert (events[-1].done, events[-1].of) == (6, 6)
    assert [event.trial for event in events[3:]] == list(trials(folder))


def test_outcomes_are_those_of_sequences_run_from_nothing(whole):
    tasks = PLAN.tasks()
    for trial in trials(whole[0])[:3]:
        alone = run_sequence(trial.sequence, tasks, net=PLAN.net, config=PLAN.config(), seed=PLAN.seed)
        assert alone == trial.outcome


def test_a_stopped_search_goes_on_and_ends_as_if_it_had_not_been(whole, tmp_path):
    for count in (1, 4, 5):  # three of them are networks alone, which are announced each time
        events = run(PLAN, tmp_path, trials=6, workers=0)
        for _ in range(count):
            next(events)
        events.close()
    assert len([trial for trial in trials(tmp_path) if not trial.is_open]) == 3
    list(run(PLAN, tmp_path, trials=6, workers=0))
    assert trials(tmp_path) == trials(whole[0])
    assert list(run(PLAN, tmp_path, trials=6, workers=0)) == []  # nothing is left to do


def test_a_search_that_is_killed_again_and_again_ends_as_if_it_had_not_been(whole, tmp_path):
    for number in (0, 2, 1):
        command = [sys.executable, "-m", "tests.experiments.search.kill_me", str(tmp_path), str(number)]
        ended = subprocess.run(command, cwd=ROOT, timeout=200, check=False)
        assert ended.returncode == -signal.SIGKILL
    assert [trial.number for trial in trials(tmp_path) if not trial.is_open] == [0, 1, 2]
    list(run(PLAN, tmp_path, trials=6, workers=0))
    assert trials(tmp_path) == trials(whole[0])


def test_worker_processes_find_the_same_though_others_were_killed_before(whole, tmp_path):
    command = [sys.executable, "-m", "tests.experiments.search.kill_me", str(tmp_path), "0", "2"]
    ended = subprocess.run(command, cwd=ROOT, timeout=200, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [trial.is_open for trial in trials(tmp_path)].count(False) == 1
    list(run(PLAN, tmp_path, trials=6, workers=2))
    assert trials(tmp_path) == trials(whole[0])


def test_more_trials_go_on_from_fewer(whole, tmp_path):
    list(run(PLAN, tmp_path, trials=2, workers=0))
    list(run(PLAN, tmp_path, trials=6, workers=0))
    assert trials(tmp_path) == trials(whole[0])


def test_any_executor_will_do_and_the_number_of_workers_does_not_matter(whole, tmp_path):
    list(run(PLAN, tmp_path, trials=6, workers=3, make_executor=lambda _: ThreadPoolExecutor(1)))
    assert trials(tmp_path) == trials(whole[0])


def test_the_report_shows_the_front_and_why(whole):
    folder, _ = whole
    text = (folder / "report.md").read_text()
    for word in (
        "The Pareto front",
        "6 of 6 trial",
        "least-conflict",
        "stolon search",
        "report-figures/001.svg",
        "the joint network",
        "conflict of each task with every candidate",
    ):
        assert word in text
    page = (folder / "report.html").read_text()
    assert "Average gain in points of validation accuracy" in page
    assert not re.search(r"(src|href)=.http", page)
    assert 'http-equiv="refresh"' not in page


def test_the_report_is_drawn_while_the_search_goes_on(tmp_path):
    events = run(PLAN, tmp_path, trials=6, workers=0)
    while next(events).trial is None:
        assert not (tmp_path / "report.html").exists()
    assert "1 of 3 trial" in (tmp_path / "report.md").read_text()
    assert '<meta http-equiv="refresh" content="5">' in (tmp_path / "report.html").read_text()
    events.close()
    assert 'http-equiv="refresh"' not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"net": "mlp-8-9"}, "net = 'mlp-8-8'"),
        ({"settings": {**SETTINGS, "epochs": 2}}, "settings.epochs"),
        ({"settings": {**SETTINGS, "bind": "first"}}, "settings.bind"),
        ({"stream": StreamSpec("digits-split", tasks=2)}, "data"),
        ({"search": dataclasses.replace(SEARCH, seed=1)}, "search.seed"),
    ],
)
def test_a_folder_of_another_search_is_refused_and_is_as_it_was(whole, changed, match):
    folder, _ = whole
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeChangedError, match=match):
        next(run(dataclasses.replace(PLAN, **changed), folder, workers=0))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_two_searches_in_one_folder_are_refused(tmp_path):
    events = run(PLAN, tmp_path, workers=0)
    next(events)
    with pytest.raises(StoreLockedError, match="another process"):
        next(run(PLAN, tmp_path, workers=0))
    events.close()


def test_a_trial_that_fails_is_told_and_the_others_are_done(tmp_path, monkeypatch):
    work = searching.do_trial

    def fail(bench, sequence):
        if sequence.steps[1].delta == 0.5:
            raise TaskError("it blew up")
        return work(bench, sequence)

    monkeypatch.setattr(searching, "do_trial", fail)
    plan = dataclasses.replace(PLAN, search=dataclasses.replace(SEARCH, sampler="grid"))
    with pytest.raises(TrialsFailedError, match=r"1 of 5 trial\(s\) failed"):
        list(run(plan, tmp_path, workers=0))
    assert [trial.error for trial in trials(tmp_path)] == ["", "", "TaskError: it blew up", "", ""]
    assert "it blew up" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("error", "expected"), [(StoreFullError("full"), StoreFullError), (BrokenExecutor(), TrialsFailedError)]
)
def test_what_is_no_fault_of_a_trial_stops_the_search_and_leaves_it_open(
    tmp_path, monkeypatch, error, expected
):
    def fail(bench, sequence):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(searching, "do_trial", fail)
        with pytest.raises(expected):
            list(run(PLAN, tmp_path, trials=3, workers=0))
    assert all(trial.is_open for trial in trials(tmp_path))
    list(run(PLAN, tmp_path, trials=3, workers=0))
    assert all(trial.outcome is not None for trial in trials(tmp_path))


@pytest.mark.parametrize(
    ("plan", "error", "match"),
    [
        (dataclasses.replace(PLAN, stream=StreamSpec("digits-split", tasks=1)), SettingError, "at least 2"),
        (
            dataclasses.replace(PLAN, stream=StreamSpec("digits-split", options={"val_share": 0.0})),
            DataError,
            "validation data",
        ),
        (dataclasses.replace(PLAN, net="growth-conv"), SettingError, "growth-conv"),
        (dataclasses.replace(PLAN, settings={**SETTINGS, "parts": 9}), SettingError, "parts"),
    ],
)
def test_what_no_trial_could_do_is_refused_before_any(tmp_path, plan, error, match):
    with pytest.raises(error, match=match):
        list(run(plan, tmp_path, workers=0))
    assert not list(tmp_path.iterdir())


def test_without_an_executor_nothing_is_begun(tmp_path):
    def refuse(workers):
        raise SettingError("ray: it is not installed")

    with pytest.raises(SettingError, match="not installed"):
        list(run(PLAN, tmp_path, workers=1, make_executor=refuse))
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoreFullError("full")])
def test_the_report_of_what_broke_off_is_no_longer_live(tmp_path, monkeypatch, error):
    work, asked = searching.do_trial, []

    def fail_at_the_third(bench, sequence):
        asked.append(sequence)
        if len(asked) == 3:
            raise error
        return work(bench, sequence)

    monkeypatch.setattr(searching, "do_trial", fail_at_the_third)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        list(run(PLAN, tmp_path, trials=6, workers=0))
    page = (tmp_path / "report.html").read_text()
    assert 'http-equiv="refresh"' not in page
    assert len([trial for trial in trials(tmp_path) if not trial.is_open]) == 2


def test_workers_are_told_where_things_lie_whatever_folder_they_are_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    monkeypatch.setattr(searching, "do_alone", lambda bench, index: told.append(bench))
    plan = dataclasses.replace(PLAN, stream=dataclasses.replace(STREAM, root="data"))
    next(run(plan, "here", workers=0))
    assert (told[0].cache, told[0].plan.stream.root) == (tmp_path / "here" / "cache", str(tmp_path / "data"))


@pytest.mark.parametrize("changed", [{"trials": 0}, {"workers": -1}, {"most_bytes": -1}])
def test_numbers_out_of_range_are_refused_at_once(tmp_path, changed):
    with pytest.raises(SettingError, match=next(iter(changed))):
        run(PLAN, tmp_path, **changed)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"settings": {"delta": 0.5}}, SettingError, "delta: it is what is searched"),
        ({"settings": {"grow": "random"}}, SettingError, "grow"),
        ({"settings": {"epoch": 5}}, SettingError, "epoch"),
        ({"settings": {"epochs": 0}}, SettingError, "epochs"),
        ({"net": "no-net"}, UnknownNameError, "no-net"),
        ({"stream": StreamSpec("no-stream")}, UnknownNameError, "no-stream"),
        ({"stream": StreamSpec("digits-split", options={"size": 3})}, SettingError, "size"),
        ({"threads": 0}, SettingError, "threads"),
        (
            {"settings": {"bind": "first"}, "search": SearchSettings(space=SearchSpace(binds="searched"))},
            SettingError,
            "bindings are searched",
        ),
    ],
)
def test_plans_that_make_no_sense_are_refused(changed, error, match):
    with pytest.raises(error, match=match):
        dataclasses.replace(PLAN, **changed)


def test_an_experiments_file_says_what_is_searched():
    learner = LearnerSpec("bind-and-grow", "mlp-8-8", settings=SETTINGS)
    assert SearchPlan.of_experiment(Experiment("e", [learner], [STREAM]), SEARCH) == PLAN
    other = LearnerSpec("finetune", "mlp-8-8")
    for given, streams in (
        ([other], [STREAM]),
        ([learner, other], [STREAM]),
        ([learner], [STREAM, StreamSpec("mnist")]),
    ):
        with pytest.raises(SettingError, match="one learner, bind-and-grow, on one stream"):
            SearchPlan.of_experiment(Experiment("e", given, streams), SEARCH)


# Picking


def test_the_best_within_a_budget_is_picked(whole):
    folder, _ = whole
    done = [trial.outcome for trial in trials(folder)]
    for budget in sorted({outcome.parameters for outcome in done}):
        picked = picking.pick(folder, max_parameters=budget)
        fit = [outcome for outcome in done if outcome.parameters <= budget]
        assert picked.outcome in fit
        assert picked.outcome.gain == max(outcome.gain for outcome in fit)
        alike = [outcome.parameters for outcome in fit if outcome.gain == picked.outcome.gain]
        assert picked.outcome.parameters == min(alike)
    least = min(done, key=lambda outcome: outcome.bytes)
    assert picking.pick(folder, max_bytes=least.bytes).outcome.bytes == least.bytes
    assert json.loads(json.dumps(picked.to_json()))["sequence"] == picked.trial.sequence.to_json()


def test_a_picked_solution_is_made_as_it_was_measured(whole, tmp_path):
    picked = picking.pick(whole[0], max_parameters=10**9)
    learner = picking.make(picked, whole[0], tmp_path / "made")
    assert learner.joint.parameters() == picked.outcome.parameters
    assert tuple(learner.growth(task) for task in learner.tasks) == picked.outcome.growths
    assert (tmp_path / "made" / "record.json").is_file()


def test_a_solution_takes_no_folder_that_is_somebody_elses(whole, tmp_path):
    picked = picking.pick(whole[0], max_parameters=10**9)
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(
        StoreError, match="an empty one, or one that a solution was saved in, found other files"
    ):
        picking.make(picked, whole[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    learners.make("finetune", net="mlp-8").save(tmp_path / "learner")
    with pytest.raises(StoreError, match="choose another"):
        picking.make(picked, whole[0], tmp_path / "learner")
    for _ in range(2):
        picking.make(picked, whole[0], tmp_path / "made")


def test_a_folder_with_another_report_is_refused(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(SettingError, match=r"one without reports, found report\.md"):
        run(PLAN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_more_tasks_than_a_stream_has_are_refused(tmp_path):
    plan = dataclasses.replace(PLAN, stream=StreamSpec("digits-split", tasks=9))
    with pytest.raises(SettingError, match="tasks: expected at most 5, which digits-split has"):
        list(run(plan, tmp_path, workers=0))
    assert not list(tmp_path.iterdir())


def test_a_solution_is_not_made_of_other_data_than_were_searched_on(whole, tmp_path):
    picked = picking.pick(whole[0], max_parameters=10**9)
    recipe = {**picked.written.recipe, "data": "0" * 64}
    changed = dataclasses.replace(picked, written=dataclasses.replace(picked.written, recipe=recipe))
    with pytest.raises(DataError, match="the data that the search was made on"):
        picking.make(changed, whole[0], tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_where_nothing_fits_the_smallest_is_named(whole):
    smallest = min(trial.outcome.parameters for trial in trials(whole[0]))
    with pytest.raises(SettingError, match=f"the smallest has {smallest:,} parameters"):
        picking.pick(whole[0], max_parameters=smallest - 1)
    with pytest.raises(SettingError, match="no solution within the budget"):
        picking.pick(whole[0], max_bytes=0)


def test_picking_without_a_budget_or_a_search_is_refused(whole, tmp_path):
    with pytest.raises(SettingError, match="a budget"):
        picking.pick(whole[0])
    with pytest.raises(SettingError, match="max_bytes"):
        picking.pick(whole[0], max_bytes=-1)
    with pytest.raises(StoreMissingError, match="right folder"):
        picking.pick(tmp_path, max_bytes=1)
    events = run(PLAN, tmp_path, workers=0)
    next(events)
    events.close()
    with pytest.raises(StoreMissingError, match="a trial that is done"):
        picking.pick(tmp_path, max_bytes=1)
