import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from stolon.errors import DataError, SettingError, UnknownNameError
from stolon.experiments import skill, skill_report, skill_scale
from stolon.experiments.impress import plans as impress_plans
from stolon.experiments.impress import report as impress_report
from stolon.experiments.impress import running as impress_running
from stolon.experiments.lasem import plans
from stolon.experiments.lasem import report as lasem_report
from stolon.experiments.lasem.methods import MECHANISMS, VARIANTS, Wanted
from stolon.experiments.lasem.streams import SCALES, STREAMS
from stolon.shell import exit_codes, reproduce_commands
from stolon.shell.reproduce_commands import TABLES, reproduce


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """What the experiment was asked for, in place of running it."""
    asked = SimpleNamespace(config=None, folder=None, equal=True)

    def run(config, folder, say):
        asked.config, asked.folder = config, folder
        say("working")
        return "a world", [SimpleNamespace(equal=asked.equal, complete=True)]

    monkeypatch.setattr(skill, "run", run)
    monkeypatch.setattr(skill_report, "terminal", lambda *_: ["a table"])
    monkeypatch.setattr(skill_report, "verdict", lambda *_: "a verdict")
    monkeypatch.setattr(skill_report, "publish", lambda *given: given[3] / "report.html")
    return asked


def test_skill_figure10_is_run_as_asked_and_its_report_named(ran, tmp_path, capsys):
    code = reproduce(
        table="skill-figure10",
        scale="half",
        agents=3,
        tasks=5,
        root="data",
        out=str(tmp_path / "out"),
        seed=7,
        in_process=True,
        anchors=("gmm",),
        biases="without",
    )
    assert code == exit_codes.OK
    config = ran.config
    assert (config.scale, config.agents, config.tasks, config.root) == ("half", 3, 5, "data")
    assert (config.seed, config.in_process, config.anchors, config.biases) == (7, True, ("gmm",), (False,))
    told = capsys.readouterr().out
    for word in ("working", "a table", "a verdict", "report.html"):
        assert word in told


def test_by_default_all_four_variants_as_processes(ran):
    assert reproduce(table="skill-figure10") == exit_codes.OK
    assert ran.config == skill.SkillConfig()
    assert str(ran.folder).endswith("skill-figure10")


def test_the_command_line_chooses_variants(ran, run, tmp_path):
    options = ("--in-process", "--out", tmp_path, "--anchors", "mahalanobis", "gmm", "--biases", "with")
    assert run("reproduce", "skill-figure10", *options).code == exit_codes.OK
    assert (ran.config.anchors, ran.config.biases) == (("mahalanobis", "gmm"), (True,))
    assert run("reproduce", "skill-figure10", "--out", tmp_path).code == exit_codes.OK
    assert ran.config == skill.SkillConfig()
    for wrong in (("--anchors", "trees"), ("--anchors",), ("--biases", "some")):
        assert run("reproduce", "skill-figure10", *wrong).code == 2


@pytest.mark.parametrize(
    "option",
    [{"anchors": ["gmm"]}, {"biases": "with"}, {"agents": 3}, {"root": "data"}, {"in_process": True}],
)
def test_an_option_of_no_use_to_a_table_is_refused(option):
    with pytest.raises(SettingError, match="of no use to skill-scale"):
        reproduce(table="skill-scale", **option)


def test_agents_that_end_apart_are_a_failure(ran):
    ran.equal = False
    assert reproduce(table="skill-figure10") == exit_codes.FAILED


def test_tables_that_are_not_there_are_named():
    with pytest.raises(UnknownNameError, match="skill-figure10"):
        reproduce(table="figure 99")
    with pytest.raises(SettingError, match="biases"):
        reproduce(table="skill-figure10", biases="some")


def test_skill_scale_grows_as_far_as_asked(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(skill_scale, "DIMENSIONS", 24)
    assert reproduce(table="skill-scale", tasks=10, out=str(tmp_path)) == exit_codes.OK
    told = capsys.readouterr().out
    assert "10 tasks, spread" in told
    assert "100 tasks" not in told
    assert "two levels" in (tmp_path / "report.md").read_text()
    with pytest.raises(SettingError, match="scale"):
        reproduce(table="skill-scale", scale="huge", out=str(tmp_path))


TINY = ("--stream", "digits-mixed", "--tasks", 1, "--epochs", 1, "--seeds", 1, "--workers", 0)


def test_a_table_on_selective_transfer_is_run_told_and_reported(run, tmp_path):
    asked = ("reproduce", "lasem-table1", *TINY, "--transfer", "tensor-factorization", "--out", tmp_path)
    ended = run(*asked, "--lasem", "default", "exact")
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    assert "digits-mixed: 2 methods, 2 trials" in ended.out
    assert re.search(
        r"LASEM TF digits-mixed 0: learned digits-lower, accuracy .*, shares [01]{3} \(\d+%\)", ended.out
    )
    assert "LASEM exact TF" in ended.out
    assert "ProgNN" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "lasem-table1.json").is_file()
    again = run(*asked, "--lasem", "default", "exact")
    assert again.code == exit_codes.OK
    assert "learned" not in again.out  # all trials were done
    assert "another folder" in run(*asked).err


