from dataclasses import replace

import filelock
import pytest
from tests.experiments.growth.making import TINY, made, plan, results

from stolon.errors import DataError, RecipeChangedError, StoreLockedError, TrialsFailedError
from stolon.experiments.growth import running
from stolon.experiments.growth.measured import Measured
from stolon.experiments.growth.plans import Item, Unit
from stolon.experiments.growth.running import results_of, run
from stolon.experiments.growth.work import SEARCHES, Work
from stolon.experiments.units import begin
from stolon.growth import search
from stolon.growth.sequence_run import run_sequence
from stolon.growth.sequences import GrowSequence


def records(folder):
    return results_of(folder).read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Figure 2 from beginning to end in this process: its folder and events."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, list(run(plan(), folder, command="a command"))


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """The same of figure 4."""
    folder = tmp_path_factory.mktemp("four")
    return folder, list(run(plan("growth-figure4"), folder))


def test_every_item_is_recorded_once(whole):
    folder, events = whole
    labels = [record.learner for record in records(folder) if record.kind == "done"]
    assert labels == ["independent", "delta 0", "delta 0.5", "delta 1", "random 0", "random 1"]
    assert (events[-1].done, events[-1].of) == (6, 6)
    assert records(folder)[0].data["command"] == "a command"


def test_what_is_done_is_not_done_again(whole):
    folder, _ = whole
    before = (folder / "results.jsonl").read_bytes()
    assert list(run(plan(), folder)) == []
    assert (folder / "results.jsonl").read_bytes() == before


