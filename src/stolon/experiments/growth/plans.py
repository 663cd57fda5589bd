"""What is run for each experiment on growth: units of work, and the items that each of them gives.

An *item* is one method's whole run over the tasks of a stream with one seed: a coefficient of the sweep, a draw of
random growth, or another method. A *unit* is the items of one kind and seed, done one after the other, so that later
ones find what earlier ones left in the cache. In one folder, what one figure has recorded another need not do again.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, cast, final

from stolon import streams
from stolon.errors import SettingError
from stolon.experiments.data_folder import datasets_of
from stolon.experiments.growth.settings import SCALES, STREAMS, Setting
from stolon.experiments.reproduced import opened
from stolon.growth.config import DELTA, BindAndGrowConfig
from stolon.growth.search_space import SearchSpace
from stolon.settings import one_of, whole
from stolon.tasks import Stream

Figure = Literal["growth-figure2", "growth-figure4", "growth-figure6", "growth-pareto"]
Kind = Literal[
    "independent", "sweep", "searched", "random", "full-rate", "frozen", "as-released", "learn-to-grow", "rcl",
    "finetune",
]  # fmt: skip
GROWN: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "sweep": {},
        "searched": {},
        "full-rate": {"bound_rate": 1.0},
        "frozen": {"bound_rate": 0.0},
        "as-released": {"as_released": True},
        "random": {"grow": "random", "bind": "random"},
    }
)
"""Kinds that bind and grow: what they set otherwise than the paper's way."""
SWEPT: Final = ("sweep", "as-released")
"""Kinds that try grow coefficients, one for all tasks."""
DRAWN: Final = ("searched", "random")
"""Kinds that are tried so many times, by number."""
SPACE: Final = SearchSpace(deltas="each")
"""What ``"searched"`` chooses: a coefficient for each task; order and bindings are those of all others."""
POPULATION: Final = 10
"""Of its NSGA-II: so many first trials are drawn at random."""
LEARNERS: Final = ("learn-to-grow", "rcl", "finetune")
"""Kinds that are learners of that name."""


@final
@dataclass(frozen=True)
class Spec:
    """What a figure shows.

    Attributes:
        title: of it.
        kinds: of units, beside the independent networks that gains are measured by.
        sweeps: whether all coefficients are tried; else the default one.
    """

    title: str
    kinds: tuple[Kind, ...]
    sweeps: bool = True


SPECS: Final[Mapping[Figure, Spec]] = MappingProxyType(
    {
        "growth-figure2": Spec("Figure 2: random growth and bind-and-grow", ("sweep", "random")),
        "growth-figure4": Spec(
            "Figure 4: bind-and-grow and other ways to grow",
            ("sweep", "full-rate", "frozen", "as-released", "learn-to-grow", "rcl", "finetune"),
            sweeps=False,
        ),
        "growth-figure6": Spec("Figure 6: the grow coefficient", ("sweep",)),
        "growth-pareto": Spec(
            "Gain and size: Pareto fronts and hypervolumes", ("sweep", "searched", "as-released", "random")
        ),
    }
)
RECORDS: Final = 4
"""Of what form they are: another form is begun in another folder."""
FIGURES: Final = cast("tuple[Figure, ...]", tuple(SPECS))


@final
@dataclass(frozen=True)
class Wanted:
    """What is asked for; None takes what the scale says.

    Attributes:
        figure: which.
        scale: ``"quick"``, ``"half"`` or ``"full"``.
        streams: names; split CIFAR-100 by default.
        root: where the data are, or a folder whose ``datasets/`` they are in.
        seeds: runs.
        tasks: of the stream, >= 2.
        epochs: of every training.
        draws: random growths for each seed, and trials of the search beside them.
        workers: processes; 0 for this one.

    Raises:
        SettingError: a value is unknown or out of its range.
    """

    figure: Figure
    scale: str = "quick"
    streams: tuple[str, ...] = ()
    root: str | None = None
    seeds: int | None = None
    tasks: int | None = None
    epochs: int | None = None
    draws: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        one_of("figure", self.figure, FIGURES)
        one_of("scale", self.scale, SCALES)
        for stream in self.streams:
            one_of("stream", stream, tuple(STREAMS))
        if len(set(self.streams)) < len(self.streams):
            raise SettingError(f"stream: expected different ones, found {', '.join(self.streams)}")
        for name, least in (("seeds", 1), ("tasks", 2), ("epochs", 1), ("draws", 1)):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least)
        if self.draws is not None and "random" not in SPECS[self.figure].kinds:
            raise SettingError(f"draws: of no use to {self.figure}; leave it out")
        whole("workers", self.workers, 0)


@final
@dataclass(frozen=True)
class Unit:
    """Work that one process does: items of one kind and seed."""

    seed: int
    kind: Kind


