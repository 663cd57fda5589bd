"""The experiments of the papers on selective layer transfer: what is run for each table.

What differs from the papers at each scale is told in the report (:mod:`stolon.experiments.lasem.tables`).

Source:
    Lee, Behpour, Eaton, "Sharing Less is More", ICML 2021: figures 1, 4 and 6, tables 1 to 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, cast, final

from stolon import streams
from stolon.errors import SettingError
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec
from stolon.experiments.data_folder import datasets_of
from stolon.experiments.lasem.methods import METHODS, Method, Table, Wanted
from stolon.experiments.lasem.paper import SEEDS
from stolon.experiments.lasem.streams import STREAMS, Setting, deep, options, scaled
from stolon.experiments.reproduced import opened
from stolon.tasks import Stream

TABLES: Final = cast("tuple[Table, ...]", tuple(METHODS))
DEFAULT_STREAM: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(METHODS, "cifar100-lasem")
    | {"lasem-figure6": "office-home-lasem", "lasem-table1": "office-home-lasem"}
)
"""The (first) stream of each of the paper's tables."""


@final
@dataclass(frozen=True)
class Plan:
    """A table on one stream.

    Attributes:
        wanted: what was asked for.
        stream: its name.
        setting: how it is learned.
        methods: the table's lines.
        experiment: what is run.
    """

    wanted: Wanted
    stream: str
    setting: Setting
    methods: tuple[Method, ...]
    experiment: Experiment

    def find(self, **wanted: object) -> tuple[Method, ...]:
        """The lines with these attributes, in order."""
        return tuple(
            method
            for method in self.methods
            if all(getattr(method, name) == value for name, value in wanted.items())
        )

    @property
    def transfers(self) -> tuple[str, ...]:
        """The mechanisms, in order."""
        return tuple(dict.fromkeys(method.transfer for method in self.methods))


def plans(wanted: Wanted) -> tuple[Plan, ...]:
    """What is run, a plan for each stream.

    Raises:
        SettingError: the table has no lines on a stream.
    """
    return tuple(_plan(wanted, stream) for stream in wanted.streams or (DEFAULT_STREAM[wanted.table],))


def open_stream(plan: Plan) -> Stream:
    """The plan's stream by its first seed: what is missing is told before anything runs.

    Raises:
        DataMissingError: the data are not there; says which streams there are besides.
        DataError: the data are not what they should be.
    """
    spec, seed = plan.experiment.streams[0], plan.experiment.seeds[0]

    def make() -> Stream:
        return streams.make(spec.name, root=spec.root, seed=seed, **spec.options)[: spec.tasks]

    return opened(make, plan.stream, STREAMS)


def _plan(wanted: Wanted, stream: str) -> Plan:
    setting = STREAMS[stream][wanted.scale]
    if wanted.table == "lasem-table2":
        setting = deep(setting, wanted.scale)
    protocol = setting.protocol
    if wanted.epochs is not None:  # the decay stays in proportion
        protocol = scaled(protocol, wanted.epochs, protocol.learning_rate)
    if wanted.learning_rate is not None:
        protocol = replace(protocol, learning_rate=wanted.learning_rate)
    setting = replace(setting, protocol=protocol, tasks=wanted.tasks or setting.tasks)
    setting = replace(setting, options=options(stream, setting, wanted.root))
    methods = tuple(METHODS[wanted.table](wanted, setting))
    if not methods:
        raise SettingError(f"transfer: expected one that {wanted.table} has, found none of them")
    count = (2 if wanted.scale == "quick" else SEEDS) if wanted.seeds is None else wanted.seeds
    experiment = Experiment(
        name=f"{wanted.table} {wanted.scale} {stream}",
        learners=[_learner(method, setting) for method in methods],
        streams=[
            StreamSpec(stream, datasets_of(wanted.root), options=dict(setting.options), tasks=setting.tasks)
        ],
        seeds=list(range(count)),
        infer_tasks=False,
        count_macs=False,  # a counter slows small networks down, and times are compared here
        checkpoint_every_s=20.0,
        workers=wanted.workers,
    )
    return Plan(wanted, stream, setting, methods, experiment)


def _learner(method: Method, setting: Setting) -> LearnerSpec:
    protocol = setting.protocol
    net = protocol.net
    if net == "stl-conv6" and method.transfer == "tensor-factorization":
        net = "stl-conv6-128"  # as released
    training = {
        "transfer": method.transfer,
        "epochs": protocol.epochs,
        "batch_size": protocol.batch_size,
        "learning_rate": protocol.learning_rate,
        "decay": protocol.decay,
    }
    return LearnerSpec(method.kind, net, method.label, settings={**training, **method.settings})
