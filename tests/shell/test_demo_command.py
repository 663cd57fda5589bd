"""``stolon demo``, made small: two tasks, an epoch. The whole one takes about as long as all tests of the shell."""

import dataclasses
import re
from itertools import islice

import pytest
from tests.shell.making import assert_refused

from stolon.experiments import Results
from stolon.experiments.demo import DigitsPretraining, on_digits
from stolon.experiments.results import Record
from stolon.shell import demo_command


@pytest.fixture
def small(monkeypatch):
    whole = DigitsPretraining.run

    def two_tasks(backbone, seed):
        demo = on_digits(backbone, seed)
        light, finetune = demo.experiment.learners
        finetune = dataclasses.replace(finetune, settings={"epochs": 1})
        stream = dataclasses.replace(demo.experiment.streams[0], tasks=2)
        experiment = dataclasses.replace(demo.experiment, learners=[light, finetune], streams=[stream])
        return dataclasses.replace(
            demo, experiment=experiment, make_stream=lambda spec, seed: demo.make_stream(spec, seed)[:2]
        )

    monkeypatch.setattr(DigitsPretraining, "run", lambda self: islice(whole(self), 1))
    monkeypatch.setattr(demo_command, "on_digits", two_tasks)


def test_a_folder_that_is_no_earlier_demos_is_left_as_it_is(run, small, tmp_path):
    thesis = tmp_path / "demo" / "run" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    ended = run("demo", "--out", tmp_path / "demo")
    assert ended.code == 6
    assert "not an earlier demo's" in ended.err
    assert thesis.read_text() == "years of work"


def test_it_starts_anew_learns_asks_draws_and_ends_by_naming_the_report(run, small, tmp_path):
    out = tmp_path / "demo"
    Results(out / "run" / "results.jsonl").append(Record("experiment", "demo"))
    ended = run("demo", "--out", out)
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.endswith(f"report: {out / 'report.html'}\n")
    assert re.search(r"│ final \[%\]\s+│ +\d+\.\d +│ +\d+\.\d +│", ended.out)
    assert re.search(r"\d+ of 100 images of noise were called unknown", ended.out)
    assert ended.out.count(": learned ") == 4
    page = (out / "report.html").read_text()
    assert "What this is" in page
    assert "Images and answers" in page
    assert page.count('src="data:image/png;base64,') >= 8
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)
    assert "- right: is " in (out / "report.md").read_text()
    assert sum(record.kind == "done" for record in Results(out / "run" / "results.jsonl").read()) == 2


def test_a_folder_without_data_is_refused(run, tmp_path):
    assert_refused(run("demo", "--data", tmp_path, "--out", tmp_path / "demo"), 3, "leave DATA out")
    assert not (tmp_path / "demo").exists()