def test_tables_on_selective_transfer_hand_all_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(plans, "plans", lambda wanted: asked.append(wanted) or ())
    monkeypatch.setattr(lasem_report, "publish", lambda runs, folder, command: folder / "report.html")
    options = {
        "scale": "half", "stream": ["cifar10-stl", "digits-mixed"], "root": "data", "seeds": 3, "workers": 4,
        "transfer": ["deconvolution"], "lasem": ["exact"], "tasks": 7, "epochs": 5, "learning_rate": 0.1, "fixed": "2",
    }  # fmt: skip
    assert reproduce(table="lasem-figure6", out=str(tmp_path), **options) == exit_codes.OK
    assert asked == [
        Wanted(
            "lasem-figure6", "half", ("cifar10-stl", "digits-mixed"), "data", 3, ("deconvolution",), ("exact",),
            tasks=7, epochs=5, learning_rate=0.1, fixed="2", workers=4,
        )
    ]  # fmt: skip


def test_a_failed_trial_is_told_after_the_report(monkeypatch, run, tmp_path):
    from stolon.transfer.static import Static

    def fail(self, task, seed):
        raise DataError("no good")

    monkeypatch.setattr(Static, "_learn", fail)
    ended = run("reproduce", "lasem-figure1", *TINY, "--transfer", "hard", "--out", tmp_path)
    assert ended.code == exit_codes.FAILED
    assert "no good" in ended.err
    assert "report:" in ended.out


@pytest.mark.parametrize(
    "table", ["lasem-figure1", "lasem-figure4", "lasem-figure6", "lasem-table2", "lasem-table3"]
)
def test_every_other_table_on_selective_transfer_too(run, tmp_path, table):
    ended = run("reproduce", table, *TINY, "--transfer", "hard", "--out", tmp_path)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    (made,) = json.loads((tmp_path / f"{table}.json").read_text())["runs"].values()
    assert made["tables"][0]["rows"]
    assert (tmp_path / "report.html").is_file()


def test_data_that_are_missing_are_told_before_anything_runs(run, tmp_path):
    ended = run("reproduce", "lasem-figure4", "--root", tmp_path, "--out", tmp_path / "out")
    assert ended.code == 3
    assert "take --stream from" in ended.err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_names_the_command_that_goes_on(monkeypatch, run, tmp_path):
    def stop(events, console):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce_commands, "show", stop)
    ended = run("reproduce", "lasem-table3", *TINY, "--out", tmp_path)
    assert ended.code == exit_codes.INTERRUPTED
    assert "the same command goes on" in ended.out


@pytest.fixture
def small(monkeypatch):
    """Figures on impressions with bases of one and two masks, on digits, in this process."""
    found = {name: dict(scales) for name, scales in impress_plans.STREAMS.items()}
    for name in ("digits-rotated", "digits-permuted"):
        quick = found[name]["quick"]
        found[name]["quick"] = replace(quick, net="mlp-8", sizes=(1, 2), different=2, orders=1, samples=16)
    monkeypatch.setattr(impress_plans, "STREAMS", found)
    return ("--tasks", 2, "--epochs", 1, "--seeds", 1, "--workers", 0)


@pytest.mark.parametrize("table", impress_plans.FIGURES)
def test_a_figure_on_impressions_is_run_told_and_reported(small, run, tmp_path, table):
    asked = ("reproduce", table, "--stream", "digits-rotated", *small, "--out", tmp_path)
    ended = run(*asked)
    assert (ended.code, ended.err) == (exit_codes.OK, "")
    spec = impress_plans.SPECS[table]
    assert f"digits-rotated: {len(spec.kinds)} units of work" in ended.out
    assert re.search(r"digits-rotated 0, [a-z]+ 0.1: 2 masks, .*: \d+\.\d%", ended.out)
    assert f"report: {tmp_path / 'report.html'}" in ended.out
    assert spec.title in (tmp_path / "report.md").read_text()
    assert (tmp_path / f"{table}.json").is_file()
    again = run(*asked)
    assert again.code == exit_codes.OK
    assert "digits-rotated 0" not in again.out  # all was done
    assert "another folder" in run(*asked, "--epochs", 2).err


