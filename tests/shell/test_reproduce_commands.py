from types import SimpleNamespace

import pytest

from stolon.errors import SettingError, UnknownNameError
from stolon.experiments import skill, skill_report, skill_scale
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


def test_tables_register_in_one_place():
    assert set(TABLES) >= {"skill-figure10"}
    assert reproduce_commands.TABLES is TABLES
