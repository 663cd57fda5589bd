import json
import subprocess
import sys

import pytest

from stolon.errors import SettingError, UnknownNameError
from stolon.experiments import Experiment, LearnerSpec, StreamSpec, check, read

TOML = """
name = "toy"
seeds = [0, 1]
[[learners]]
name = "finetune"
net = "mlp-8"
[learners.settings]
learning_rate = 1e-3
[[streams]]
name = "digits-split"
tasks = 2
options = {classes_per_task = 2}
"""


@pytest.fixture
def file(tmp_path):
    def write(text, suffix=".toml"):
        path = tmp_path / f"experiment{suffix}"
        path.write_text(text)
        return path

    return write


def test_toml_yaml_and_json_say_the_same(file):
    toml = read(file(TOML))
    assert toml.learners == [LearnerSpec("finetune", "mlp-8", settings={"learning_rate": 0.001})]
    assert toml.streams == [StreamSpec("digits-split", options={"classes_per_task": 2}, tasks=2)]
    assert read(file(json.dumps(toml.to_json()), ".json")) == toml
    yaml = """
name: toy
seeds: [0, 1]
learners: [{name: finetune, net: mlp-8, settings: {learning_rate: 1e-3}}]
streams: [{name: digits-split, tasks: 2, options: {classes_per_task: 2}}]
"""
    assert read(file(yaml, ".yaml")) == toml


def test_flags_override_the_file(file):
    found = read(file(TOML), ["--workers=3", "--seeds=[5]"])
    assert (found.workers, found.seeds) == (3, [5])


def test_labels_are_names_unless_given(file):
    found = read(file(TOML))
    assert (found.learners[0].label, found.streams[0].label) == ("finetune", "digits-split")
    assert LearnerSpec("a", "x", label="b").label == "b"


@pytest.mark.parametrize(
    ("text", "flags", "named"),
    [
        ("wokers = 3\n" + TOML, [], "wokers"),
        (TOML + "bogus = 3\n", [], "bogus"),
        (TOML.replace("tasks = 2", "tasks = 0"), [], "tasks: expected at least 1"),
        (TOML.replace("tasks = 2", "tasks = 'two'"), [], "tasks"),
        (TOML.replace("[0, 1]", "[0, 'x']"), [], "seeds"),
        (TOML.replace("[0, 1]", "[]"), [], "seeds: expected at least one"),
        (TOML.replace("[0, 1]", "[1, 1]"), [], "seeds: expected different"),
        (TOML.replace("[0, 1]", "[-1]"), [], "seeds: expected at least 0"),
        ("threads = 0\n" + TOML, [], "threads: expected at least 1"),
        ("evaluate_batch = 0\n" + TOML, [], "evaluate_batch"),
        ("checkpoint_every_s = -1\n" + TOML, [], "checkpoint_every_s"),
        ("evaluate_every = -1\n" + TOML, [], "evaluate_every"),
        (TOML, ["--workers=-1"], "workers"),
        (TOML, ["--workers=many"], "workers"),
        (TOML, ["--bogus=1"], "bogus"),
        ("name = 'only'\n", [], "learners"),
        (TOML.replace('"toy"', '" "'), [], "experiment's name"),
        (TOML + '[[streams]]\nname = "digits-split"\n', [], "give each its own label"),
        (TOML + "[", [], "experiment.toml"),
        ("\0", [], "experiment.toml"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(file, text, flags, named):
    with pytest.raises(SettingError, match=named):
        read(file(text), flags)


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(SettingError, match="expected an experiment file"):
        read(tmp_path / "none.toml")


def valid(**changes):
    learner = {"name": "finetune", "net": "mlp-8", "settings": {"epochs": 1}}
    stream = {"name": "digits-split"}
    learner |= changes.get("learner", {})
    stream |= changes.get("stream", {})
    return Experiment("e", [LearnerSpec(**learner)], [StreamSpec(**stream)])


def test_what_exists_passes():
    check(valid())


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"learner": {"name": "magic"}}, UnknownNameError, "magic"),
        ({"stream": {"name": "magic"}}, UnknownNameError, "magic"),
        ({"learner": {"settings": {"epoch": 1}}}, SettingError, "'epoch'"),
        ({"learner": {"settings": {"epochs": 0}}}, SettingError, "epochs: expected at least 1"),
        ({"learner": {"settings": {"epochs": "ten"}}}, SettingError, "epochs"),
        ({"learner": {"settings": {"optimizer": "magic"}}}, SettingError, "optimizer"),
        ({"stream": {"options": {"magic": 1}}}, SettingError, "'magic'"),
        ({"stream": {"options": {"seed": 1}}}, SettingError, "'seed'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(changes, error, named):
    with pytest.raises(error, match=named):
        check(valid(**changes))


def test_importing_experiments_imports_nothing_heavy():
    code = (
        "import sys, stolon.experiments; "
        "assert not {'torch', 'matplotlib', 'jinja2', 'joblib', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
