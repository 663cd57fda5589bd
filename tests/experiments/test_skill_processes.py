"""Two agents as real processes over Zenoh on the loopback interface; slow to start, so one run serves all."""

from dataclasses import replace

import pytest

from stolon.errors import TrialsFailedError
from stolon.experiments import skill, skill_population
from stolon.experiments.demo import DigitsPretraining
from stolon.experiments.skill import SkillConfig
from stolon.experiments.skill_population import Job

CONFIG = SkillConfig(agents=2, tasks=2, anchors=("gmm",), biases=(False,))


class Untrained(DigitsPretraining):
    def run(self):
        return iter(())


@pytest.fixture(scope="module")
def world():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skill, "DigitsPretraining", Untrained)
        made = skill.make_world(CONFIG, lambda _: None)
    return replace(made, learning={False: {**made.learning[False], "epochs": 10}})


def test_processes_end_with_the_same_tasks_and_answers_as_one_process(world, tmp_path, monkeypatch):
    monkeypatch.setattr(skill, "make_world", lambda *_: world)
    said = []
    _, [apart] = skill.run(CONFIG, tmp_path / "processes", said.append)
    together_config = SkillConfig(**{**vars(CONFIG), "in_process": True})
    _, [together] = skill.run(together_config, tmp_path / "together")
    assert apart.equal
    assert apart.complete
    assert apart.macs == together.macs
    assert apart.tasks == together.tasks
    assert apart.received >= apart.costs.received_bytes
    assert sum("learned" in line for line in said) == 2


def test_a_process_that_ends_early_is_named_with_its_last_words(world, tmp_path):
    # no store was made for it
    job = Job(str(tmp_path), 1, 1, world.stream, None, world.options, 0)
    with pytest.raises(TrialsFailedError, match=r"agent 0 ended early \(1\): .*StoreMissingError"):
        skill_population.as_processes(job, lambda _: None)
