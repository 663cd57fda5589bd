"""``stolon init | learn | classify | tasks | forget``: a person's store, whether or not an agent runs on it."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from stolon.places import home
from stolon.shell import exit_codes
from stolon.shell.client import Client, Row, connect
from stolon.shell.interrupt import gentle_interrupt
from stolon.shell.output import print_json
from stolon.shell.terminal import console as make_console

if TYPE_CHECKING:
    from stolon.outcomes import Epoch


def init(
    *,
    store: str | None,
    backbone: str,
    weights: str | None,
    anchor: Any,  # noqa: ANN401 - a choice the parser has checked
    unknown_quantile: float,
    may_take: float,
) -> int:
    """Make a store with a frozen backbone and a key of its own."""
    from stolon.agent import Agent
    from stolon.light.config import LightweightConfig
    from stolon.nets.backbone import pretrained
    from stolon.sharing.gate import GateSettings
    from stolon.sharing.keys import fingerprint

    folder, console = place(store), make_console()
    # Where there is no network the hub's client complains six times a file; our one line says it all.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    with console.status("loading the backbone" if weights else "downloading the backbone"):
        made = pretrained(backbone, weights)
    config = LightweightConfig(anchor=anchor, anchor_settings={"unknown_quantile": unknown_quantile})
    with Agent.create(folder, made, config, GateSettings(taken=may_take)) as agent:
        parameters = sum(p.numel() for p in made.module.parameters())
        console.print(
            f"made a store at {folder}\nbackbone {made.name}, {parameters:,} parameters, "
            f"fingerprint {made.fingerprint[:12]}\nthis agent's key: {agent.key.public} "
            f"({fingerprint(agent.key.public)})\nnext: stolon learn FOLDER",
            soft_wrap=True,
        )
    return exit_codes.OK


def learn(*, store: str | None, folders: list[str], seed: int, **settings: Any) -> int:  # noqa: ANN401
    """Learn each folder as one task; a task that is learned already, from the same data, is passed over."""
    console = make_console()
    given = {key: value for key, value in settings.items() if value is not None}
    with connect(place(store), write=True) as client:
        for path in folders:
            if not _learn_one(client, Path(path), seed, given, console):
                again = shlex.join(["stolon", *sys.argv[1:]])
                console.print(
                    f"saved; the same command goes on where this one stopped:\n  {again}", soft_wrap=True
                )
                return exit_codes.INTERRUPTED
    return exit_codes.OK


def classify(*, store: str | None, images: list[str], task: str | None, json: bool) -> int:
    """Answer for pictures; all of them are read before any answer is given."""
    with connect(place(store), write=False) as client:
        answers = client.classify([Path(path) for path in images], task)
    rows: list[Row] = [{"image": path, **answer} for path, answer in zip(images, answers, strict=True)]
    if json:
        print_json(rows)
        return exit_codes.OK
    table = Table(Column("image", overflow="fold"), "task", "class", "confidence")
    for row in rows:
        confidence = f"{row['confidence']:.0%}" if row["known"] else ""
        table.add_row(row["image"], row["task"] or "unknown", row["class"] or "unknown", confidence)
    make_console().print(table)
    return exit_codes.OK


def tasks(*, store: str | None, json: bool) -> int:
    """List what was learned and received: who taught it, when it came, its size, active or held back and why."""
    with connect(place(store), write=False) as client:
        rows, unfinished = client.tasks()
    if json:
        print_json(rows)
        return exit_codes.OK
    table = Table("task", "taught by", "classes", "test accuracy", "biases", "kB", "came", "active")
    for row in rows:
        accuracy = row["test_accuracy"]
        table.add_row(
            row["task"],
            row["taught_by"],
            str(len(row["classes"])),
            "" if accuracy is None else f"{accuracy:.1%}",
            "yes" if row["biases"] else "no",
            f"{row['bytes'] / 1000:,.0f}",
            row["arrived"][:-3],
            "yes" if row["active"] else f"held back: {row['reason']}",
        )
    console = make_console()
    console.print(table if rows else "nothing learned yet; begin with: stolon learn FOLDER")
    if unfinished is not None:
        console.print(f"unfinished: {unfinished}; `stolon learn` its folder again, or `stolon forget` it")
    return exit_codes.OK


def forget(*, store: str | None, task: str) -> int:
    """Drop a task, or one whose learning is unfinished."""
    with connect(place(store), write=True) as client:
        client.forget(task)
    make_console().print(f"forgot {task}", markup=False)
    return exit_codes.OK


def place(store: str | None) -> Path:
    """The store's folder, as given or as usual."""
    return home() if store is None else Path(store)


def _learn_one(client: Client, path: Path, seed: int, settings: Row, console: Console) -> bool:
    """Learn one folder; False where the person asked to stop before the end."""
    from stolon.outcomes import Epoch

    with gentle_interrupt(console) as wish, _progress(console) as progress:
        bars: dict[str, Any] = {}
        reading = progress.add_task(f"reading {path}", total=None, note="")
        for event in client.learn(path, seed, settings):
            progress.update(reading, visible=False)
            if not isinstance(event, Epoch):
                console.print(event.words, markup=False, highlight=False)
                continue
            _draw(progress, bars, event)
            if wish.made:
                client.save()
                return False
    return not wish.made  # after the last epoch there was none left to look at it


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a log file wants lines, not a bar drawn over itself
    )


def _draw(progress: Progress, bars: dict[str, Any], epoch: "Epoch") -> None:
    if epoch.phase not in bars:
        bars[epoch.phase] = progress.add_task(f"{epoch.task}: {epoch.phase}", total=epoch.total, note="")
    note = "" if epoch.val_accuracy is None else f"validation {epoch.val_accuracy:.1%}"
    progress.update(bars[epoch.phase], completed=epoch.number, note=note)
