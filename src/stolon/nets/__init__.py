"""Networks as stages, by name: ``nets.make("lenet-300-100")``.

A net is the part that all tasks of a network share: it maps inputs to features [B, F]; learners add heads.
"""

from stolon.nets.plain import GROUPS
from stolon.nets.registry import build, describe, make, names, own
from stolon.nets.stages import Stage, Staged, split

__all__ = ["GROUPS", "Stage", "Staged", "build", "describe", "make", "names", "own", "split"]
