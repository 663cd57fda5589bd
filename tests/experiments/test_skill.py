import dataclasses
import json

import pytest

from stolon.errors import DataMissingError, SettingError, StolonError, StoreExistsError
from stolon.experiments import skill, skill_population, skill_report
from stolon.experiments.demo import DigitsPretraining
from stolon.experiments.skill import SkillConfig
from stolon.experiments.skill_population import Job, Report, TaskAnswers

TINY = SkillConfig(agents=2, tasks=3, in_process=True, anchors=("gmm",), biases=(False,))


class Untrained(DigitsPretraining):
    """Random features tell these digits apart well enough, and cost nothing."""

    def run(self):
        return iter(())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents and three tasks in this process."""
    folder = tmp_path_factory.mktemp("skill") / "out"
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skill, "DigitsPretraining", Untrained)
        world, found = skill.run(TINY, folder, said.append)
    return folder, world, found, said


def test_every_agent_ends_with_every_task_and_the_same_answers(run):
    _, world, found, _ = run
    assert [(v.equal, v.complete) for v in found] == [(True, True)]
    assert sorted(found[0].tasks) == ["digits-lower", "digits-turned", "digits-upper"]
    assert (world.agents, world.tasks) == (2, 3)


def test_tasks_are_dealt_out_in_turn(run):
    assert {lesson.task: lesson.agent for lesson in run[2][0].lessons} == {
        "digits-lower": 0,
        "digits-upper": 1,
        "digits-turned": 0,
    }


def test_costs_are_those_of_the_definition(run):
    variant = run[2][0]
    costs = variant.costs
    assert costs.single_macs == sum(variant.macs.values())
    assert costs.slowest_macs == variant.macs["digits-lower"] + variant.macs["digits-turned"]
    assert 0 < costs.received_bytes < variant.module_bytes
    assert costs.efficiency == pytest.approx(
        costs.single_macs / (costs.single_macs / 2 + 1000 * costs.received_bytes + costs.student_macs) / 2
    )
    assert costs.student_macs < variant.student_macs_all
    # what was given to the link is at least the modules; small ones, so hints weigh
    assert costs.received_bytes < variant.received < 3 * costs.received_bytes


def test_accuracies_are_what_they_are_called(run):
    variant = run[2][0]
    assert 0.6 < variant.joint <= min(variant.named, variant.mapper) + 1e-9
    assert variant.named <= 1


def test_results_are_on_disk(run):
    folder, _, found, _ = run
    written = json.loads((folder / "skill-figure10.json").read_text())
    assert written["config"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert written["variants"][0]["efficiency"] == found[0].costs.efficiency
    assert written["versions"]["torch"]


def test_people_are_told_how_it_goes(run):
    assert any("agent 1 learned digits-upper" in line for line in run[3])


def test_the_table_and_the_report(run):
    folder, world, found, _ = run
    page = skill_report.publish(TINY, world, found, folder, "stolon reproduce skill-figure10")
    text = page.with_suffix(".md").read_text()
    assert "0.962" in text
    assert "0.996630551" in text
    assert "do not follow it" in text
    assert "bit for bit" in text
    assert page.read_text().count("<svg") + page.read_text().count("data:image/svg+xml") >= 2
    ours, theirs = skill_report.terminal(world, found)
    assert (len(ours.columns), len(theirs.columns)) == (2, 6)
    assert "same answers" in skill_report.verdict(world, found)
    apart = dataclasses.replace(found[0], equal=False)
    assert skill_report.verdict(world, [apart]).startswith("NOT all agents")


def test_an_earlier_run_is_replaced_and_other_folders_are_not(run, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StoreExistsError, match="give another place"):
        skill.run(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    folder = tmp_path / "old"
    (folder / "agents" / "gmm-plain").mkdir(parents=True)
    (folder / "skill-figure10.json").write_text("{}")
    skill._clear(folder)
    assert not (folder / "agents").exists()


# What is refused


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"scale": "huge"}, "scale"),
        ({"agents": 1}, "agents"),
        ({"agents": 3, "tasks": 2}, "tasks"),
        ({"anchors": ("lda",)}, "anchors"),
        ({"anchors": ()}, "anchors"),
        ({"biases": ()}, "biases"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range(given, word):
    with pytest.raises(SettingError, match=word):
        SkillConfig(**given)


def test_more_agents_than_tasks(monkeypatch):
    monkeypatch.setattr(skill, "DigitsPretraining", Untrained)
    with pytest.raises(SettingError, match="agents"):
        skill.make_world(SkillConfig(agents=7), print)


def test_more_than_six_tasks_are_permuted_digits(monkeypatch):
    monkeypatch.setattr(skill, "DigitsPretraining", Untrained)
    world = skill.make_world(SkillConfig(tasks=8), print)
    assert (world.stream, world.options["tasks"]) == ("digits-permuted", 8)


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(DataMissingError, match="--root"):
        skill.make_world(SkillConfig(root=str(tmp_path)), print)


# The population


def test_what_never_comes_is_named(run, monkeypatch, tmp_path):
    _, world, _, _ = run
    monkeypatch.setattr(skill_population, "PATIENCE_S", 0.05)
    job = Job(str(tmp_path), 2, 2, world.stream, None, world.options, 0)
    skill_population.create(job, world.backbone, skill.LightweightConfig(anchor="gmm"))
    member = skill_population.Member(job, 0, world.backbone, link=None)
    with member.agent, pytest.raises(StolonError, match=r"agent 0 has nothing after .* expected 2 tasks"):
        member.wait()


def test_every_agent_trusts_every_other(run, tmp_path):
    _, world, _, _ = run
    job = Job(str(tmp_path), 3, 3, world.stream, None, world.options, 0)
    skill_population.create(job, world.backbone, skill.LightweightConfig(anchor="gmm"))
    trusted = []
    for index in range(3):
        with skill_population.Agent(job.agent_folder(index), world.backbone, write=False) as agent:
            trusted.append(frozenset(author.key for author in agent.trust.authors))
    assert len(set(trusted)) == 1
    assert len(trusted[0]) == 3


def test_a_report_survives_json():
    lesson = skill_population.Lesson("a", 0, 1, 2, 3, {"head": 4}, 5, 6.0)
    report = Report(
        0, (lesson,), {"a": 7}, {"a": "no"}, ("a",), {"a": TaskAnswers(1, 1, 1)}, "d", 1, 2, 3, 4, 5.0
    )
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
