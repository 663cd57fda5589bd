"""``stolon init | learn | classify | tasks | forget``: a person's store."""

import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
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

from stolon.errors import ImageError, TaskExistsError
from stolon.evaluation import evaluate
from stolon.learner import Epoch
from stolon.light.config import LightweightConfig
from stolon.nets.backbone import Backbone, pretrained
from stolon.shell import exit_codes
from stolon.shell.interrupt import gentle_interrupt
from stolon.shell.terminal import console as make_console
from stolon.store import Store, home
from stolon.streams import folders, images
from stolon.tasks import Task


def init(
    *,
    store: str | None,
    backbone: str,
    weights: str | None,
    anchor: Any,  # noqa: ANN401 - a choice the parser has checked
    unknown_quantile: float,
) -> int:
    """Make a store with a frozen backbone."""
    folder, console = _folder(store), make_console()
    # Where there is no network the hub's client complains six times a file; our one line says it all.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    with console.status("loading the backbone" if weights else "downloading the backbone"):
        made = pretrained(backbone, weights)
    with Store.create(
        folder, made, LightweightConfig(anchor=anchor, anchor_settings={"unknown_quantile": unknown_quantile})
    ):
        parameters = sum(p.numel() for p in made.module.parameters())
        console.print(
            f"made a store at {folder}\nbackbone {made.name}, {parameters:,} parameters, "
            f"fingerprint {made.fingerprint[:12]}\nnext: stolon learn FOLDER",
            soft_wrap=True,
        )
    return exit_codes.OK


def learn(*, store: str | None, folders: list[str], seed: int, **settings: Any) -> int:  # noqa: ANN401
    """Learn each folder as one task; a task that is learned already, from the same data, is passed over."""
    console = make_console()
    given = {key: value for key, value in settings.items() if value is not None}
    with Store.open(_folder(store), write=True, **given) as opened:
        for path in folders:
            if not _learn_one(opened, Path(path), seed, console):
                again = shlex.join(["stolon", *sys.argv[1:]])
                console.print(
                    f"saved; the same command goes on where this one stopped:\n  {again}", soft_wrap=True
                )
                return exit_codes.INTERRUPTED
    return exit_codes.OK


def classify(*, store: str | None, images: list[str], task: str | None, json: bool) -> int:
    """Answer for pictures; all of them are read before any answer is given."""
    with Store.open(_folder(store)) as opened:
        learner = opened.learner
        x = _read_images([Path(path) for path in images], input_size(learner.backbone))
        answer = learner.predict(x, task)
    rows: list[dict[str, Any]] = [
        {
            "image": path,
            "task": answer.tasks[i],
            "class": answer.classes[i],
            "confidence": round(float(answer.confidence[i]), 6),
            "known": answer.classes[i] is not None,
        }
        for i, path in enumerate(images)
    ]
    if json:
        _print_json(rows)
        return exit_codes.OK
    table = Table(Column("image", overflow="fold"), "task", "class", "confidence")
    for row in rows:
        known = row["known"]
        confidence = f"{row['confidence']:.0%}" if known else ""
        table.add_row(row["image"], row["task"] or "unknown", row["class"] or "unknown", confidence)
    make_console().print(table)
    return exit_codes.OK


