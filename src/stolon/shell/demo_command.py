"""``stolon demo``: real tasks one after the other, questions without the task's name, a report."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from markupsafe import Markup
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stolon.errors import StoreExistsError
from stolon.experiments import LearnerSpec, Results, report
from stolon.experiments import run as run_experiment
from stolon.experiments.demo import (
    Demo,
    DigitsPretraining,
    Example,
    apart,
    examples,
    noise,
    on_digits,
    on_folders,
)
from stolon.learner import Learner
from stolon.shell import demo_population, exit_codes
from stolon.shell.demo_population import Outcome
from stolon.shell.experiment_commands import show
from stolon.shell.terminal import console as make_console
from stolon.streams import folders

NOISE_IMAGES = 100
AGENTS_SETS = 6
"""Image folders that the three agents learn, where DATA is given: the smallest ones."""


def demo(*, data: str | None, out: str, seed: int) -> int:
    """Run the demo; ends by naming the report."""
    torch.set_num_threads(1)
    console = make_console()
    begun = time.monotonic()
    chosen = _on_digits(seed, console) if data is None else on_folders(Path(data), seed)
    for note in chosen.notes:
        console.print(f"- {note}")
    folder = Path(out)
    _clear(folder / "run")
    made: dict[str, Learner] = {}

    def make_learner(spec: LearnerSpec) -> Learner:
        made[spec.name] = chosen.make_learner(spec)
        return made[spec.name]

    show(
        run_experiment(
            chosen.experiment, folder / "run", make_learner=make_learner, make_stream=chosen.make_stream
        ),
        console,
    )
    taught_s = time.monotonic() - begun
    shared = _share(chosen, data, folder, seed, console)
    page = _report(chosen, made["lightweight"], shared, folder, seed, console)
    shared_s = time.monotonic() - begun - taught_s
    console.print(f"learning and asking took {taught_s:.0f} s, the three agents {shared_s:.0f} s")
    console.print(f"report: {page}", soft_wrap=True)
    return exit_codes.OK


def _share(chosen: Demo, data: str | None, folder: Path, seed: int, console: Console) -> Outcome:
    """Three agents as processes: on the demo's digits written as pictures, or on the smallest of the given folders."""
    if data is None:
        pictures = demo_population.as_folders(apart(seed), folder / "pictures")
    else:
        sizes = folders.sets(Path(data) / "datasets")
        pictures = sorted(sizes, key=lambda path: (sizes[path], path.name))[:AGENTS_SETS]
    outcome = demo_population.run(chosen.backbone, pictures, folder / "agents", seed, console)
    teacher = {task: name for name, tasks in outcome.taught.items() for task in tasks}
    table = Table("task", "taught by", *(f"{name} [%]" for name in outcome.accuracy))
    for task in sorted(teacher):
        shares = (f"{100 * accuracy[task]:.1f}" for accuracy in outcome.accuracy.values())
        table.add_row(task, teacher[task], *shares)
    console.print(table)
    same = "the same answers" if outcome.are_equal else "DIFFERENT answers"
    console.print(
        f"{outcome.equal_s:.1f} s after the last one had learned, all three answered for all {len(teacher)} tasks, "
        f"with {same}; they sent {outcome.sent / 1000:.0f} kB"
    )
    return outcome


def _clear(folder: Path) -> None:
    """Remove an earlier demo's run: the demo starts anew each time. Nobody else's folder is touched."""
    if not folder.exists():
        return
    results = folder / "results.jsonl"
    records = Results(results).read() if results.is_file() else ()
    if not records or records[0].experiment != "demo":
        raise StoreExistsError(
            f"{folder} is not an earlier demo's; give the demo another place (--out FOLDER)"
        )
    shutil.rmtree(folder)


def _on_digits(seed: int, console: Console) -> Demo:
    pretraining = DigitsPretraining(seed)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training the frozen backbone on digits 0 to 3", total=None)
        for epoch in pretraining.run():
            progress.update(bar, total=epoch.total, completed=epoch.number)
    return on_digits(pretraining.backbone, seed)


def _report(  # noqa: PLR0917 - everything that is shown
    chosen: Demo, learner: Learner, shared: Outcome, folder: Path, seed: int, console: Console
) -> Path:
    results = folder / "run" / "results.jsonl"
    records = Results(results).read()
    summary = report.sections(records)[0].tables[0]
    # A measure per line: a dozen columns would not fit a terminal.
    table = Table("after the last task", *(row[1] for row in summary.rows))
    for index, measure in enumerate(summary.columns[3:], start=3):
        table.add_row(measure, *(row[index] for row in summary.rows))
    console.print(table)
    spec = chosen.experiment.streams[0]
    stream = chosen.make_stream(spec, seed)
    asked = examples(learner, stream)
    unknown = int((~learner.predict(noise(stream[0], NOISE_IMAGES, seed)).known).sum())
    console.print(f"{unknown} of {NOISE_IMAGES} images of noise were called unknown")
    extra = [
        report.Section("What this is", "\n\n".join(chosen.notes)),
        demo_population.section(shared),
        _gallery(asked, f"{unknown} of {NOISE_IMAGES} images of random pixels were called unknown."),
    ]
    page, _ = report.write(results, folder, extra=extra, title="stolon demo")
    return page


def _gallery(asked: Sequence[Example], words: str) -> report.Section:
    """Held-back images with the answers: pictures in the page, a list in the Markdown."""
    right = sum(example.is_right for example in asked)
    cards = Markup("").join(
        Markup(
            '<figure style="margin:0;width:8.5rem;font-size:.8rem">'
            '<img alt="{alt}" width="96" height="96" src="data:image/png;base64,{image}">'
            "<figcaption>{mark} {answer}<br><small>{truth}</small></figcaption></figure>"
        ).format(
            alt=f"An image of {example.task}, class {example.label}",
            image=example.image,
            mark="✓" if example.is_right else "✗",
            answer=_answer(example),
            truth=f"is {example.task}: {example.label}",
        )
        for example in asked
    )
    return report.Section(
        "Images and answers",
        f"{right} of these {len(asked)} held-back images were given the right task and class, without being told "
        f"the task. {words}",
        html=Markup('<div style="display:flex;flex-wrap:wrap;gap:1rem">{}</div>').format(cards),
        markdown="\n".join(
            f"- {'right' if e.is_right else 'wrong'}: is {e.task}: {e.label}; answer {_answer(e)}"
            for e in asked
        ),
    )


def _answer(example: Example) -> str:
    if example.said_task is None:
        return "unknown"
    return f"{example.said_task}: {example.said_label} ({example.confidence:.0%})"
