"""The command as a whole: help, exit codes, and what its page promises."""

import inspect
import json
import re
import resource
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.shell.making import assert_refused

import stolon
from stolon import errors
from stolon.shell import exit_codes
from stolon.shell.main import parser

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text()
COMMAND = Path(sysconfig.get_path("scripts")) / "stolon"
COMMANDS = (
    *(
        "init",
        "learn",
        "classify",
        "tasks",
        "forget",
        "agent",
        "peers",
        "trust",
        "export",
        "import",
        "inspect",
    ),
    *("run", "reproduce", "search", "report", "demo"),
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.StolonError) and kind is not errors.StolonError
]


def code_of(kind):
    """The exit code of an error, made without what its own __init__ wants."""
    return exit_codes.of(type(kind.__name__, (kind,), {"__init__": lambda self: None})())


def test_help_comes_within_half_a_second():
    """Processor time, best of three: waiting for a busy machine is no failure of ours."""
    took_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert ended.stdout.startswith("usage: stolon")
    assert min(took_s) < 0.5


def test_help_and_refused_arguments_import_no_torch():
    code = (
        "import sys; from stolon.shell.main import main\n"
        "for arguments in (['--help'], ['learn', '--help'], ['learn']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'sklearn', 'rich', 'matplotlib'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    ended = run(command, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"usage: stolon [options] {command}")
    assert command in run("--help").out


def test_the_version_is_the_package_s(run):
    assert run("--version").out == f"stolon {stolon.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("learn",), ("classify",), ("tasks", "--nonsense")])
def test_arguments_that_are_none_are_refused_with_the_way_to_help(run, arguments):
    ended = run(*arguments)
    assert ended.code == 2
    assert "--help" in ended.err
    assert "error: " in ended.err
    assert "Traceback" not in ended.err


def test_the_page_lists_every_command_and_no_other():
    assert set(re.findall(r"^\| `stolon (\w+)", PAGE, re.MULTILINE)) == set(COMMANDS)
    assert set(parser()._subcommands_action.choices) == set(COMMANDS)


def test_options_that_the_page_names_exist(run):
    for command, options in re.findall(r"^\| `stolon (\w+)([^`]*)`", PAGE, re.MULTILINE):
        told = run(command, "--help").out
        for option in re.findall(r"--\w+", options):
            assert option in told


def test_the_page_s_table_of_exit_codes_is_what_the_command_ends_with():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    given = {exit_codes.OK, exit_codes.FAILED, exit_codes.INTERRUPTED}
    given |= set(map(code_of, KINDS))
    assert documented == given


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_the_code_of_its_branch_of_the_tree(kind):
    assert code_of(kind) == code_of(next(k for k in kind.__mro__ if errors.StolonError in k.__bases__))


def test_the_page_s_example_of_json_has_the_keys_of_the_answers(run, store, made):
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    example = json.loads(block)
    rows = json.loads(run("classify", "--json", made / "fruit" / "lime" / "003.png").out)
    assert [list(row) for row in example] == [list(rows[0])] * 2
    assert [row["known"] for row in example] == [row["class"] is not None for row in example]


def test_ctrl_c_anywhere_ends_in_one_line(run, store, monkeypatch):
    from stolon.shell import store_commands

    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_commands, "tasks", interrupted)
    ended = run("tasks")
    assert ended.code == exit_codes.INTERRUPTED
    assert ended.err == "\nstolon tasks: stopped; nothing that was saved is lost\n"


def test_the_installed_command_answers_and_refuses(store, tmp_path):
    """The one test that pays for a whole start; the others call the same function in this process."""
    ended = subprocess.run([COMMAND, "tasks", "--json"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)[0]["task"] == "fruit"


def test_a_refusal_of_a_process_is_one_line(warm, tmp_path):
    assert_refused(warm.run(tmp_path, "tasks", STOLON_HOME=str(tmp_path / "none")), 6, "stolon init")


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    """As in `stolon tasks | head -1`, with a command that prints more than a pipe holds."""
    script = tmp_path / "long.py"
    script.write_text(
        "import sys, types\nfrom stolon.shell import main\n"
        "long = types.ModuleType('long_output')\n"
        "long.tasks = lambda **_: print('x' * 10_000_000) or 0\n"
        "sys.modules['long_output'] = long\n"
        "main._COMMANDS['tasks'] = 'long_output'\n"
        "main.main(['tasks'])\n"
    )
    command = f"{sys.executable} {script} | head -c 1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert ended.stdout == "x"
    assert ended.stderr == ""
