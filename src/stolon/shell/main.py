"""The command ``stolon``: what it takes. Each command imports what it needs when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, OpenUnitInterval, PositiveInt

import stolon
from stolon.errors import StolonError
from stolon.shell import exit_codes

_DEFAULT_BACKBONE = "timm:mobilenetv2_100"

_COMMANDS = {
    "init": "stolon.shell.store_commands",
    "learn": "stolon.shell.store_commands",
    "classify": "stolon.shell.store_commands",
    "tasks": "stolon.shell.store_commands",
    "forget": "stolon.shell.store_commands",
    "run": "stolon.shell.experiment_commands",
    "report": "stolon.shell.experiment_commands",
    "demo": "stolon.shell.demo_command",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code (see :mod:`stolon.shell.exit_codes`)."""
    chosen = parser().parse_args(arguments)
    command = str(chosen.command)
    options: Namespace = chosen[command]
    # One thread unless asked otherwise: on shared cores a second one costs more than it gives, and the
    # number of threads is part of what a result depends on.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        code = getattr(importlib.import_module(_COMMANDS[command]), command)(**vars(options))
        sys.stdout.flush()
    except BrokenPipeError:
        # `stolon tasks | head -1`: the reader has what it wanted. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = exit_codes.OK
    except StolonError as error:
        print(f"stolon {command}: {error}", file=sys.stderr)  # noqa: T201 - the terminal is the shell's output
        code = exit_codes.of(error)
    except KeyboardInterrupt:
        print(f"\nstolon {command}: stopped; nothing that was saved is lost", file=sys.stderr)  # noqa: T201
        code = exit_codes.INTERRUPTED
    sys.exit(code)


def parser() -> ArgumentParser:
    """The parser of all commands."""
    top = ArgumentParser(prog="stolon", description="Teach image tasks one after the other, and ask.")
    top.add_argument("--version", action="version", version=f"stolon {stolon.__version__}")
    commands = top.add_subcommands(dest="command")
    for name, help_, add in (
        ("init", "make a store: the folder where everything learned lives", _init),
        ("learn", "learn folders of images, one task each", _learn),
        ("classify", "say what pictures show, without being told the task", _classify),
        ("tasks", "list what was learned", _tasks),
        ("forget", "drop a task, or one whose learning is unfinished", _forget),
        ("run", "run an experiment: learners x streams x seeds", _run),
        ("report", "draw a results file as HTML and Markdown", _report),
        ("demo", "learn real tasks in a minute and write a report", _demo),
    ):
        sub = ArgumentParser(description=help_[0].upper() + help_[1:] + ".")
        add(sub)
        commands.add_subcommand(name, sub, help=help_)
    return top


def _store(sub: ArgumentParser) -> None:
    sub.add_argument(
        "--store",
        type=str | None,
        default=None,
        help="the store's folder (default: STOLON_HOME, or user data)",
    )


def _init(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument(
        "--backbone",
        type=str,
        default=_DEFAULT_BACKBONE,
        help="timm:NAME, with options as in 'timm:mobilenetv2_100?pad_type=same&size=160'",
    )
    sub.add_argument(
        "--weights", type=str | None, default=None, help="a safetensors file (default: timm downloads them)"
    )
    anchors = ("mahalanobis", "mahalanobis-images", "gmm")
    sub.add_argument("--anchor", choices=anchors, default="mahalanobis", help="how tasks are told apart")
    sub.add_argument(
        "--unknown-quantile",
        type=OpenUnitInterval,
        default=0.99,
        help="share of known inputs that are kept; lower finds more inputs that belong to no task",
    )


def _learn(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="NAME/train|val|test/CLASS/* or NAME/CLASS/*"
    )
    sub.add_argument(
        "--biases",
        type=Literal["none", "all", "pointwise"] | None,
        default=None,
        help="re-tune the backbone for the task, after all layers or pointwise ones (default: as the last time)",
    )
    sub.add_argument("--epochs", type=PositiveInt | None, default=None, help="of the head, at most")
    sub.add_argument("--bias-epochs", type=PositiveInt | None, default=None, help="of the biases")
    sub.add_argument("--seed", type=NonNegativeInt, default=0)


def _classify(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGE")
    sub.add_argument("--task", type=str | None, default=None, help="the task, where you know it")
    sub.add_argument("--json", action="store_true", help="print a list of JSON objects")


def _tasks(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("--json", action="store_true", help="print a list of JSON objects")


def _forget(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("task", metavar="TASK")


def _run(sub: ArgumentParser) -> None:
    sub.add_argument("experiment", metavar="EXPERIMENT", help="a TOML, YAML or JSON file")
    sub.add_argument(
        "--out", type=str | None, default=None, help="the results' folder (default: beside the file)"
    )
    sub.add_argument(
        "--workers", type=NonNegativeInt | None, default=None, help="processes (default: as the file says)"
    )


def _report(sub: ArgumentParser) -> None:
    sub.add_argument("results", metavar="RESULTS", help="the results file")
    sub.add_argument("--out", type=str | None, default=None, help="the report's folder (default: beside it)")


def _demo(sub: ArgumentParser) -> None:
    sub.add_argument("--data", type=str | None, default=None, help="a folder with datasets/ and backbones/")
    sub.add_argument("--out", type=str, default="demo", help="where the report goes")
    sub.add_argument("--seed", type=NonNegativeInt, default=0)


if __name__ == "__main__":
    main()
