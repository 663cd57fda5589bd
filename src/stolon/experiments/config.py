"""What an experiment is: frozen values, filled from a TOML, YAML or JSON file, then from flags.

Everything that can be refused is refused here, by the name of its key, before anything runs.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, final

from stolon.errors import SettingError, StolonError
from stolon.settings import at_least

_T = TypeVar("_T")


@final
@dataclass(frozen=True)
class LearnerSpec:
    """One learner of an experiment.

    Attributes:
        name: a name of ``learners.names()``.
        net: a name of ``nets.names()``.
        label: what the results call it; the name by default.
        weights: for learners on a frozen backbone: a safetensors file with its weights.
        settings: the method's own, such as ``{epochs = 5}``.

    Raises:
        SettingError: a name or label is empty or not printable.
    """

    name: str
    net: str
    label: str = ""
    weights: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)
        _printable("learner's name", self.name)
        _printable("learner's label", self.label)


@final
@dataclass(frozen=True)
class StreamSpec:
    """One stream of an experiment.

    Attributes:
        name: a name of ``streams.names()``.
        root: the folder that data are looked for in.
        label: what the results call it; the name by default.
        options: the stream's own, such as ``{classes_per_task = 2}``.
        tasks: how many of its tasks are learned, >= 1; all by default.

    Raises:
        SettingError: a name or label is empty or not printable, or ``tasks`` is below 1.
    """

    name: str
    root: str | None = None
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    tasks: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or self.name)
        _printable("stream's name", self.name)
        _printable("stream's label", self.label)
        if self.tasks is not None:
            at_least("tasks", self.tasks, 1)


@final
@dataclass(frozen=True)
class Experiment:
    """Learners x streams x seeds: every combination is one trial.

    Attributes:
        name: what the results call it.
        learners: at least one; labels differ.
        streams: at least one; labels differ.
        seeds: each seeds the stream and the learning; at least one, different, >= 0.
        evaluate_every: test accuracy inside a task's own training is looked at after every so many epochs,
            where validation improved (which is what the peak needs); 0: only when the task is learned.
        evaluate_batch: inputs that are answered at once, >= 1.
        infer_tasks: also answer without the tasks' names, where the learner can.
        count_macs: count multiply-accumulates while learning.
        checkpoint_every_s: seconds between checkpoints inside a task, at least; >= 0.
        workers: processes; 0 runs the trials in this one, one after the other.
        threads: of PyTorch in each process, >= 1; results depend on it.

    Raises:
        SettingError: a value is out of its range; says which.
    """

    name: str
    learners: list[LearnerSpec]
    streams: list[StreamSpec]
    seeds: list[int] = field(default_factory=lambda: [0])
    evaluate_every: int = 1
    evaluate_batch: int = 256
    infer_tasks: bool = True
    count_macs: bool = True
    checkpoint_every_s: float = 5.0
    workers: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        _printable("experiment's name", self.name)
        _distinct("learners", [spec.label for spec in self.learners], "give each its own label")
        _distinct("streams", [spec.label for spec in self.streams], "give each its own label")
        _distinct("seeds", self.seeds, "name each seed once")
        for seed in self.seeds:
            at_least("seeds", seed, 0)
        at_least("evaluate_every", self.evaluate_every, 0)
        at_least("evaluate_batch", self.evaluate_batch, 1)
        at_least("checkpoint_every_s", self.checkpoint_every_s, 0)
        at_least("workers", self.workers, 0)
        at_least("threads", self.threads, 1)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    def recipe(self) -> dict[str, Any]:
        """What the results depend on: all but how many processes and how often it is saved."""
        return {
            key: value
            for key, value in self.to_json().items()
            if key not in ("workers", "checkpoint_every_s")
        }


def read(path: str | Path, flags: Sequence[str] = ()) -> Experiment:
    """Read an experiment from a file, then from flags such as ``--workers=2``; nothing is run.

    Args:
        path: a ``.toml`` file, or else YAML (of which JSON is a part).
        flags: override the file.

    Raises:
        SettingError: no such file, an unknown key, or a value that does not fit; says which.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingError(f"expected an experiment file at {path}, found none")
    parser = _parser("toml" if path.suffix == ".toml" else "yaml")
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Experiment, as_positional=False)
    return _parsed(parser, lambda: parser.parse_args(["--config", str(path), *flags]), Experiment, str(path))


def check(experiment: Experiment) -> None:
    """Refuse names, settings and options that do not exist, before anything runs.

    Raises:
        UnknownNameError: no such learner or stream.
        SettingError: a setting or option is unknown or does not fit; says which.
    """
    from stolon import learners, nets, streams
    from stolon.light.anchoring import Anchoring
    from stolon.light.config import LightweightConfig
    from stolon.nets.backbone import parse_spec

    for learner in experiment.learners:
        config = learners.find(learner.name).Config
        where = f"learner {learner.label}: settings"
        known = [entry.name for entry in dataclasses.fields(config)]
        _known(where, learner.settings, known)
        parser = _parser("yaml")
        parser.add_class_arguments(config, as_positional=False)
        found = _parsed(parser, lambda p=parser, s=learner.settings: p.parse_object(s), config, where)
        if isinstance(found, LightweightConfig):
            Anchoring(found.anchor, found.anchor_settings)
        name, _ = parse_spec(learner.net)
        nets.own(name)
    for stream in experiment.streams:
        parameters = inspect.signature(streams.find(stream.name)).parameters
        _known(
            f"stream {stream.label}: options",
            stream.options,
            [p for p in parameters if p not in ("root", "seed")],
        )


def _parser(mode: str) -> Any:  # noqa: ANN401 - jsonargparse is imported where it is used
    from jsonargparse import ArgumentParser

    return ArgumentParser(exit_on_error=False, parser_mode=mode)


def _parsed(parser: Any, parse: Any, kind: type[_T], where: str) -> _T:  # noqa: ANN401 - as above
    """Parse into a dataclass; whatever the parser says becomes one SettingError that names the place."""
    from argparse import ArgumentError

    try:
        instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # before 4.49
        found = instantiate(parse())
        return kind(**{entry.name: found[entry.name] for entry in dataclasses.fields(kind)})  # type: ignore[arg-type]  # it is one
    except StolonError as error:
        raise SettingError(f"{where}: {error}") from error
    except (ArgumentError, ValueError, TypeError, KeyError) as error:
        raise SettingError(f"{where}: {' '.join(str(error).split())}") from error


def _known(where: str, values: Mapping[str, object], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise SettingError(f"{where}: unknown key {key!r}; known are: {', '.join(known)}")


def _distinct(name: str, values: Sequence[object], remedy: str) -> None:
    if not values:
        raise SettingError(f"{name}: expected at least one, found none")
    if len(set(values)) < len(values):
        raise SettingError(f"{name}: expected different ones, found {list(values)}; {remedy}")


def _printable(what: str, value: str) -> None:
    if not value.strip() or not value.isprintable():
        raise SettingError(f"{what}: expected printable characters, found {value!r}")
