"""The command ``stolon``: what it takes. Each command imports what it needs when it is called."""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from keyword import iskeyword
from typing import Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
)

import stolon
from stolon.errors import StolonError
from stolon.shell import exit_codes, search_arguments

_Density = restricted_number_type("Density", float, [(">", 0), ("<=", 1)])
_DEFAULT_BACKBONE = "timm:mobilenetv2_100"

_COMMANDS = {
    "init": "stolon.shell.store_commands",
    "learn": "stolon.shell.store_commands",
    "classify": "stolon.shell.store_commands",
    "tasks": "stolon.shell.store_commands",
    "forget": "stolon.shell.store_commands",
    "agent": "stolon.shell.agent_command",
    "peers": "stolon.shell.sharing_commands",
    "export": "stolon.shell.sharing_commands",
    "import": "stolon.shell.sharing_commands",
    "inspect": "stolon.shell.sharing_commands",
    "trust": "stolon.shell.trust_commands",
    "run": "stolon.shell.experiment_commands",
    "reproduce": "stolon.shell.reproduce_commands",
    "search": "stolon.shell.search_command",
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
        code = _function(command, options)()
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


def _function(command: str, options: Namespace) -> Callable[[], int]:
    """The function that carries a command out, with its options; ``trust add`` is ``add`` of its module."""
    name = command
    if "command" in options:
        name = options.command
        options = options[name]
    found = getattr(importlib.import_module(_COMMANDS[command]), f"{name}_" if iskeyword(name) else name)
    return functools.partial(found, **vars(options))


def parser() -> ArgumentParser:
    """The parser of all commands."""
    top = ArgumentParser(prog="stolon", description="Teach image tasks one after the other, and ask.")
    top.add_argument("--version", action="version", version=f"stolon {stolon.__version__}")
    commands = top.add_subcommands(dest="command")
    for name, help_, add in (
        ("init", "make a store: the folder where everything learned lives, and the agent's key", _init),
        ("learn", "learn folders of images, one task each", _learn),
        ("classify", "say what pictures show, without being told the task", _classify),
        ("tasks", "list what was learned and received", _tasks),
        ("forget", "drop a task, or one whose learning is unfinished", _forget),
        ("agent", "serve a store: learn, share with other agents, receive, answer", _agent),
        ("peers", "list the agents that were seen", _peers),
        ("trust", "whom this agent takes modules from", _trust),
        ("export", "write a task's module to a file", _export),
        ("import", "take in module files", _import),
        ("inspect", "say what a module file holds", _inspect),
        ("run", "run an experiment: learners x streams x seeds", _run),
        ("reproduce", "make a table of a paper", _reproduce),
        (
            "search",
            "search grow sequences for gain and few parameters, or pick a solution",
            search_arguments.add,
        ),
        ("report", "draw a results file as HTML and Markdown", _report),
        ("demo", "learn real tasks in a minute and write a report", _demo),
    ):
        sub = ArgumentParser(description=help_[0].upper() + help_[1:] + ".")
        commands.add_subcommand(name, sub, help=help_)
        add(sub)  # after: a command's own subcommands come later than itself
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
    _may_take(sub, 0.05)


def _may_take(sub: ArgumentParser, default: float | None) -> None:
    sub.add_argument(
        "--may-take",
        type=ClosedUnitInterval | None if default is None else ClosedUnitInterval,
        default=default,
        metavar="SHARE",
        help="of a known task's inputs, how many others' modules may take before they are held back",
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


def _agent(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument(
        "--listen",
        nargs="*",
        metavar="ENDPOINT",
        type=str,
        default=["tcp/127.0.0.1:0"],
        help="where other agents reach this one, tcp/HOST:PORT or tls/HOST:PORT; port 0 takes a free one",
    )
    sub.add_argument(
        "--connect",
        nargs="*",
        metavar="ENDPOINT",
        type=str,
        default=[],
        help="other agents; they need not be up yet",
    )
    sub.add_argument(
        "--scout", action="store_true", help="find agents on the local network by multicast, too"
    )
    sub.add_argument(
        "--population",
        type=str,
        default="default",
        help="agents of different populations never hear each other",
    )
    sub.add_argument(
        "--tls-authority", type=str | None, default=None, metavar="FILE", help="certificate authority (PEM)"
    )
    sub.add_argument(
        "--tls-certificate",
        type=str | None,
        default=None,
        metavar="FILE",
        help="this agent's certificate (PEM)",
    )
    sub.add_argument("--tls-key", type=str | None, default=None, metavar="FILE", help="its private key (PEM)")
    sub.add_argument(
        "--tls-one-way",
        action="store_true",
        help="let agents in that show no certificate (default: mutual TLS)",
    )
    sub.add_argument(
        "--http",
        type=str | None,
        default=None,
        metavar="HOST:PORT",
        help="serve a page for people, as 127.0.0.1:8080",
    )
    sub.add_argument(
        "--http-anywhere", action="store_true", help="allow --http an address that other machines can reach"
    )
    sub.add_argument(
        "--log", choices=("text", "json"), default="text", help="lines for people or for machines"
    )
    _may_take(sub, None)
    sub.add_argument("--log-level", choices=("debug", "info", "warning"), default="info")


def _peers(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("--json", action="store_true", help="print a list of JSON objects")


def _trust(sub: ArgumentParser) -> None:
    actions = sub.add_subcommands(dest="command")
    show, key, add, revoke = (ArgumentParser() for _ in range(4))
    for one in (show, key, add, revoke):
        _store(one)
    show.add_argument("--json", action="store_true", help="print a JSON object")
    add.add_argument("key", metavar="KEY", help="the other agent's public key, 64 hexadecimal characters")
    add.add_argument("--name", type=str, required=True, help="what to call it here")
    revoke.add_argument("what", metavar="KEY|MODULE", help="a key, or a module's id")
    actions.add_subcommand("show", show, help="list whom this agent takes modules from")
    actions.add_subcommand("key", key, help="print this agent's own key, for others to add")
    actions.add_subcommand("add", add, help="take modules from another agent")
    actions.add_subcommand("revoke", revoke, help="take no more, and use none, of a key; or of one module")


def _export(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("task", metavar="TASK")
    sub.add_argument("--out", type=str | None, default=None, metavar="FILE", help="default: TASK.stolon")
    sub.add_argument(
        "--precision",
        type=Literal["compact", "half", "full"] | None,
        default=None,
        help="pack an own task anew (default: the module as it is shared, which is compact)",
    )


def _import(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("files", nargs="+", metavar="FILE")


def _inspect(sub: ArgumentParser) -> None:
    _store(sub)
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--json", action="store_true", help="print a JSON object")


def _reproduce(sub: ArgumentParser) -> None:
    sub.add_argument(
        "table",
        metavar="TABLE",
        help="growth-figure2, -4, -6, growth-pareto, impress-figure2, -3, -4, -6, -7, -10, impress-table2, "
        "lasem-figure1, -4, -6, lasem-table1, -2, -3, skill-figure10 or skill-scale",
    )
    sub.add_argument("--scale", choices=("quick", "half", "full"), default="quick")
    sub.add_argument(
        "--agents", type=PositiveInt | None, default=None, help="how many (default: by the scale)"
    )
    sub.add_argument(
        "--tasks", type=PositiveInt | None, default=None, help="how many in all (default: by the scale)"
    )
    sub.add_argument("--root", type=str | None, default=None, help="a folder with datasets/ and backbones/")
    sub.add_argument(
        "--out", type=str | None, default=None, help="where results and report go (default: reproduce/TABLE)"
    )
    sub.add_argument("--seed", type=NonNegativeInt, default=0)
    sub.add_argument("--in-process", action="store_true", help="all agents in this process, not one each")
    sub.add_argument(
        "--anchors",
        nargs="+",
        metavar="KIND",
        choices=("gmm", "mahalanobis"),
        default=None,
        help="gmm, mahalanobis (default: both)",
    )
    sub.add_argument(
        "--biases",
        choices=("both", "with", "without"),
        default="both",
        help="variants with beneficial biases",
    )
    _reproduce_lasem(sub)
    _reproduce_impress(sub)
    draws = "growth: random growths of each seed, and trials of the search (default: by the scale)"
    sub.add_argument("--draws", type=PositiveInt | None, default=None, help=draws)


def _reproduce_impress(sub: ArgumentParser) -> None:
    """Options of the figures on impressions."""
    for name, kind, many, help_ in (
        ("--alpha-epochs", PositiveInt, False, "of coefficients (default: --epochs, or by the scale)"),
        ("--sizes", PositiveInt, True, "of the bases (default: by the scale)"),
        ("--densities", _Density, True, "of the masks (default: by the scale)"),
        (
            "--images",
            PositiveInt,
            False,
            "training images of a class, of MNIST and its kin (default: by the scale)",
        ),
        ("--dataset", str, False, "in place of MNIST: a folder in its file form, such as FashionMNIST"),
        ("--among", PositiveInt, False, "figure 3: tasks that inputs are inferred among once more"),
    ):
        if many:
            sub.add_argument(name, nargs="+", type=kind, default=None, help=f"impress: {help_}")
        else:
            sub.add_argument(name, type=kind | None, default=None, help=f"impress: {help_}")


def _reproduce_lasem(sub: ArgumentParser) -> None:
    """Options of the tables on selective layer transfer; names are checked where they are known."""
    for name, word, help_ in (
        (
            "--stream",
            "NAME",
            "cifar100-lasem, cifar10-stl, pacs-office-home, digits-mixed, ... (default: the paper's)",
        ),
        ("--transfer", "MECHANISM", "hard, tensor-factorization, deconvolution (default: the table's)"),
        ("--lasem", "VARIANT", "of LASEM, compared with the first: default, exact, released, ..."),
    ):
        sub.add_argument(
            name, nargs="+", type=str, metavar=word, default=None, help=f"lasem, impress, growth: {help_}"
        )
    for name, kind, help_ in (
        ("--seeds", PositiveInt, "how many (default: 5, at scale quick 2)"),
        ("--workers", NonNegativeInt, "processes (default: one for each core)"),
        ("--epochs", PositiveInt, "for each task (default: by the scale)"),
        ("--learning-rate", PositiveFloat, "at first (default: by the scale)"),
        ("--fixed", str, "figure 6: the configuration whose posterior is fixed (default: top-2)"),
    ):
        sub.add_argument(name, type=kind | None, default=None, help=f"lasem, impress, growth: {help_}")


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
