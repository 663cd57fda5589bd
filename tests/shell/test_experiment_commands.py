"""``stolon run | report`` as a person meets them."""

import re
from itertools import islice

import pytest
from tests.shell.making import assert_refused

from stolon.experiments import Results
from stolon.shell import experiment_commands

TINY = """
name = "tiny"
seeds = [0, 1]
evaluate_every = 0
workers = 0

[[learners]]
name = "finetune"
net = "mlp-16"
settings = {epochs = 1}

[[streams]]
name = "digits-split"
tasks = 2
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a whole run."""
    path = tmp_path_factory.mktemp("finished") / "tiny.toml"
    path.write_text(TINY)
    assert experiment_commands.run(experiment=str(path), out=None, workers=None) == 0
    return path.with_suffix("") / "results.jsonl"


def numbers(results):
    return {
        record.key: {key: value for key, value in record.data.items() if "seconds" not in key}
        for record in Results(results).read()
        if record.kind != "experiment"
    }


def test_a_run_tells_what_was_learned_and_what_comes_next(run, tiny, finished):
    ended = run("run", tiny)
    assert ended.code == 0
    assert ended.err == ""
    assert len(re.findall(r"finetune digits-split [01]: learned digits-split-[01], accuracy", ended.out)) == 4
    results = tiny.with_suffix("") / "results.jsonl"
    assert ended.out.endswith(f"results: {results}\nnext: stolon report {results}\n")
    assert numbers(results) == numbers(finished)


def test_run_again_it_does_nothing_again(run, tiny):
    run("run", tiny)
    results = tiny.with_suffix("") / "results.jsonl"
    before = results.read_bytes()
    ended = run("run", tiny)
    assert ended.code == 0
    assert "learned" not in ended.out
    assert results.read_bytes() == before


def test_stopped_by_ctrl_c_the_same_command_goes_on_to_the_same_numbers(run, tiny, finished, monkeypatch):
    def stopped(events, console):
        list(islice(events, 4))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiment_commands, "show", stopped)
        patch.setattr("sys.argv", ["stolon", "run", str(tiny)])
        ended = run("run", tiny)
    assert ended.code == 130
    assert f"stolon run {tiny}" in ended.out
    assert run("run", tiny).code == 0
    assert numbers(tiny.with_suffix("") / "results.jsonl") == numbers(finished)


def test_results_go_where_they_are_told_to(run, tiny, tmp_path):
    assert run("run", tiny, "--out", tmp_path / "there", "--workers", 0).code == 0
    assert (tmp_path / "there" / "results.jsonl").is_file()
    assert not tiny.with_suffix("").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "tiny"', 'name = "tiny"\nepochz = 3'), "epochz"),
        (("settings = {epochs = 1}", "settings = {epochz = 1}"), "epochz"),
        (("settings = {epochs = 1}", "settings = {epochs = 0}"), "epochs"),
        (('name = "finetune"', 'name = "fine-tune"'), "finetune"),
        (('name = "digits-split"', 'name = "digits"'), "digits-split"),
        (("tasks = 2", "tasks = 0"), "tasks"),
        (("tasks = 2", "options = {classez = 2}"), "classez"),
        (("seeds = [0, 1]", "seeds = [0, 0]"), "seeds"),
        (("seeds", "= seeds"), "tiny.toml"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused_by_name(run, tiny, change, words):
    tiny.write_text(TINY.replace(*change))
    assert_refused(run("run", tiny), 2, words)
    assert not tiny.with_suffix("").exists()


def test_a_missing_file_is_refused(run, tmp_path):
    assert_refused(run("run", tmp_path / "none.toml"), 2, "none.toml")
    assert_refused(run("report", tmp_path / "none.jsonl"), 6, "none.jsonl")


def test_another_experiment_in_the_same_folder_is_refused_naming_the_difference(run, tiny):
    run("run", tiny)
    tiny.write_text(TINY.replace("[0, 1]", "[0]"))
    assert_refused(run("run", tiny), 7, "seeds")


def test_trials_that_fail_are_told_and_the_others_are_done(run, tiny, tmp_path):
    tiny.write_text(TINY + f'\n[[streams]]\nname = "folders"\nroot = "{tmp_path / "nowhere"}"\n')
    ended = run("run", tiny)
    assert ended.code == 1
    assert "2 of 4 trial(s) failed" in ended.err
    assert "DataMissingError" in ended.err
    assert "Traceback" not in ended.err
    assert "finetune folders 0: failed: DataMissingError" in ended.out
    assert sum(r.kind == "done" for r in Results(tiny.with_suffix("") / "results.jsonl").read()) == 2


def test_a_report_is_one_page_that_loads_nothing_from_elsewhere(run, finished, tmp_path):
    ended = run("report", finished, "--out", tmp_path)
    assert ended.code == 0
    assert ended.out == f"wrote {tmp_path / 'report.html'}\nwrote {tmp_path / 'report.md'}\n"
    page = (tmp_path / "report.html").read_text()
    references = re.findall(r"""(?:src|href|data|action)\s*=\s*["']?([^"'\s>]*)""", page)
    assert references
    assert {reference.split(",")[0].split(";")[0].split(":")[0][:1] for reference in references} <= {"#", "d"}
    assert all(reference.startswith(("#", "data:image/")) for reference in references)
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(", page)
    assert "finetune" in page
    text = (tmp_path / "report.md").read_text()
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / picture).is_file()


def test_a_report_lies_beside_its_results_unless_told_otherwise(run, tiny):
    run("run", tiny)
    results = tiny.with_suffix("") / "results.jsonl"
    assert run("report", results).code == 0
    assert (results.parent / "report.html").is_file()


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({}, ""),
        ({"configuration": "0101"}, ", shares 0101"),
        ({"configuration": "0101", "posterior": {"0101": 0.934, "1111": 0.066}}, ", shares 0101 (93%)"),
        ({"configuration": "0101", "posterior": {"1111": 1.0}}, ", shares 0101 (under 1%)"),
    ],
)
def test_what_a_task_shares_is_told_while_it_is_learned(notes, words):
    assert experiment_commands.sharing(notes) == words
