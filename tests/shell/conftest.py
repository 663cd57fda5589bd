"""Stores and folders of pictures that the tests of the command share."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tests.shell.making import BACKBONE, FRUIT, SKY, Ended, Warm, divided, single

from stolon import nets
from stolon.shell.main import main

Run = Callable[..., Ended]


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """Run the command in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out, err)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("STOLON_HOME", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, in this process: ``run("tasks", "--json")`` gives its code and what it printed."""
    return lambda *arguments: call(capsys, *arguments)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, two data sets, and stores with nothing, and with one task, learned."""
    root = tmp_path_factory.mktemp("made")
    module = nets.make("digits-conv", input_shape=(3, 16, 16), seed=0)
    save_file(module.state_dict(), root / "weights.safetensors")
    single(root / "fruit", FRUIT)
    divided(root / "sky", SKY)
    for arguments in (
        (
            "init",
            "--store",
            root / "empty",
            "--backbone",
            BACKBONE,
            "--weights",
            root / "weights.safetensors",
        ),
        ("learn", "--store", root / "learned", root / "fruit"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 0
        if not (root / "learned").exists():
            shutil.copytree(root / "empty", root / "learned")
    return root


@pytest.fixture
def empty(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own in which nothing was learned yet; ``STOLON_HOME`` names it."""
    return _copy(made / "empty", tmp_path, monkeypatch)


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one's own in which the task ``fruit`` was learned; ``STOLON_HOME`` names it."""
    return _copy(made / "learned", tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts commands in processes of their own."""
    server = Warm()
    yield server
    server.close()


def _copy(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    shutil.copytree(source, folder)
    monkeypatch.setenv("STOLON_HOME", str(folder))
    return folder
