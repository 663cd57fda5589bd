from dataclasses import replace

import pytest

from stolon.errors import DataError
from stolon.experiments.growth import plans, report, running
from stolon.shell import exit_codes
from stolon.shell.reproduce_commands import TABLES, reproduce


@pytest.fixture
def small(monkeypatch):
    """Options of a run over two tasks, in this process, of a small sweep."""
    found = {name: dict(scales) for name, scales in plans.STREAMS.items()}
    for name in ("digits-split", "digits-permuted"):
        quick = found[name]["quick"]
        found[name]["quick"] = replace(
            quick, net="mlp-6-6", deltas=(0.0, 1.0), draws=1, rcl_trials=1, batch_size=128
        )
    monkeypatch.setattr(plans, "STREAMS", found)
    return ("--tasks", 2, "--epochs", 1, "--seeds", 1, "--workers", 0)


def test_a_figure_on_growth_is_run_told_and_reported(small, run, tmp_path):
    table, count = "growth-pareto", 7
    asked = ("reproduce", table, "--stream", "digits-split", *small, "--out", tmp_path)
    ended = run(*asked)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    assert f"digits-split: {count} runs over 2 tasks" in ended.out
    assert f"({count} of {count})" in ended.out
    assert f"report: {tmp_path / 'report.html'}" in ended.out
    assert plans.SPECS[table].title in (tmp_path / "report.md").read_text()
    assert (tmp_path / f"{table}.json").is_file()
    again = run(*asked)
    assert again.code == exit_codes.OK
    assert f"({count} of {count})" not in again.out  # all was done
    assert "another folder" in run(*asked, "--epochs", 2).err


def test_figures_on_growth_hand_all_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(plans, "plans", lambda wanted: asked.append(wanted) or ())
    monkeypatch.setattr(report, "publish", lambda runs, folder, command: folder / "report.html")
    options = {
        "scale": "half", "stream": ["mnist-permuted"], "root": "data", "seeds": 3, "workers": 4, "tasks": 7,
        "epochs": 5, "draws": 6,
    }  # fmt: skip
    assert reproduce(table="growth-figure2", out=str(tmp_path), **options) == exit_codes.OK
    assert asked == [
        plans.Wanted("growth-figure2", "half", ("mnist-permuted",), "data", 3, 7, 5, draws=6, workers=4)
    ]


def test_a_figure_on_growth_that_is_stopped_names_the_command_that_goes_on(monkeypatch, small, run, tmp_path):
    def stop(plan, folder, *, command):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run", stop)
    ended = run("reproduce", "growth-figure2", "--stream", "digits-split", *small, "--out", tmp_path)
    assert ended.code == exit_codes.INTERRUPTED
    assert "the same command goes on" in ended.out


def test_a_failed_item_is_told_after_the_report(monkeypatch, small, run, tmp_path):
    def fail(self, item):
        raise DataError("no good")

    monkeypatch.setattr("stolon.experiments.growth.work.Work.give", fail)
    ended = run("reproduce", "growth-figure6", "--stream", "digits-permuted", *small, "--out", tmp_path)
    assert ended.code == exit_codes.FAILED
    assert "no good" in ended.err
    assert "report:" in ended.out


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (("--stream", "cifar10-split"), 2, "stream: expected one of cifar100-split"),
        (("--stream", "digits-split", "--tasks", 6), 2, "at most 5, which digits-split has"),
        (("--draws", 0), 2, "--draws"),
        (("--transfer", "hard"), 2, "transfer: of no use to growth-figure2"),
        (("--root", "nowhere"), 3, "take --stream from mnist-permuted"),
    ],
)
def test_wrong_options_of_figures_on_growth_are_refused(run, tmp_path, wrong, code, words):
    ended = run("reproduce", "growth-figure2", *wrong, "--out", tmp_path / "out")
    assert ended.code == code
    assert words in ended.err
    assert not (tmp_path / "out").exists()


def test_a_searchs_folder_is_not_written_over(run, tmp_path):
    (tmp_path / "journal.log").write_text("a search\n")
    ended = run("reproduce", "growth-figure2", "--stream", "digits-split", "--out", tmp_path)
    assert ended.code == 2
    assert "choose another --out" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]


def test_all_figures_on_growth_are_tables():
    assert set(plans.FIGURES) <= set(TABLES)
