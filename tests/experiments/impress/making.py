"""Plans so small that they run in a second: digits, a tiny net, two densities, bases of 1 and 3 masks."""

from dataclasses import replace

from stolon.experiments.impress.plans import Plan, Wanted
from stolon.experiments.impress.settings import STREAMS
from stolon.masks.fitting import MaskTraining

ROTATED = STREAMS["digits-rotated"]["quick"]
TINY = replace(
    ROTATED,
    net="mlp-12",
    sizes=(1, 3),
    different=3,
    new=2,
    densities=(0.2, 0.4),
    runs=2,
    masks=MaskTraining(epochs=1, batch_size=128, learning_rate=0.01),
    alphas=MaskTraining(epochs=1, batch_size=128, learning_rate=0.02),
    at_once=2,
    scaled=True,
    orders=2,
    samples=64,
)


def plan(figure="impress-figure2", *, workers=0, **changes):
    """A figure on turned digits."""
    return Plan(Wanted(figure, workers=workers), "digits-rotated", replace(TINY, **changes))


def results(records):
    """What was found, without how long it took."""
    return {
        (record.learner, record.seed, record.where): {k: v for k, v in record.data.items() if k != "seconds"}
        for record in records
        if record.kind == "task"
    }