def test_a_sequence_gives_what_it_gives_from_nothing(whole):
    folder, _ = whole
    wanted, tasks = plan(), list(plan().make_stream(0))
    (found,) = [r.data for r in records(folder) if r.kind == "done" and r.learner == "delta 0.5"]
    names = [task.name for task in tasks]
    for count in (2, 3):
        outcome = run_sequence(
            GrowSequence.shared(names[:count], 0.5), tasks, net=TINY.net, config=wanted.config("sweep")
        )
        assert found["rows"][count - 1] == list(outcome.test.values())
    assert found["val"] == list(outcome.val.values())
    assert found["parameters"] == outcome.parameters
    (alone,) = [r.data for r in records(folder) if r.kind == "done" and r.learner == "independent"]
    assert alone["test"] == list(outcome.alone_test.values())
    assert alone["val"] == list(outcome.alone_val.values())
    assert alone["parameters"] == outcome.parameters_apart
    solution = Measured(wanted, records(folder)).solution(Item("sweep", 0.5), 0)
    assert solution.gain == pytest.approx(outcome.test_gain)
    assert solution.val_gain == pytest.approx(outcome.gain)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The search alone, of three trials in rounds of its own: its folder."""
    folder = tmp_path_factory.mktemp("searched")
    list(run(plan("growth-pareto", draws=3, deltas=(1.0,)), folder))
    return folder


def test_a_searchs_trials_are_measured_as_sequences_are(searched):
    wanted, tasks = plan("growth-pareto", draws=3), list(plan().make_stream(0))
    found = [r.data for r in records(searched) if r.kind == "done" and r.learner.startswith("searched")]
    assert len(found) == 3
    journal = search.read(searched / SEARCHES / "0" / "journal.log")
    assert [trial.sequence.to_json() for trial in journal.trials] == [data["sequence"] for data in found]
    for trial, data in zip(journal.trials, found, strict=True):
        assert trial.sequence.tasks == tuple(task.name for task in tasks)  # so that rows are comparable
        outcome = run_sequence(trial.sequence, tasks, net=TINY.net, config=wanted.config("searched"))
        assert data["rows"][-1] == list(outcome.test.values())
        assert data["val"] == list(outcome.val.values())
        assert data["seconds"] == trial.outcome.seconds > 0  # what the search took, not a look into the cache
        assert data["learned"] == len(trial.outcome.learned)
        assert (data["parameters"], trial.outcome.gain) == (outcome.parameters, outcome.gain)
    assert len({str(data["sequence"]) for data in found}) > 1


def test_a_search_that_was_stopped_in_a_trial_does_it_first(searched, tmp_path, monkeypatch):
    asked = []

    def stop(sequence, *given, **options):
        asked.append(sequence)
        if (
            len(asked) == 5
        ):  # the first trial and its two beginnings, the second, and here its first beginning
            raise KeyboardInterrupt
        return run_sequence(sequence, *given, **options)

    wanted = plan("growth-pareto", draws=3, deltas=(1.0,))
    begin(results_of(tmp_path), wanted.name, wanted.recipe(), "")
    unit = Unit(0, "searched")
    with monkeypatch.context() as patched:
        patched.setattr("stolon.experiments.growth.work.run_sequence", stop)
        with pytest.raises(KeyboardInterrupt):
            list(running._unit(wanted, unit, tmp_path))
    list(running._unit(wanted, unit, tmp_path))
    ours = {key: value for key, value in results(records(searched)).items() if key[1].startswith("searched")}
    assert results(records(tmp_path)) == ours


def test_draws_of_random_growth_differ(whole):
    folder, _ = whole
    first, second = (r.data for r in records(folder) if r.kind == "done" and r.learner.startswith("random"))
    assert first["growths"] != second["growths"]
    (swept,) = (r.data for r in records(folder) if r.kind == "done" and r.learner == "delta 0.5")
    assert first["rows"][0] == second["rows"][0] == swept["rows"][0]  # weights and orders are everyone's
    assert [len(row) for row in first["rows"]] == [1, 2, 3]
    assert all(growth["bound"] is not None for growth in first["growths"][1:])


@pytest.mark.parametrize("stop", [3, 8])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(whole, tmp_path, stop):
    folder, _ = whole
    going = run(plan(), tmp_path)
    for _ in range(stop):
        next(going)
    going.close()
    rest = list(run(plan(), tmp_path))
    assert results(records(tmp_path)) == results(records(folder))
    assert sum(event.record.kind == "done" for event in rest) == 6 - stop // 2


def test_a_stop_inside_a_sequence_loses_at_most_a_task(whole, tmp_path, monkeypatch):
    folder, _ = whole
    asked = []

    def stop(sequence, *given, **options):
        asked.append(len(sequence.tasks))
        if len(asked) > 1:
            raise KeyboardInterrupt
        return run_sequence(sequence, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr("stolon.experiments.growth.work.run_sequence", stop)
        with pytest.raises(KeyboardInterrupt):
            list(run(plan(), tmp_path))
    assert asked == [3, 2]
    list(run(plan(), tmp_path))
    assert results(records(tmp_path)) == results(records(folder))
    (data,) = [r.data for r in records(tmp_path) if r.kind == "done" and r.learner == "delta 0"]
    assert data["learned"] == 0
    assert Measured(plan(), records(tmp_path)).solution(Item("sweep", 0.0), 0).seconds is None


def test_other_settings_are_refused_and_nothing_changes(whole):
    folder, _ = whole
    before = (folder / "results.jsonl").read_bytes()
    with pytest.raises(RecipeChangedError, match=r"epochs = 1, found 2; .*another folder"):
        next(run(plan(epochs=2), folder))
    assert (folder / "results.jsonl").read_bytes() == before


def test_a_folder_in_use_is_refused(tmp_path):
    with filelock.FileLock(tmp_path / "LOCK"), pytest.raises(StoreLockedError, match="another process"):
        next(run(plan(), tmp_path))


def test_other_methods_are_run_beside_bind_and_grow(four):
    folder, events = four
    found = Measured(plan("growth-figure4"), records(folder))
    assert found.done() == (8, 8)
    for kind in plan("growth-figure4").kinds:  # as released too: its coefficient is the default one
        solution = found.solution(Item(kind), 0)
        assert len(solution.matrix) == 3, kind
        assert solution.parameters > 0
        assert solution.seconds > 0
    assert found.solution(Item("independent"), 0).gain == 0
    assert found.solution(Item("frozen"), 0).forgetting == 1
    assert events[-1].done == 8


@pytest.mark.parametrize("figure", ["whole", "four", "searched"])
def test_records_that_tests_make_by_hand_have_nothing_that_runs_do_not_give(request, figure):
    fixture = request.getfixturevalue(figure)
    folder, wanted = {
        "whole": lambda: (fixture[0], plan("growth-figure2")),
        "four": lambda: (fixture[0], plan("growth-figure4")),
        "searched": lambda: (fixture, plan("growth-pareto", draws=3, deltas=(1.0,))),
    }[figure]()
    by_hand = {
        (record.kind, record.learner): record.data for record in made(wanted, lambda *_: 0.1, lambda _: 1)
    }
    found = [record for record in records(folder) if record.kind in ("trial", "task", "done")]
    assert {(record.kind, record.learner) for record in found} == by_hand.keys() - {("experiment", "")}
    for record in found:
        expected = by_hand[record.kind, record.learner]
        assert expected.keys() <= record.data.keys(), (record.kind, record.learner)
        if record.kind == "done":
            for mine, theirs in zip(
                expected.get("growths", []), record.data.get("growths", []), strict=False
            ):
                assert mine.keys() == theirs.keys()


def test_other_methods_that_were_stopped_go_on_from_their_checkpoint(four, tmp_path):
    folder, _ = four
    wanted = replace(plan("growth-figure4"), setting=replace(TINY, rcl_trials=1))
    unit = Unit(0, "rcl")
    events = running._unit(wanted, unit, tmp_path)
    begin(results_of(tmp_path), wanted.name, wanted.recipe(), "")
    told = [next(events) for _ in range(3)]
    assert [record.kind for record in told] == ["trial", "epoch", "task"]
    events.close()
    rest = list(running._unit(wanted, unit, tmp_path))
    assert [record.kind for record in rest] == ["epoch", "task", "epoch", "task", "done"]
    ours = {key: value for key, value in results(records(folder)).items() if key[1] == "rcl"}
    assert results(records(tmp_path)) == ours


def test_another_figure_in_the_same_folder_takes_what_is_there(whole):
    folder, _ = whole
    there = running.recorded(records(folder))
    left = {unit.kind: running.missing(plan("growth-figure4"), unit, there)
            for unit in plan("growth-figure4").units()}  # fmt: skip
    assert left["independent"] == left["sweep"] == []
    assert left["frozen"] == [Item("frozen")]
    wanted = plan("growth-pareto")
    left = {unit.kind: len(running.missing(wanted, unit, there)) for unit in wanted.units()}
    assert left == {"independent": 0, "sweep": 0, "searched": 2, "as-released": 3, "random": 0}


def test_an_item_that_fails_is_told_and_tried_again_and_others_go_on(whole, tmp_path, monkeypatch):
    folder, _ = whole
    give = Work.give

    def fail(self, item):
        if item.label == "delta 0.5":
            raise DataError("no good")
        return give(self, item)

    with monkeypatch.context() as patched:
        patched.setattr(Work, "give", fail)
        with pytest.raises(
            TrialsFailedError, match=r"1 of 6 item.*\n  - delta 0\.5, seed 0: DataError: no good"
        ):
            list(run(plan(), tmp_path))
    assert Measured(plan(), records(tmp_path)).done() == (5, 6)
    list(run(plan(), tmp_path))
    assert results(records(tmp_path)) == results(records(folder))


def test_a_stream_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("stolon.experiments.growth.work.Work.__init__", _no_data)
    with pytest.raises(TrialsFailedError, match="no data"):
        list(run(plan("growth-figure6"), tmp_path))


def _no_data(self, *given):
    raise DataError("no data")


def test_processes_give_the_same_numbers(whole, tmp_path):
    folder, _ = whole
    events = list(run(plan(workers=2, deltas=(0.5,), draws=1), tmp_path))
    assert events[-1].done == events[-1].of == 3
    found, expected = results(records(tmp_path)), results(records(folder))
    assert found == {key: expected[key] for key in found}


def test_in_processes_independent_networks_of_a_seed_come_first():
    units = [Unit(seed, kind) for seed in (0, 1) for kind in ("independent", "sweep", "random")]
    assert running._ready(units, []) == [Unit(0, "independent"), Unit(1, "independent")]
    assert running._ready(units[1:], [units[0]]) == [Unit(1, "independent")]
    assert running._ready(units[1:], []) == [Unit(0, "sweep"), Unit(0, "random"), Unit(1, "independent")]
