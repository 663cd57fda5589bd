"""What a lifelong learner is judged by: accuracies over time, intervals over seeds, and what it all costs.

Everything here is a pure function or an immutable value of plain numbers; nothing knows learners or files.
"""

from stolon.measure.accuracy import AccuracyMatrix, Denominator, Gain, peak_accuracy
from stolon.measure.confusion import UNKNOWN, mapper_accuracy, task_confusion
from stolon.measure.costs import (
    ALPHA,
    Cost,
    Macs,
    Stored,
    cost,
    flop_counter,
    macs,
    parallel_efficiency,
    stored,
)
from stolon.measure.intervals import Interval, interval

__all__ = [
    "ALPHA",
    "UNKNOWN",
    "AccuracyMatrix",
    "Cost",
    "Denominator",
    "Gain",
    "Interval",
    "Macs",
    "Stored",
    "cost",
    "flop_counter",
    "interval",
    "macs",
    "mapper_accuracy",
    "parallel_efficiency",
    "peak_accuracy",
    "stored",
    "task_confusion",
]
