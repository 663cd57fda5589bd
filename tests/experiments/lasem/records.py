"""Records as trials of selective transfer would have written them, made by hand."""

from stolon.experiments.results import Record


def trial(learner, seed, tasks, *, stream="s", seconds=10.0, epochs=(), done=True):
    """A trial's records: for each task its row of accuracies and its peak; ``epochs``: (task, phase, val, notes)."""
    found = [
        Record(
            "epoch",
            "toy",
            learner,
            stream,
            seed,
            {
                "task": f"t{task}",
                "phase": phase,
                "number": i,
                "total": 9,
                "val_accuracy": val,
                "notes": notes,
            },
            (f"t{task}", phase, i),
        )
        for i, (task, phase, val, notes) in enumerate(epochs)
    ]
    for index, (row, peak) in enumerate(tasks):
        data = {
            "task": f"t{index}",
            "index": index,
            "row": row,
            "peak": peak,
            "seconds": seconds / len(tasks),
        }
        found.append(Record("task", "toy", learner, stream, seed, data, (f"t{index}",)))
    return [*found, *([Record("done", "toy", learner, stream, seed)] if done else [])]


def two_tasks(learner, seed, peaks, kept=1.0, **options):
    """A trial of two tasks; the first keeps this share of its accuracy, which ended at its peak."""
    first, second = peaks
    return trial(learner, seed, [([first], first), ([kept * first, second], second)], **options)
