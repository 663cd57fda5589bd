import functools
import os
import signal

import pytest

from stolon.errors import RecipeChangedError, StoreLockedError
from stolon.experiments.results import Record, Results
from stolon.experiments.units import alone_in, begin, failed, pooled


def results(folder):
    found = Results(folder / "results.jsonl")
    begin(found, "toy", {"epochs": 2}, "a command")
    return found


def do(path, unit):
    """In a worker: unit 3 is killed, all others record themselves."""
    if unit == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    Results(path).append(Record("done", "toy", "l", "s", unit))


def first_alone(waiting, running):
    """Nothing begins beside unit 0."""
    return [] if 0 in running else waiting


def test_a_folder_is_held_by_one(tmp_path):
    with (
        alone_in(tmp_path / "new"),
        pytest.raises(StoreLockedError, match="another process"),
        alone_in(tmp_path / "new"),
    ):
        pass
    with alone_in(tmp_path / "new"):
        pass


def test_an_experiment_is_begun_once_and_another_is_refused(tmp_path):
    found = results(tmp_path)
    before = found.path.read_bytes()
    begin(found, "toy", {"epochs": 2}, "another command")
    with pytest.raises(RecipeChangedError, match="epochs = 2, found 3"):
        begin(found, "toy", {"epochs": 3}, "")
    assert found.path.read_bytes() == before


def test_a_failure_is_written_down_with_its_reason(tmp_path):
    found = results(tmp_path)
    about = Record("trial", "toy", "l", "s", 4, {"some": "data"}, ("where",))
    made = failed(found, about, ValueError("too small"))
    assert found.read()[-1] == made
    assert (made.kind, made.trial, made.where) == ("failed", about.trial, ())
    assert (made.data["error"], made.data["message"]) == ("ValueError", "too small")


def test_units_run_in_processes_and_one_that_is_killed_is_told(tmp_path):
    found, lost = results(tmp_path), {}
    work = functools.partial(do, found.path)
    told = list(pooled([0, 1], work, found, 2, lost.__setitem__, ready=first_alone))
    assert [record.seed for record in told] == [0, 1]
    assert lost == {}
    assert list(pooled([3], work, found, 1, lost.__setitem__)) == []
    assert "was killed" in str(lost[3])
