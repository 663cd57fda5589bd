"""What a search over grow sequences is: a stream, a net, how the learner trains, and what is searched how."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from stolon import learners, nets, streams
from stolon.errors import SettingError
from stolon.experiments.config import Experiment, LearnerSpec, StreamSpec, check
from stolon.growth.config import BindAndGrowConfig
from stolon.growth.search import SearchSettings
from stolon.growth.sequence_run import require_validation
from stolon.records import Json
from stolon.settings import at_least
from stolon.tasks import Task

LEARNER: Final = "bind-and-grow"


@final
@dataclass(frozen=True)
class SearchPlan:
    """A search.

    Attributes:
        stream: whose tasks are learned.
        net: a name of ``nets.names()``.
        settings: of ``bind-and-grow``, but for what is searched.
        search: how sequences are chosen; its seed is also the stream's and the learning's.
        threads: of PyTorch in each process, >= 1; results depend on it.

    Raises:
        SettingError: a name, setting or option does not exist or does not fit; says which.
    """

    stream: StreamSpec
    net: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    search: SearchSettings = field(default_factory=SearchSettings)
    threads: int = 1

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 1)
        if "delta" in self.settings:
            raise SettingError("delta: it is what is searched; leave it out")
        if "bind" in self.settings and self.search.space.binds == "searched":
            raise SettingError("bind: bindings are searched; leave it out")
        if self.settings.get("grow", "nucleus") != "nucleus":
            raise SettingError(
                "grow: expected nucleus, which a delta belongs to, found "
                f"{self.settings['grow']!r}; leave it out"
            )
        nets.own(self.net)
        check(Experiment("search", [self._learner()], [self.stream]))

    @staticmethod
    def of_experiment(experiment: Experiment, search: SearchSettings) -> "SearchPlan":
        """The search over what an experiment's file names: one learner, bind-and-grow, on one stream.

        Args:
            experiment: as the file says; its seeds are not used.
            search: how sequences are chosen, and the seed.

        Raises:
            SettingError: there are other learners, or more streams; or as the class.
        """
        named = [spec.name for spec in experiment.learners]
        if named != [LEARNER] or len(experiment.streams) != 1:
            raise SettingError(
                f"expected an experiment of one learner, {LEARNER}, on one stream, found "
                f"{', '.join(named)} on {len(experiment.streams)}; leave the others out"
            )
        (learner,), (stream,) = experiment.learners, experiment.streams
        return SearchPlan(stream, learner.net, dict(learner.settings), search, experiment.threads)

    @property
    def seed(self) -> int:
        """Of the stream, of the learning, and of what is tried."""
        return self.search.seed

    def config(self) -> BindAndGrowConfig:
        """The learner's settings."""
        found: BindAndGrowConfig = learners.find(LEARNER).Config(**self.settings)
        return found

    def tasks(self) -> tuple[Task, ...]:
        """The stream's tasks.

        Raises:
            SettingError: there are fewer than are wanted.
            DataError: the data are not there, not what they should be, or without validation data.
        """
        spec = self.stream
        stream = streams.make(spec.name, root=spec.root, seed=self.seed, **spec.options)
        if spec.tasks is not None and spec.tasks > len(stream):
            raise SettingError(
                f"tasks: expected at most {len(stream)}, which {spec.name} has with these options, found {spec.tasks}"
            )
        tasks = tuple(stream[: spec.tasks])
        for task in tasks:
            require_validation(task)
        return tasks

    def recipe(self, tasks: tuple[Task, ...]) -> dict[str, Json]:
        """What outcomes depend on, beside the choices: not where the data lie."""
        digests = [digest for task in tasks for digest in (task.digest(), task.test.digest())]
        return {
            "stream": self.stream.name,
            "options": dict(self.stream.options),
            "net": self.net,
            "settings": dataclasses.asdict(self.config()),
            "threads": self.threads,
            "data": hashlib.sha256("".join(digests).encode()).hexdigest(),
        }

    def _learner(self) -> LearnerSpec:
        return LearnerSpec(LEARNER, self.net, settings=dict(self.settings))
