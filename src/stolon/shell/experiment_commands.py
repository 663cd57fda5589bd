"""``stolon run | report``: experiments from files, and what they gave."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from stolon.experiments import Event
from stolon.experiments import read as read_experiment
from stolon.experiments import run as run_experiment
from stolon.shell import exit_codes
from stolon.shell.terminal import console as make_console


def run(*, experiment: str, out: str | None, workers: int | None) -> int:
    """Run what is not done yet of an experiment; the same command goes on after any stop."""
    path = Path(experiment)
    folder = Path(out) if out is not None else path.with_suffix("")
    console = make_console()
    wanted = read_experiment(path, () if workers is None else (f"--workers={workers}",))
    try:
        show(run_experiment(wanted, folder), console)
    except KeyboardInterrupt:
        again = shlex.join(["stolon", *sys.argv[1:]])
        console.print(f"\nstopped; the same command goes on:\n  {again}", soft_wrap=True)
        return exit_codes.INTERRUPTED
    console.print(f"results: {folder / 'results.jsonl'}", soft_wrap=True)
    console.print(f"next: stolon report {folder / 'results.jsonl'}", soft_wrap=True)
    return exit_codes.OK


def show(events: Iterable[Event], console: Console) -> None:
    """Draw events as they happen: a bar per running trial, a line per task learned."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[tuple[str, str, int], TaskID] = {}
        chosen: dict[tuple[str, str, int], str] = {}
        for event in events:
            record, trial = event.record, event.record.trial
            name = " ".join(map(str, trial))
            if record.kind == "epoch":
                data = record.data
                if trial not in bars:
                    bars[trial] = progress.add_task(name, total=None)
                chosen[trial] = sharing(data.get("notes", {}))
                words = f"{name}: {data['task']}, {data['phase']}{chosen[trial]}"
                progress.update(bars[trial], description=words, completed=data["number"], total=data["total"])
            elif record.kind == "task":
                row = record.data["row"]
                told = f"{name}: learned {record.data['task']}, accuracy {row[-1]:.1%}"
                console.print(f"{told}{chosen.pop(trial, '')}", soft_wrap=True)
            elif record.kind == "failed":
                console.print(f"{name}: failed: {record.data.get('error', '')}")
            if record.kind in ("done", "failed") and trial in bars:
                progress.remove_task(bars.pop(trial))


def sharing(notes: Mapping[str, Any]) -> str:
    """Which layers a task shares at the moment, and how sure that is, where the method says."""
    configuration = notes.get("configuration")
    if configuration is None:
        return ""
    if "posterior" not in notes:
        return f", shares {notes.get('best', configuration)}"  # brute force trains others than the best too
    probability = notes["posterior"].get(configuration, 0.0)
    return (
        f", shares {configuration} ({probability:.0%})"
        if probability >= 0.01
        else f", shares {configuration} (under 1%)"
    )


def report(*, results: str, out: str | None) -> int:
    """Draw a results file."""
    from stolon.experiments import report as drawing

    page, text = drawing.write(results, out)
    make_console().print(f"wrote {page}\nwrote {text}", soft_wrap=True)
    return exit_codes.OK
