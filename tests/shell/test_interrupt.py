"""Stopping ``stolon learn`` at any moment, and going on."""

import random
import shlex
import shutil
import signal
import time
from io import StringIO

import pytest
from rich.console import Console
from tests.shell.making import FRUIT, knowledge, single

from stolon.shell.interrupt import gentle_interrupt
from stolon.store import Store

KILLS = 5


@pytest.fixture(scope="module")
def slow(made, warm, tmp_path_factory):
    """A folder that takes long enough to be stopped, the arguments, and a store that was not stopped."""
    root = tmp_path_factory.mktemp("slow")
    single(root / "fruit", FRUIT, 16)
    shutil.copytree(made / "empty", root / "whole")
    arguments = ("learn", str(root / "fruit"), "--biases=all", "--bias-epochs=30")
    ended = warm.run(root, *arguments, STOLON_HOME=str(root / "whole"))
    assert ended.code == 0, ended.err
    return arguments, knowledge(root / "whole")


def test_killed_at_random_moments_the_same_command_ends_as_if_never_stopped(warm, slow, empty, tmp_path):
    arguments, whole = slow
    dice = random.Random(0)
    kills = 0
    while kills < KILLS:
        running = warm.start(tmp_path, *arguments, STOLON_HOME=str(empty))
        if running.after_saves(empty):  # it gets further each time
            time.sleep(dice.uniform(0, 0.1))
        running.signal(signal.SIGKILL)
        ended = running.wait()
        if ended.code == 0:  # too fast for us
            break
        assert ended.code == -signal.SIGKILL
        kills += 1
    ended = warm.run(tmp_path, *arguments, STOLON_HOME=str(empty))
    assert ended.code == 0, ended.err
    assert knowledge(empty) == whole
    assert kills >= 2


def test_ctrl_c_saves_and_prints_the_command_that_goes_on(warm, slow, empty, tmp_path):
    arguments, whole = slow
    running = warm.start(tmp_path, *arguments, STOLON_HOME=str(empty))
    assert running.after_saves(empty)
    running.signal(signal.SIGINT)
    ended = running.wait()
    assert ended.code == 130
    assert ended.err == ""
    assert "finishing this epoch" in ended.out
    assert "the same command goes on" in ended.out
    again = shlex.split(ended.out.splitlines()[-1])
    assert again == ["stolon", *arguments]
    assert "unfinished: fruit" in warm.run(tmp_path, "tasks", STOLON_HOME=str(empty)).out
    assert warm.run(tmp_path, *again[1:], STOLON_HOME=str(empty)).code == 0
    assert knowledge(empty) == whole


def test_ctrl_c_at_the_very_end_of_a_task_does_not_begin_the_next(run, empty, made, monkeypatch):
    """The last epoch is over, the task's anchor is still to come: no epoch is left to look at the wish."""
    whole = Store.learn

    def learn(self, task, *, seed=0):
        yield from whole(self, task, seed=seed)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "learn", learn)
        ended = run("learn", made / "fruit", made / "sky")
    assert ended.code == 130
    assert "fruit: learned" in ended.out
    assert "sky" not in ended.out.split("the same command goes on")[0]
    assert run("learn", made / "fruit", made / "sky").code == 0
    assert "sky" in run("tasks").out


def test_the_first_ctrl_c_is_a_wish_and_the_second_stops():
    text = StringIO()
    with gentle_interrupt(Console(file=text)) as wish:
        assert not wish.made
        signal.raise_signal(signal.SIGINT)
        assert wish.made
        assert "Ctrl-C again stops at once" in text.getvalue()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_ctrl_c_is_what_it_was_before():
    before = signal.getsignal(signal.SIGINT)
    with gentle_interrupt(Console(file=StringIO())):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
