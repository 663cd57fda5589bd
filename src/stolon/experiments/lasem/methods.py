"""The lines of the tables of selective transfer: which methods are compared, with which settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, final

from stolon.errors import SettingError
from stolon.experiments.lasem.streams import SCALES, STREAMS, Setting
from stolon.nets.plain import GROUPS
from stolon.settings import above, one_of, whole
from stolon.transfer.configurations import adjacent, parse, static_family

Table = Literal[
    "lasem-figure1", "lasem-figure4", "lasem-figure6", "lasem-table1", "lasem-table2", "lasem-table3"
]
MECHANISMS: Final = MappingProxyType({"hard": "HPS", "tensor-factorization": "TF", "deconvolution": "DF-CNN"})
"""The mechanisms, and what the papers call them."""

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "default": {},
        "exact": {"exact": True},
        "released": {"exact": True, "likelihood": "mean-probability", "prior": "running-mean"},
        "every-batch": {"e_every": 1},
        "two-samples": {"samples": 2},
        "geometric-mean": {"likelihood": "geometric-mean"},
        "mean-probability": {"likelihood": "mean-probability"},
        "running-mean": {"prior": "running-mean"},
        "history": {"prior": "history"},
        "related": {"prior": "related"},
        "no-rollback": {"rollback": "none"},
    }
)
"""Settings of LASEM by name; the first that is asked for is the one that others are compared with."""


@final
@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        label: as the papers call it.
        kind: a name of :func:`stolon.learners.names`.
        transfer: the mechanism.
        configuration: of static ones.
        groups: into how many the layers are tied, 0 for none.
        probability: of a fixed posterior, 0 where it is inferred.
        variant: of LASEM.
        settings: the learner's, beside those of training.
    """

    label: str
    kind: str
    transfer: str
    configuration: str = ""
    groups: int = 0
    probability: float = 0.0
    variant: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@final