@final
@dataclass(frozen=True)
class Item:
    """One method's run over the tasks.

    Attributes:
        kind: what is run.
        delta: the grow coefficient, where it has one.
        draw: the number of a random growth, or of a search's trial.
    """

    kind: Kind
    delta: float = DELTA
    draw: int = 0

    @property
    def label(self) -> str:
        """As records name it: the name of a method, ``"delta 0.5"``, ``"searched 3"`` or ``"random 3"``."""
        if self.kind in SWEPT:
            return f"{'delta' if self.kind == 'sweep' else self.kind} {self.delta:g}"
        return f"{self.kind} {self.draw}" if self.kind in DRAWN else self.kind


@final
@dataclass(frozen=True)
class Plan:
    """A figure on one stream.

    Attributes:
        wanted: what was asked for.
        stream: its name.
        setting: how it is learned.
    """

    wanted: Wanted
    stream: str
    setting: Setting

    @property
    def spec(self) -> Spec:
        """What the figure shows."""
        return SPECS[self.wanted.figure]

    @property
    def name(self) -> str:
        """The experiment's, the same for all figures."""
        return f"growth {self.wanted.scale} {self.stream}"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is run, independent networks first."""
        return ("independent", *self.spec.kinds)

    @property
    def deltas(self) -> tuple[float, ...]:
        """Coefficients that are tried."""
        return self.setting.deltas if self.spec.sweeps else (DELTA,)

    def units(self) -> tuple[Unit, ...]:
        """All of the first seed first."""
        return tuple(Unit(seed, kind) for seed in range(self.setting.seeds) for kind in self.kinds)

    def items(self, kind: Kind) -> tuple[Item, ...]:
        """What a unit gives, in the order in which it is done."""
        if kind in SWEPT:
            return tuple(Item(kind, delta) for delta in self.deltas)
        if kind in DRAWN:
            return tuple(Item(kind, draw=draw) for draw in range(self.setting.draws))
        return (Item(kind),)

    def config(self, kind: Kind) -> BindAndGrowConfig:
        """How nets are bound and grown, or trained alone (the first's settings are the others' too)."""
        setting = self.setting
        return BindAndGrowConfig(
            epochs=setting.epochs,
            batch_size=setting.batch_size,
            learning_rate=setting.learning_rate,
            samples=setting.samples,
            head=setting.head,
            **GROWN.get(kind, {}),
        )

    def settings_of(self, kind: Kind) -> dict[str, Any]:
        """Of a kind that is a learner of its own name."""
        setting = self.setting
        if kind == "rcl":
            return {"epochs": setting.rcl_epochs, "trials": setting.rcl_trials}
        return {
            "epochs": setting.epochs,
            "batch_size": setting.batch_size,
            "learning_rate": setting.learning_rate,
        }

    def recipe(self) -> dict[str, Any]:
        """What the items depend on, as JSON values: not how many coefficients, draws and seeds there are."""
        left_out = ("deltas", "draws", "seeds", "pool", "cache_bytes")
        setting = {k: v for k, v in dataclasses.asdict(self.setting).items() if k not in left_out}
        found: dict[str, Any] = json.loads(json.dumps({"stream": self.stream, "records": RECORDS, **setting}))
        return found

    def make_stream(self, seed: int) -> Stream:
        """The tasks of a seed, in order.

        Raises:
            DataMissingError: the data are not there.
            DataError: they are not what they should be.
        """
        options = dict(self.setting.options)
        if not self.setting.pool:
            options["tasks"] = self.setting.tasks
        made = streams.make(self.stream, root=datasets_of(self.wanted.root), seed=seed, **options)
        return made[: self.setting.tasks]


def plans(wanted: Wanted) -> tuple[Plan, ...]:
    """What is run, a plan for each stream.

    Raises:
        SettingError: a stream has fewer tasks than are wanted.
    """
    return tuple(_plan(wanted, stream) for stream in wanted.streams or ("cifar100-split",))


def open_stream(plan: Plan) -> Stream:
    """The plan's stream by its first seed: what is missing is told before anything runs.

    Raises:
        DataMissingError: the data are not there; says which streams there are besides.
        DataError: the data are not what they should be.
    """
    return opened(lambda: plan.make_stream(0), plan.stream, STREAMS)


def _plan(wanted: Wanted, stream: str) -> Plan:
    setting = STREAMS[stream][wanted.scale]
    setting = dataclasses.replace(
        setting,
        seeds=wanted.seeds or setting.seeds,
        tasks=wanted.tasks or setting.tasks,
        epochs=wanted.epochs or setting.epochs,
        draws=wanted.draws or setting.draws,
        rcl_epochs=wanted.epochs or setting.rcl_epochs,
    )
    if setting.pool and setting.tasks > setting.pool:
        raise SettingError(
            f"tasks: expected at most {setting.pool}, which {stream} has, found {setting.tasks}"
        )
    return Plan(wanted, stream, setting)
