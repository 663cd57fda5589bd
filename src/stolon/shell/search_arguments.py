"""The arguments of ``stolon search``; :mod:`stolon.shell.search_command` carries it out."""

from typing import Literal

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, OpenUnitInterval, PositiveFloat, PositiveInt


def add(sub: ArgumentParser) -> None:
    """Add them to the command's parser."""
    sub.add_argument(
        "what",
        nargs="*",
        metavar="EXPERIMENT | pick FOLDER",
        help="an experiment's file with bind-and-grow on one stream; or pick, and the folder of a search",
    )
    for name, kind, help_ in (
        ("--stream", str, "in place of a file: the stream"),
        ("--root", str, "where the data are"),
        ("--net", str, "in place of a file: the network"),
        ("--tasks", PositiveInt, "of the stream (default: all)"),
        ("--epochs", PositiveInt, "of each task"),
        ("--batch-size", PositiveInt, "samples of a step"),
        ("--learning-rate", PositiveFloat, "of what is new"),
        ("--trials", PositiveInt, "in all (default: 20)"),
        ("--sampler", Literal["nsga2", "gp", "random", "grid"], "what chooses (default: nsga2)"),
        ("--population", PositiveInt, "of nsga2 (default: 10)"),
        ("--startup", PositiveInt, "random trials that gp begins with (default: 10)"),
        (
            "--together",
            PositiveInt,
            "trials of a round, which can run side by side (default: by the sampler)",
        ),
        ("--deltas", Literal["shared", "each"], "one delta for all tasks, or one each (default: shared)"),
        ("--step", OpenUnitInterval, "between the deltas that are tried (default: 0.05)"),
        ("--binds", Literal["conflict", "searched"], "what decides bindings (default: conflict)"),
        ("--order", Literal["fixed", "searched"], "of the tasks (default: fixed)"),
        ("--seed", NonNegativeInt, "of the stream, the learning and the choices (default: 0)"),
        ("--workers", NonNegativeInt, "processes; 0: in this one (default: 1)"),
        (
            "--ray",
            str,
            "let a cluster of Ray's do the work (pip install 'stolon[ray]'): its address, auto, or local",
        ),
        ("--cache-gb", PositiveFloat, "gigabytes that work shared by trials may take (default: 4)"),
        ("--out", str, "the search's folder (default: beside the file); pick: where to save the solution"),
        ("--max-parameters", NonNegativeInt, "pick: of the solution"),
        ("--max-bytes", NonNegativeInt, "pick: of the solution"),
    ):
        sub.add_argument(name, type=kind | None, default=None, help=help_)
    sub.add_argument("--json", action="store_true", help="pick: print a JSON object")
