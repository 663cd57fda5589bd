"""What is run for each figure on impressions: units of work, and what each of them gives.

A *unit* is one basis (or one mask for each new task), of one density, in one run. What it gives are *items*: each is a
number or two for one task, and is recorded as soon as it is known. Figures on the same stream and scale share units and
items: in one folder, what one figure has recorded another need not do again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, cast, final

from stolon import streams
from stolon.errors import SettingError
from stolon.experiments.data_folder import datasets_of
from stolon.experiments.impress.settings import SCALES, STREAMS, WEIGHTS, WRONG, Setting
from stolon.experiments.reproduced import opened
from stolon.masks.popup import MaskRule
from stolon.settings import one_of, whole
from stolon.tasks import Stream

Figure = Literal[
    "impress-figure2",
    "impress-figure3",
    "impress-figure4",
    "impress-figure6",
    "impress-figure7",
    "impress-figure10",
]
Kind = Literal["heterogeneous", "homogeneous", "random", "supsup"]
What = Literal[
    "own", "wrong", "new", "hybrid", "found-in-batch", "found-alone", "basis-gn", "gg", "gn-in-batch", "gn-alone"
]  # fmt: skip


@final
@dataclass(frozen=True)
class Spec:
    """What a figure shows.

    Attributes:
        title: of it.
        stream: the paper's.
        kinds: of bases, and of masks that new tasks have of their own (``"supsup"``).
        new: whether new tasks are learned.
        hybrid: whether also with a mask of their own in the last layer.
        basis_gn: whether tasks of the basis are learned as coefficients.
        gn: whether they are inferred, in SupSup's way.
        many: whether new tasks are inferred among many, where the scale says so.
    """

    title: str
    stream: str
    kinds: tuple[Kind, ...]
    new: bool = True
    hybrid: bool = False
    basis_gn: bool = False
    gn: bool = False
    many: bool = False


_BOTH: Final[tuple[Kind, ...]] = ("heterogeneous", "homogeneous", "supsup")
SPECS: Final[Mapping[Figure, Spec]] = MappingProxyType(
    {
        "impress-figure2": Spec("Figure 2: impressions", "mnist-rotated", _BOTH, basis_gn=True),
        "impress-figure3": Spec("Figure 3: impressions", "mnist-permuted", _BOTH, basis_gn=True, many=True),
        "impress-figure4": Spec("Figure 4: impressions", "cifar100-split", _BOTH, basis_gn=True),
        "impress-figure6": Spec(
            "Figure 6: basis-GN and SupSup's GN",
            "mnist-permuted",
            ("heterogeneous",),
            new=False,
            basis_gn=True,
            gn=True,
        ),
        "impress-figure7": Spec(
            "Figure 7: random and homogeneous masks", "mnist-rotated", ("random", "homogeneous", "supsup")
        ),
        "impress-figure10": Spec("Figure 10: hybrid and regular", "cifar100-split", _BOTH, hybrid=True),
    }
)
RECORDS: Final = 2
"""Of what form they are: another form is begun in another folder."""
FIGURES: Final = cast("tuple[Figure, ...]", tuple(SPECS))


@final
@dataclass(frozen=True)
class Wanted:
    """What is asked for; None takes what figure and scale say.

    Attributes:
        figure: which.
        scale: ``"quick"``, ``"half"`` or ``"full"``.
        streams: names; the paper's by default.
        root: where the data are, or a folder whose ``datasets/`` they are in.
        seeds: runs.
        tasks: new ones.
        epochs: of masks, and of coefficients where these have no number of their own.
        alpha_epochs: of coefficients.
        sizes: of the bases; heterogeneous ones as far as the stream has tasks, where it says how many.
        densities: of the masks, each in (0, 1].
        images: training images of each class, at most; of MNIST and its kin.
        dataset: in place of MNIST, of rotated and permuted MNIST: a folder in its file form, such as ``FashionMNIST``.
        among: how many new tasks inputs are inferred among once more, as sums of the largest basis (figure 3).
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
    alpha_epochs: int | None = None
    sizes: tuple[int, ...] | None = None
    densities: tuple[float, ...] | None = None
    images: int | None = None
    dataset: str | None = None
    among: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        one_of("figure", self.figure, FIGURES)
        one_of("scale", self.scale, SCALES)
        for stream in self.streams:
            one_of("stream", stream, tuple(STREAMS))
        if len(set(self.streams)) < len(self.streams):
            raise SettingError(f"stream: expected different ones, found {', '.join(self.streams)}")
        for name in ("seeds", "tasks", "epochs", "alpha_epochs", "images", "among"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        for name in ("sizes", "densities"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise SettingError(f"{name}: expected different ones, at least one, found {list(values)}")
        for size in self.sizes or ():
            whole("sizes", size, 1)
        for density in self.densities or ():
            MaskRule(density=density)
        if self.among is not None and not SPECS[self.figure].many:
            raise SettingError(f"among: of no use to {self.figure}; leave it out")
        whole("workers", self.workers, 0)


@final
@dataclass(frozen=True)
class Unit:
    """Work that one process does.

    Attributes:
        run: its seed.
        density: of the masks.
        kind: of the basis.
    """

    run: int
    density: float
    kind: Kind

    @property
    def label(self) -> str:
        """As records name it."""
        return f"{self.kind} {self.density:g}"

    @property
    def folder(self) -> str:
        """Where its masks are kept."""
        return f"{self.kind}-{self.density:g}-{self.run}"


@final
@dataclass(frozen=True)
class Item:
    """One result of a unit.

    Attributes:
        what: ``"own"``: a new task under a mask of its own; ``"wrong"``: under masks of other tasks; ``"new"``: as
            coefficients; ``"hybrid"``: with a last layer of its own; ``"found-..."``: whether its inputs are found
            among the new tasks; ``"basis-gn"``: a task of the basis as coefficients; ``"gg"``: under its own mask;
            ``"gn-..."``: whether its inputs are found among the basis. ``"...-in-batch"`` is one answer for 128
            inputs, ``"...-alone"`` one for each.
        size: masks of the basis; 0 where it does not matter.
        task: its place among the new tasks, or in the basis.
        among: how many tasks it is inferred among; 0 where it is not.
    """

    what: What
    size: int
    task: int
    among: int = 0

    @property
    def where(self) -> tuple[str | int, ...]:
        """As records have it."""
        return dataclasses.astuple(self)


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
        return f"impress {self.wanted.scale} {self.stream}"

    @property
    def tasks(self) -> int:
        """Tasks of the stream."""
        return self.setting.pool or self.setting.different + max(self.setting.new, self.many[1])

    @property
    def many(self) -> tuple[int, int]:
        """Basis size and tasks of one more inference; (0, 0) for none."""
        size, tasks = self.setting.many
        return (size, tasks) if self.spec.many and tasks > self.setting.new else (0, 0)

    def recipe(self) -> dict[str, Any]:
        """What the items depend on, as JSON values."""
        setting = {
            key: value
            for key, value in dataclasses.asdict(self.setting).items()
            if key not in ("new", "runs", "many", "paper")
        }
        found: dict[str, Any] = json.loads(
            json.dumps(
                {"stream": self.stream, "records": RECORDS, "weights": WEIGHTS, "wrong": WRONG, **setting}
            )
        )
        return found

    def make_stream(self, backbone: int) -> Stream:
        """The stream of a backbone: its permutations, and which images are left out, are functions of it.

        Raises:
            DataMissingError: the data are not there.
            DataError: they are not what they should be.
        """
        options = {"tasks": self.tasks, **self.setting.options}
        return streams.make(self.stream, root=datasets_of(self.wanted.root), seed=backbone, **options)

    def units(self) -> tuple[Unit, ...]:
        """All of the first run first."""
        return tuple(
            Unit(run, density, kind)
            for run in range(self.setting.runs)
            for density in self.setting.densities
            for kind in self.spec.kinds
        )

    def sizes(self, kind: Kind) -> tuple[int, ...]:
        """Of the bases; none where there is no basis."""
        if kind == "supsup":
            return ()
        most = self.setting.different if kind == "heterogeneous" else max(self.setting.sizes)
        return tuple(size for size in self.setting.sizes if size <= most)

    def basis_tasks(self, size: int) -> range:
        """Tasks of a heterogeneous basis that basis-GN is averaged over: the first."""
        return range(min(size, self.setting.basis_gn))

    @property
    def wrong(self) -> Kind | None:
        """The basis whose masks are tried as wrong ones: the first that is trained."""
        trained = [kind for kind in self.spec.kinds if kind in ("heterogeneous", "homogeneous")]
        return trained[0] if self.spec.new else None

    def items(self, kind: Kind) -> tuple[Item, ...]:
        """What a unit gives, in the order in which it is done."""
        return tuple(dict.fromkeys(self._items(kind)))

    def _items(self, kind: Kind) -> Iterator[Item]:
        new = range(self.setting.new)
        if kind == "supsup":
            yield from (Item("own", 0, task) for task in new)
            yield from self._found(0, len(new))
            return
        if kind == self.wrong:
            yield from (Item("wrong", 0, task) for task in new)
        for size in self.sizes(kind):
            if self.spec.new:
                yield from (Item("new", size, task) for task in new)
                yield from self._found(size, len(new))
            if self.spec.hybrid:
                yield from (Item("hybrid", size, task) for task in new)
            if kind == "heterogeneous":
                yield from self._basis(size)
            if kind == "heterogeneous" and size == self.many[0]:
                yield from self._found(*self.many)

    def _found(self, size: int, among: int) -> Iterator[Item]:
        if among > 1:
            yield from (Item("found-in-batch", size, task, among) for task in range(among))
            yield from (Item("found-alone", size, task, among) for task in range(among))

    def _basis(self, size: int) -> Iterator[Item]:
        tasks = self.basis_tasks(size)
        if self.spec.basis_gn:
            yield from (Item("gg", 0, task) for task in tasks)
            yield from (Item("basis-gn", size, task) for task in tasks)
        if self.spec.gn:
            yield from (Item("gn-in-batch", size, task, size) for task in tasks)
            yield from (Item("gn-alone", size, task, size) for task in tasks)


def plans(wanted: Wanted) -> tuple[Plan, ...]:
    """What is run, a plan for each stream.

    Raises:
        SettingError: a stream has fewer tasks than are wanted.
    """
    return tuple(_plan(wanted, stream) for stream in wanted.streams or (SPECS[wanted.figure].stream,))


def open_stream(plan: Plan) -> Stream:
    """The plan's stream by its first backbone: what is missing is told before anything runs.

    Raises:
        DataMissingError: the data are not there; says which streams there are besides.
        DataError: the data are not what they should be.
    """
    return opened(lambda: plan.make_stream(plan.setting.backbone(0)), plan.stream, STREAMS)


def _plan(wanted: Wanted, stream: str) -> Plan:
    setting = STREAMS[stream][wanted.scale]
    if wanted.epochs is not None:
        setting = setting.with_epochs(wanted.epochs)
    if wanted.alpha_epochs is not None:
        setting = dataclasses.replace(
            setting, alphas=dataclasses.replace(setting.alphas, epochs=wanted.alpha_epochs)
        )
    if wanted.images is not None:
        if not stream.startswith("mnist"):
            raise SettingError(f"images: of no use to {stream}, which has few of each class; leave it out")
        setting = dataclasses.replace(setting, options={**setting.options, "train_per_class": wanted.images})
    if wanted.dataset is not None:
        if not stream.startswith("mnist"):
            raise SettingError(f"dataset: of no use to {stream}, which is made of one; leave it out")
        options = {**setting.options, "dataset": wanted.dataset}
        theirs = setting.paper if wanted.dataset == "MNIST" else None
        setting = dataclasses.replace(setting, options=options, paper=theirs)
    setting = dataclasses.replace(
        setting,
        new=wanted.tasks or setting.new,
        runs=wanted.seeds or setting.runs,
        densities=wanted.densities or setting.densities,
    )
    if wanted.sizes is not None:
        most = max(wanted.sizes)
        setting = dataclasses.replace(
            setting,
            sizes=tuple(sorted(wanted.sizes)),
            different=min(most, setting.pool - setting.new) if setting.pool else most,
        )
    if wanted.among is not None:
        setting = dataclasses.replace(setting, many=(max(setting.sizes), wanted.among))
    if (
        setting.pool
        and "heterogeneous" in SPECS[wanted.figure].kinds
        and setting.different < min(setting.sizes)
    ):
        raise SettingError(
            f"sizes: expected a basis of at most {max(setting.pool - setting.new, 0)} masks of tasks of their own, "
            f"since {stream} has {setting.pool} and {setting.new} are new, found {min(setting.sizes)} as the smallest"
        )
    if setting.pool and setting.different + setting.new > setting.pool:
        raise SettingError(
            f"tasks: expected at most {setting.pool - setting.different} new ones, since {stream} has {setting.pool} "
            f"and the basis is made of {setting.different}, found {setting.new}"
        )
    return Plan(wanted, stream, setting)