def test_figures_on_impressions_run_on_several_streams(small, run, tmp_path):
    streams = ("--stream", "digits-rotated", "digits-permuted")
    assert run("reproduce", "impress-figure6", *streams, *small, "--out", tmp_path).code == exit_codes.OK
    text = (tmp_path / "report.md").read_text()
    assert "## digits-rotated" in text
    assert "## digits-permuted" in text


def test_figures_on_impressions_hand_all_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(impress_plans, "plans", lambda wanted: asked.append(wanted) or ())
    monkeypatch.setattr(impress_report, "publish", lambda runs, folder, command: folder / "report.html")
    options = {
        "scale": "half", "stream": ["mnist-permuted"], "root": "data", "seeds": 3, "workers": 4, "tasks": 7,
        "epochs": 5,
    }  # fmt: skip
    assert reproduce(table="impress-figure7", out=str(tmp_path), **options) == exit_codes.OK
    assert asked == [
        impress_plans.Wanted(
            "impress-figure7", "half", ("mnist-permuted",), "data", seeds=3, tasks=7, epochs=5, workers=4
        )
    ]


def test_a_figure_on_impressions_that_is_stopped_names_the_command_that_goes_on(
    monkeypatch, small, run, tmp_path
):
    def stop(plan, folder, *, command):
        raise KeyboardInterrupt

    monkeypatch.setattr(impress_running, "run", stop)
    ended = run("reproduce", "impress-figure2", "--stream", "digits-rotated", *small, "--out", tmp_path)
    assert ended.code == exit_codes.INTERRUPTED
    assert "the same command goes on" in ended.out


def test_a_failed_unit_is_told_after_the_report(monkeypatch, small, run, tmp_path):
    def fail(self, item):
        raise DataError("no good")

    monkeypatch.setattr("stolon.experiments.impress.work.Work.give", fail)
    ended = run("reproduce", "impress-figure3", "--stream", "digits-permuted", *small, "--out", tmp_path)
    assert ended.code == exit_codes.FAILED
    assert "no good" in ended.err
    assert "report:" in ended.out


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (("--stream", "cifar10-split"), 2, "stream: expected one of mnist-rotated"),
        (("--stream", "digits-rotated", "--tasks", 69), 2, "at most 68 new ones"),
        (("--transfer", "hard"), 2, "transfer: of no use to impress-figure2"),
        (("--seed", 1), 2, "seed: of no use to impress-figure2"),
        (("--root", "nowhere"), 3, "take --stream from mnist-permuted"),
    ],
)
def test_wrong_options_of_figures_on_impressions_are_refused(run, tmp_path, wrong, code, words):
    ended = run("reproduce", "impress-figure2", *wrong, "--out", tmp_path / "out")
    assert ended.code == code
    assert words in ended.err
    assert not (tmp_path / "out").exists()


def test_storage_needs_no_run(run, tmp_path):
    ended = run("reproduce", "impress-table2", "--out", tmp_path)
    assert ended.code == exit_codes.OK
    assert "PermutedMNIST" in ended.out
    assert "Table 2: storage" in (tmp_path / "report.md").read_text()
    assert "scale: of no use" in run("reproduce", "impress-table2", "--scale", "full").err
    assert "tasks: of no use" in run("reproduce", "impress-table2", "--tasks", 3).err


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("lasem-table3", {"seed": 1}),
        ("lasem-table3", {"fixed": "top-1"}),
        ("lasem-figure1", {"lasem": ["exact"]}),
        ("lasem-table1", {"agents": 3}),
        ("skill-figure10", {"seeds": 2}),
        ("skill-scale", {"stream": ["digits-mixed"]}),
    ],
)
def test_options_of_other_tables_are_refused(table, option):
    with pytest.raises(SettingError, match=f"{next(iter(option))}: of no use to {table}"):
        reproduce(table=table, **option)


def test_the_documentation_names_every_table_option_variant_and_stream():
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    section = text.partition("## Tables of papers")[2].partition("\n## ")[0]
    for table, (_, uses) in TABLES.items():
        (line,) = [line for line in section.splitlines() if line.startswith(f"| `{table}`")]
        told = section if table.startswith(("lasem", "impress")) else line
        for option in uses:
            assert f"`--{option.replace('_', '-')}" in told
    for name in (*VARIANTS, *STREAMS, *MECHANISMS, *SCALES):
        assert f"`{name}`" in section


def test_tables_register_in_one_place():
    assert set(TABLES) >= {"skill-figure10"}
    assert reproduce_commands.TABLES is TABLES
