"""Settings of :class:`stolon.masks.impressions.Impressions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from stolon.errors import RecipeChangedError, SettingError
from stolon.masks.base import MaskConfig
from stolon.masks.fitting import MaskTraining, Schedule
from stolon.masks.mixing import FORMS, Form
from stolon.records import Json
from stolon.settings import at_least, one_of, whole
from stolon.training import OptimizerName

Source = Literal["heterogeneous", "homogeneous", "mixed", "random"]
SOURCES: Final = ("heterogeneous", "homogeneous", "mixed", "random")
_LINEAR_AT_ONCE: Final = 10
_MEANING: Final = (
    "basis", "impressions", "masks_per_task", "rule", "density", "densities", "magnitude", "values", "scaled", "hybrid",
)  # fmt: skip
"""Settings that say what coefficients mean, and what becomes of the next task."""


@final
@dataclass(frozen=True)
class ImpressionsConfig(MaskConfig):
    """Settings of :class:`Impressions`; those of masks are in :class:`~stolon.masks.base.MaskConfig`.

    Attributes:
        basis: what the basis is made of; see :mod:`stolon.masks.impressions`.
        impressions: masks in the basis, m >= 1.
        masks_per_task: of a ``"mixed"`` basis, >= 1.
        at_once: masks of a task that are trained together, >= 1; by default ten of a fully connected net and one of
            others: stacked convolutions are slower than one after the other.
        form: how the basis is held while it is used; see :mod:`stolon.masks.mixing`.
        hybrid: whether a task's last layer gets a mask of its own (appendix A.5).
        penalty: lambda of Eq. 2, >= 0.
        alpha_epochs: of the coefficients, like the next five.
        alpha_batch_size: samples per step.
        alpha_learning_rate: at first (the paper: 0.002 on MNIST, which is worse: benchmarks/masks_coefficients.py).
            PyTorch's RMSprop moves each coefficient by ten times this at its first step: among a hundred masks take
            ``"adam"`` and ``"cosine"``.
        alpha_optimizer: see :class:`~stolon.training.Training`.
        alpha_weight_decay: >= 0.
        alpha_schedule: of the learning rate.

    Raises:
        SettingError: a value is out of its range.
    """

    basis: Source = "heterogeneous"
    impressions: int = 10
    masks_per_task: int = 1
    at_once: int | None = None
    form: Form = "fast"
    hybrid: bool = False
    penalty: float = 0.0
    alpha_epochs: int = 2
    alpha_batch_size: int = 128
    alpha_learning_rate: float = 0.02
    alpha_optimizer: OptimizerName = "rmsprop"
    alpha_weight_decay: float = 0.0
    alpha_schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("basis", self.basis, SOURCES)
        one_of("form", self.form, FORMS)
        for name in ("impressions", "masks_per_task"):
            whole(name, getattr(self, name), 1)
        if self.at_once is not None:
            whole("at_once", self.at_once, 1)
        at_least("penalty", self.penalty, 0)
        try:
            self.alpha_training()
        except SettingError as error:
            raise SettingError(f"alpha_{error}") from error
        if self.basis == "random" and self.values != "binary":
            raise SettingError(f"values: expected 'binary' with a random basis, found {self.values!r}")
        if self.values == "real" and self.form != "plain":
            raise SettingError(f"form: expected 'plain' with real-valued masks, found {self.form!r}")

    def alpha_training(self) -> MaskTraining:
        """How coefficients are trained."""
        return MaskTraining(
            epochs=self.alpha_epochs,
            batch_size=self.alpha_batch_size,
            learning_rate=self.alpha_learning_rate,
            optimizer=self.alpha_optimizer,
            weight_decay=self.alpha_weight_decay,
            schedule=self.alpha_schedule,
        )

    def check_saved(self, settings: Mapping[str, Json]) -> None:
        """Refuse what was saved with settings under which its coefficients mean something else.

        Raises:
            RecipeChangedError: it was.
        """
        for name in _MEANING:
            if settings.get(name) != getattr(self, name):
                raise RecipeChangedError(
                    f"saved with {name} = {settings.get(name)!r}, this learner has {getattr(self, name)!r}; make it "
                    "as it was saved"
                )

    def together(self, shapes: Sequence[Sequence[int]]) -> int:
        """How many masks of a net whose weights have these shapes are trained together."""
        return self.at_once or (_LINEAR_AT_ONCE if all(len(shape) == 2 for shape in shapes) else 1)

    def masks_of_a_task(self) -> int:
        """How many masks a task leaves while the basis is not whole."""
        return {"heterogeneous": 1, "homogeneous": self.impressions, "mixed": self.masks_per_task}.get(
            self.basis, 0
        )
