import inspect
import subprocess
import sys

import pytest

from stolon import streams
from stolon.errors import SettingError, UnknownNameError


def test_importing_the_package_imports_no_heavy_library():
    code = (
        "import sys, stolon.streams; "
        "print([m for m in ('torchvision', 'PIL', 'sklearn', 'numpy.lib.npyio') if m in sys.modules][:0] or "
        "[m for m in ('torchvision', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_stream_is_refused_with_those_that_are_known():
    with pytest.raises(UnknownNameError, match="unknown stream 'minst'; known are: digits-split"):
        streams.make("minst")


@pytest.mark.parametrize("name", streams.names())
def test_every_stream_is_a_documented_function_that_refuses_unknown_options(name, tmp_path):
    function = streams.find(name)
    parameters = inspect.signature(function).parameters
    assert list(parameters)[:2] == ["root", "seed"]
    assert all(f"{key}: " in function.__doc__ for key in parameters)
    with pytest.raises(SettingError, match="unknown option 'colour'"):
        streams.make(name, root=tmp_path, colour="red")


WRONG = {
    "tasks": [0, -1, 1.5, "5", True],
    "classes_per_task": [0, "2"],
    "order": ["random", 3],
    "val_share": [-0.1, 0.95, "x", float("nan"), True],
    "test_share": [-0.1, 0.95],
    "train_per_class": [1, "9"],
    "test_per_class": [0, "9"],
    "squeeze": [1, "yes"],
    "normalize": [1, "yes"],
    "download": ["yes"],
    "first_plain": [0],
    "step_degrees": [400, float("inf"), "x"],
    "classes": [[], [10], [1, 1], "12", [1.0], 3],
    "dataset": ["", "../MNIST", "a/b", ".", 3, "EMNIST"],
    "datasets": [[], "MNIST", ["../x"], ["a", "a"]],
    "only": [[], "x", [2]],
    "size": [0, "x", 10**6],
    "workers": [-1, "x"],
    "in_memory_limit_bytes": [-1, "x"],
    "check_first": ["no"],
    "group": [-1, 5, "x", 1.0, True],
    "samples": ["equal", 1],
    "statistics": ["part", None],
    "variant": ["10x10", 20],
    "data_share": [0, 0.0, 1.1, "x", float("nan")],
    "noise": ["loud", 1],
    "swap_channels": ["no", 1],
    "design": ["x", 0.5],
    "domains": [[], "art", ["Mars"], ["art", "art"], ["Product", "Product"]],
    "seed": ["x", 1.5, None],
    "root": ["", 3],
}
CASES = [
    (name, key, value)
    for name in streams.names()
    for key in inspect.signature(streams.find(name)).parameters
    for value in WRONG[key]
]


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_a_wrong_option_is_refused_before_anything_is_read(name, key, value, tmp_path):
    with pytest.raises(SettingError):
        streams.make(name, **{"root": tmp_path / "nothing", key: value})