def tasks(*, store: str | None, json: bool) -> int:
    """List what was learned."""
    with Store.open(_folder(store)) as opened:
        learner, size = opened.learner, opened.learner.size()
        rows = [
            {
                "task": name,
                "classes": list(learner.classes(name)),
                **opened.facts.get(name, {}),
                "biases": bool(len(learner.knowledge(name).biases)),
                "parameters": size.per_task[name],
                "bytes": size.bytes_per_task[name],
            }
            for name in learner.tasks
        ]
        unfinished = learner.unfinished
    if json:
        _print_json(rows)
        return exit_codes.OK
    table = Table("task", "classes", "images", "test accuracy", "biases", "kB", "seconds")
    for row in rows:
        accuracy = row.get("test_accuracy")
        table.add_row(
            row["task"],
            str(len(row["classes"])),
            str(row.get("images", "")),
            "" if accuracy is None else f"{accuracy:.1%}",
            "yes" if row["biases"] else "no",
            f"{row['bytes'] / 1000:,.0f}",
            "" if row.get("seconds") is None else str(row["seconds"]),
        )
    console = make_console()
    console.print(table if rows else "nothing learned yet; begin with: stolon learn FOLDER")
    if unfinished is not None:
        console.print(f"unfinished: {unfinished}; `stolon learn` its folder again, or `stolon forget` it")
    return exit_codes.OK


def forget(*, store: str | None, task: str) -> int:
    """Drop a task."""
    with Store.open(_folder(store), write=True) as opened:
        opened.forget(task)
    make_console().print(f"forgot {task}")
    return exit_codes.OK


def input_size(backbone: Backbone) -> int:
    """The size in pixels at which a backbone wants its images decoded."""
    preprocessing = backbone.preprocessing
    return (preprocessing.size if preprocessing is not None else 0) or 224


def _learn_one(store: Store, path: Path, seed: int, console: Console) -> bool:
    """Learn one folder; False where the person asked to stop before the end."""
    begun = time.monotonic()
    with console.status(f"reading {path}"):
        task = folders.read_task(path, size=input_size(store.learner.backbone), seed=seed)
    if _is_learned(store, task):
        console.print(f"{task.name}: learned already, from the same data")
        if task.name not in store.facts:  # killed between learning and judging
            _record(store, task, None, console)
        return True
    with gentle_interrupt(console) as wish, _progress(console) as progress:
        bars: dict[str, Any] = {}
        for epoch in store.learn(task, seed=seed):
            _draw(progress, bars, epoch)
            if wish.made:
                store.save()
                return False
    _record(store, task, round(time.monotonic() - begun, 1), console)
    return not wish.made  # after the last epoch there was none left to look at it


def _is_learned(store: Store, task: Task) -> bool:
    if task.name not in store.learner.tasks:
        return False
    if store.learner.recipe(task.name)["data"] == task.digest():
        return True
    raise TaskExistsError(
        f"task {task.name!r} is known already, from other data or by another seed; rename the folder, or "
        "`stolon forget` it first"
    )


def _record(store: Store, task: Task, seconds: float | None, console: Console) -> None:
    judged = evaluate(store.learner, task)
    score = None if judged is None else judged.accuracy
    store.facts[task.name] = {
        "images": len(task.train) + len(task.val),
        "test_images": len(task.test),
        "test_accuracy": score,
        "seconds": seconds,
    }
    store.save()
    words = "no test images" if score is None else f"{score:.1%} on {len(task.test)} test images"
    took = "" if seconds is None else f" in {seconds} s"
    console.print(f"{task.name}: learned {len(task.classes)} classes{took}; {words}")


def _read_images(paths: list[Path], size: int) -> torch.Tensor:
    decoded, broken = [], []
    for path in paths:
        try:
            decoded.append(images.decode(path, size))
        except ImageError as error:
            broken.append(str(error))
    if broken:
        raise ImageError("; ".join(broken))
    return torch.stack(decoded)


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


def _draw(progress: Progress, bars: dict[str, Any], epoch: Epoch) -> None:
    if epoch.phase not in bars:
        bars[epoch.phase] = progress.add_task(f"{epoch.task}: {epoch.phase}", total=epoch.total, note="")
    note = "" if epoch.val_accuracy is None else f"validation {epoch.val_accuracy:.1%}"
    progress.update(bars[epoch.phase], completed=epoch.number, note=note)


def _print_json(rows: list[dict[str, Any]]) -> None:
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


def _folder(store: str | None) -> Path:
    return home() if store is None else Path(store)
