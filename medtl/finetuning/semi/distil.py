"""Distillation: one network learns what an ensemble believes about the scans without labels."""

from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.batch import Unlabeled
from medtl.finetuning.semi.classes import cross_entropy_to, distributions, log_probabilities


class DistilConfig(StrictModel):
    """The settings of the method."""

    weight: float = Field(default=1.0, ge=0)
    """What the loss on scans without labels counts."""
    members: int = Field(default=5, ge=1)
    """Networks in the ensemble. Each is fitted without one part of the labeled patients, which it then judges."""
    member_steps: int | None = Field(default=None, ge=1)
    """Steps of each; None takes what fine-tuning without unlabeled scans would."""


class Distil(nn.Module):
    """The student of an ensemble (Hinton 2015, arXiv 1503.02531, sec. 2; Xie 2020, arXiv 1911.04252, algorithm 1).

    The loss on hard labels and that on the ensemble's calibrated probabilities of scans without labels are added, as
    in noisy student. Departures: one round; the student is as large as the teachers; soft targets at temperature 1
    after calibration (Chen 2020, arXiv 2006.10029, eq. 2, which draws from unlabeled scans too).
    """

    views: tuple[str, ...] = ("strong",)

    def __init__(self, supervised: Supervised, config: DistilConfig, *, labels: LabelTable) -> None:
        super().__init__()
        self.supervised = supervised
        self.weight = config.weight

    def forward(self, images: Tensor, labels: Tensor, unlabeled: Unlabeled) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the two that it is made of."""
        assert unlabeled.soft is not None
        hard, figures = self.supervised(images, labels)
        exclusive = self.supervised.exclusive
        log_p = log_probabilities(self.supervised.classifier(unlabeled.views[:, 0]), exclusive=exclusive)
        soft = cross_entropy_to(log_p, distributions(unlabeled.soft, exclusive=exclusive))
        return hard + self.weight * soft, figures | {"labeled": hard.item(), "unlabeled": soft.item()}

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
