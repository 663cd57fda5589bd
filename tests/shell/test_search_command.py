import json
import re

import pytest

from stolon import learners
from stolon.experiments.config import StreamSpec
from stolon.experiments.search import searching
from stolon.experiments.search.plan import SearchPlan
from stolon.growth.search import SearchSettings
from stolon.growth.search_space import SearchSpace
from stolon.shell import exit_codes

TINY = ("search", "--stream", "digits-split", "--tasks", 2, "--net", "mlp-8-8", "--epochs", 1, "--workers", 0)

GRID = (*TINY, "--trials", 3, "--sampler", "grid")
FILE = """
name = "tiny"
[[learners]]
name = "bind-and-grow"
net = "mlp-8-8"
settings = { epochs = 1 }
[[streams]]
name = "digits-split"
tasks = 2
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search, as the command of GRID makes it."""
    folder, space = tmp_path_factory.mktemp("found"), SearchSpace(step=0.5)
    search = SearchSettings(sampler="grid", space=space)
    plan = SearchPlan(StreamSpec("digits-split", tasks=2), "mlp-8-8", {"epochs": 1}, search)
    list(searching.run(plan, folder, trials=3, workers=0))
    return folder


def test_a_search_is_run_told_and_reported(run, tmp_path):
    ended = run(*TINY, "--trials", 2, "--out", tmp_path)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    assert re.search(r"trial 0 \(1 of 2\): gain [+-][\d.]+ points, [\d,]+ parameters", ended.out)
    assert str(tmp_path / "report.html") in ended.out
    assert (tmp_path / "report.html").is_file()


def test_the_same_command_goes_on_and_others_are_refused(run, found):
    again = run(*GRID, "--step", 0.5, "--out", found)
    assert again.code == exit_codes.OK
    assert "trial" not in again.out
    other = run(*GRID, "--step", 0.25, "--out", found)
    assert other.code == 7
    assert "search.space.step = 0.5, found 0.25" in other.err


def test_an_experiments_file_can_say_what_is_searched(run, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(FILE)
    ended = run("search", path, "--trials", 1, "--workers", 0)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    assert (tmp_path / "tiny" / "journal.log").is_file()
    refused = run("search", path, "--epochs", 3)
    assert refused.code == 2
    assert "epochs: the experiment's file says it" in refused.err


def test_ctrl_c_names_the_command_that_goes_on(run, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(searching, "run", stopped)
    ended = run(*TINY, "--out", tmp_path)
    assert ended.code == exit_codes.INTERRUPTED
    assert "the same command goes on" in ended.out


def test_a_solution_is_picked_and_saved(run, found, tmp_path):
    ended = run("search", "pick", found, "--max-parameters", 10**6)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    for word in ("gain [points]", "parameters", "is the first task", "--out LEARNER"):
        assert word in ended.out
    told = json.loads(run("search", "pick", found, "--max-bytes", 10**6, "--json").out)
    assert told["trial"] in range(3)
    assert [step["task"] for step in told["sequence"]] == ["digits-split-0", "digits-split-1"]
    saved = run("search", "pick", found, "--max-parameters", 10**6, "--out", tmp_path / "learner")
    assert saved.code == exit_codes.OK
    learner = learners.make("bind-and-grow", net="mlp-8-8").load(tmp_path / "learner")
    assert learner.tasks == ("digits-split-0", "digits-split-1")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        ((), 2, "--stream and --net"),
        (("--stream", "digits-split"), 2, "--stream and --net"),
        (("--stream", "nothing", "--net", "mlp-8-8"), 2, "unknown stream"),
        (("--stream", "digits-split", "--net", "nothing"), 2, "unknown net"),
        (("--trials", 0), 2, "trials"),
        (("--sampler", "guess"), 2, "sampler"),
        (("--step", 1.5), 2, "step"),
        (("--max-parameters", 3), 2, "max_parameters: of no use to search"),
        (("a.toml", "b.toml"), 2, "one experiment's file"),
        (("nowhere.toml",), 2, "experiment file at nowhere.toml"),
        (("pick",), 2, "stolon search pick FOLDER"),
        (("pick", "a", "b"), 2, "stolon search pick FOLDER"),
        (("pick", "nowhere", "--max-bytes", 3), 6, "right folder"),
        (("pick", "nowhere"), 2, "a budget"),
        (("pick", "nowhere", "--max-bytes", 3, "--seed", 3), 2, "seed: of no use to search pick"),
    ],
)
def test_what_makes_no_sense_is_refused(run, tmp_path, monkeypatch, arguments, code, word):
    monkeypatch.chdir(tmp_path)
    ended = run("search", *arguments)
    assert ended.code == code
    assert word in ended.err
    assert not list(tmp_path.iterdir())


def test_where_no_solution_fits_the_smallest_is_named(run, found):
    ended = run("search", "pick", found, "--max-parameters", 3)
    assert ended.code == 2
    assert re.search(r"the smallest has [\d,]+ parameters", ended.err)
