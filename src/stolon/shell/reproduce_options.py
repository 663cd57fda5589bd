"""What ``stolon reproduce`` was asked for."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """What was asked for; a table refuses what it has no use for.

    Attributes:
        table: its name.
        scale: ``"quick"``, ``"half"`` or ``"full"``.
        agents: how many, None as the scale says.
        tasks: how many, None as the scale says.
        root: a folder with data, None for what needs none.
        out: where results and report go.
        seed: of everything random.
        in_process: without processes of its own.
        anchors: kinds of anchors, None for all.
        biases: ``"both"``, ``"with"`` or ``"without"``.
        stream: names of streams, None for the paper's first.
        seeds: how many, None as the scale says.
        workers: processes, None for as many as there are cores.
        transfer: mechanisms, None for the table's.
        lasem: variants of LASEM, None for the default one.
        epochs: for each task, None as the scale says.
        learning_rate: at first, None as the scale says.
        fixed: the configuration of a fixed posterior, None for the paper's.
        alpha_epochs: of coefficients, None as the scale says.
        sizes: of bases of masks, None as the scale says.
        densities: of masks, None as the scale says.
        images: training images of a class, None as the scale says.
        dataset: in place of MNIST, None for MNIST itself.
        among: how many tasks inputs are inferred among, None as the scale says.
        draws: random growths of each seed, None as the scale says.
    """

    table: str
    out: Path
    scale: str = "quick"
    agents: int | None = None
    tasks: int | None = None
    root: str | None = None
    seed: int = 0
    in_process: bool = False
    anchors: Sequence[str] | None = None
    biases: str = "both"
    stream: Sequence[str] | None = None
    seeds: int | None = None
    workers: int | None = None
    transfer: Sequence[str] | None = None
    lasem: Sequence[str] | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    fixed: str | None = None
    alpha_epochs: int | None = None
    sizes: Sequence[int] | None = None
    densities: Sequence[float] | None = None
    images: int | None = None
    dataset: str | None = None
    among: int | None = None
    draws: int | None = None

    @property
    def processes(self) -> int:
        """How many do the work."""
        from stolon.streams.images import usable_cores

        return usable_cores() if self.workers is None else self.workers


def command_line() -> str:
    """What was typed."""
    return shlex.join(["stolon", *sys.argv[1:]])