@dataclass(frozen=True)
class Wanted:
    """What is asked for; None takes what the table and the scale say.

    Attributes:
        table: which.
        scale: ``"quick"``, ``"half"`` or ``"full"``.
        streams: names; the paper's first one by default.
        root: where the data are, or a folder whose ``datasets/`` they are in.
        seeds: how many.
        transfers: mechanisms.
        variants: of LASEM, names of :data:`VARIANTS`.
        tasks: how many.
        epochs: for each task.
        learning_rate: at first.
        fixed: the configuration of figure 6.
        workers: processes.

    Raises:
        SettingError: a value is unknown or out of its range.
    """

    table: Table
    scale: str = "quick"
    streams: tuple[str, ...] = ()
    root: str | None = None
    seeds: int | None = None
    transfers: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ("default",)
    tasks: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    fixed: str = "top-2"
    workers: int = 1

    def __post_init__(self) -> None:
        one_of("table", self.table, tuple(METHODS))
        one_of("scale", self.scale, SCALES)
        for stream in self.streams:
            one_of("stream", stream, tuple(STREAMS))
        for transfer in self.transfers or ():
            one_of("transfer", transfer, tuple(MECHANISMS))
        for variant in self.variants:
            one_of("variants", variant, tuple(VARIANTS))
        for name in ("streams", "transfers", "variants"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise SettingError(f"{name}: expected different ones, found {', '.join(values)}")
        if self.transfers == () or not self.variants:
            raise SettingError("transfers, variants: expected at least one of each, found none")
        for name in ("seeds", "tasks", "epochs"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        if self.learning_rate is not None:
            above("learning_rate", self.learning_rate, 0)
        whole("workers", self.workers, 0)


def _static(transfer: str, configuration: str) -> Method:
    words = configuration_words(configuration)
    return Method(
        f"{MECHANISMS[transfer]} {words}",
        "static",
        transfer,
        configuration,
        settings={"configuration": configuration},
    )


def _lasem(transfer: str, variant: str) -> Method:
    word = "" if variant == "default" else f"{variant} "
    settings = VARIANTS[variant]
    return Method(
        f"LASEM {word}{MECHANISMS[transfer]}", "lasem", transfer, variant=variant, settings=settings
    )


def configuration_words(configuration: str) -> str:
    """A configuration as the papers call it.

    Example:
        >>> configuration_words("top-2"), configuration_words("1,3")
        ('Top 2', '{1,3}')
    """
    if configuration[0].isdigit():
        return f"{{{configuration}}}"
    return configuration.replace("-", " ").capitalize()


def _mechanisms(wanted: Wanted, usual: Sequence[str]) -> tuple[str, ...]:
    return tuple(wanted.transfers or usual)


def _figure1(wanted: Wanted, setting: Setting) -> list[Method]:
    transfers = _mechanisms(wanted, ("hard", "deconvolution"))
    return [
        _static(transfer, configuration)
        for transfer in transfers
        for configuration in static_family(setting.protocol.layers)
    ]


def _figure4(wanted: Wanted, setting: Setting) -> list[Method]:
    usual = tuple(MECHANISMS)
    if setting.paper is not None and setting.paper.data == "STL-10":
        usual = usual[1:]  # the figure has no HPS there
    family = _family(wanted.scale, setting.protocol.layers)
    found = []
    for transfer in _mechanisms(wanted, usual):
        found += [_lasem(transfer, variant) for variant in wanted.variants]
        found += [_static(transfer, configuration) for configuration in family]
    return found


def _family(scale: str, layers: int) -> tuple[str, ...]:
    """The static configurations of figure 4: the paper's, or about half of them where they are more than eight."""
    if scale == "quick":
        return ("all", "top-2", "bottom-2", "alternating")
    family = static_family(layers)
    if scale == "half" and layers == 6:
        return tuple(name for name in family if name not in _LEFT_OUT)
    return family


_LEFT_OUT: Final = ("top-2", "top-4", "bottom-2", "bottom-4", "1,3,5", "3,4", "1,2,5,6", "2,3,4,5")


def _figure6(wanted: Wanted, setting: Setting) -> list[Method]:
    parse(wanted.fixed, setting.protocol.layers)  # refused now rather than in every trial
    probabilities = (0.5, 0.75, 1.0) if wanted.scale == "quick" else (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    found = []
    for transfer in _mechanisms(wanted, ("deconvolution",)):
        found += [_lasem(transfer, variant) for variant in wanted.variants]
        for probability in probabilities:
            settings = {
                **VARIANTS[wanted.variants[0]],
                "fixed": wanted.fixed,
                "fixed_probability": probability,
            }
            label = f"{MECHANISMS[transfer]} {configuration_words(wanted.fixed)}, P = {probability:g}"
            found.append(Method(label, "lasem", transfer, probability=probability, settings=settings))
    return found


def _table1(wanted: Wanted, setting: Setting) -> list[Method]:  # noqa: ARG001 - as its siblings
    found = [
        Method(f"DARTS {MECHANISMS[transfer]}", "darts", transfer)
        for transfer in _mechanisms(wanted, ("hard", "deconvolution"))
        if transfer != "tensor-factorization"
    ]
    for transfer in _mechanisms(wanted, tuple(MECHANISMS)):
        found += [_lasem(transfer, variant) for variant in wanted.variants]
    return found


def _table2(wanted: Wanted, setting: Setting) -> list[Method]:
    is_stl = setting.paper is not None and setting.paper.data == "STL-10"
    net = setting.protocol.net
    partitions: Mapping[int, Sequence[Sequence[int]]] = (
        GROUPS[net] if net in GROUPS else {2: adjacent([1, 2]), 3: adjacent([1, 1, 1])}
    )
    numbers = [number for number in partitions if number <= 7]  # the paper's 4 to 7
    if wanted.scale == "quick":
        numbers = sorted({numbers[0], numbers[-1]})
    found = []
    for transfer in _mechanisms(wanted, ("deconvolution" if is_stl else "hard",)):
        found.append(_static(transfer, "all"))
        for number in numbers:
            for variant in wanted.variants:
                line = _lasem(transfer, variant)
                groups = [list(group) for group in partitions[number]]
                found.append(
                    replace(
                        line,
                        label=f"{line.label} {number}G",
                        groups=number,
                        settings={**line.settings, "groups": groups},
                    )
                )
    return found


def _table3(wanted: Wanted, setting: Setting) -> list[Method]:  # noqa: ARG001 - as its siblings
    found = []
    for transfer in _mechanisms(wanted, ("hard",) if wanted.scale == "quick" else tuple(MECHANISMS)):
        found += [_lasem(transfer, variant) for variant in wanted.variants]
        found.append(Method(f"brute force {MECHANISMS[transfer]}", "brute-force", transfer))
        found.append(_static(transfer, "all"))
    return found


METHODS: Final[Mapping[str, Callable[[Wanted, Setting], list[Method]]]] = MappingProxyType(
    {
        "lasem-figure1": _figure1,
        "lasem-figure4": _figure4,
        "lasem-figure6": _figure6,
        "lasem-table1": _table1,
        "lasem-table2": _table2,
        "lasem-table3": _table3,
    }
)
