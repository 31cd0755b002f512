"""Mean teacher: the network agrees with the running average of itself on scans without labels."""

import torch
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.data.labels import LabelTable
from medtl.finetuning.losses import Supervised
from medtl.finetuning.semi.batch import Unlabeled
from medtl.finetuning.semi.classes import log_probabilities
from medtl.finetuning.semi.ramp import Done, sigmoid_shaped
from medtl.pretraining.objectives.parts import Momentum


class MeanTeacherConfig(StrictModel):
    """The settings of the method."""

    weight: float = Field(default=10.0, ge=0)
    """What the loss on scans without labels counts."""
    momentum: float = Field(default=0.99, ge=0, le=1)
    """Share of the teacher that stays in a step, at most."""
    rampup: float = Field(default=0.4, gt=0, le=1)
    """Share of the run over which agreement comes in."""


def momentum_at(step: int, *, most: float) -> float:
    """min(1 - 1 / (step + 1), most): a true average over the first steps, so that the teacher forgets its start
    (Tarvainen & Valpola 2017, in the authors' code)."""
    return min(1 - 1 / (step + 1), most)


class MeanTeacher(nn.Module):
    """Tarvainen & Valpola 2017, arXiv 1703.01780: the teacher by eq. 2, agreement by eq. 1 as mean squared difference.

    Departures: agreement is asked on scans without labels only, with strong views for the student; it counts 10. What
    is kept in the end is the running average that all fine-tuning keeps, which is a teacher of the whole run.
    """

    views: tuple[str, ...] = ("gentle", "strong")
    steps: Tensor

    def __init__(self, supervised: Supervised, config: MeanTeacherConfig, *, labels: LabelTable) -> None:
        super().__init__()
        self.supervised = supervised
        self.weight = config.weight
        self.config = config
        self.teacher = Momentum(supervised.classifier)
        self.done = Done()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Tensor, labels: Tensor, unlabeled: Unlabeled) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the two that it is made of."""
        labeled, figures = self.supervised(images, labels)
        exclusive = self.supervised.exclusive
        taught = log_probabilities(self.teacher(unlabeled.views[:, 0]), exclusive=exclusive).exp()
        said = log_probabilities(self.supervised.classifier(unlabeled.views[:, 1]), exclusive=exclusive).exp()
        apart = (said - taught).square().mean()
        weight = self.weight * sigmoid_shaped(float(self.done.share), over=self.config.rampup)
        return labeled + weight * apart, figures | {"labeled": labeled.item(), "unlabeled": apart.item()}

    def after_step(self, done: float) -> None:
        """The teacher follows."""
        self.done.set(done)
        self.steps += 1
        momentum = momentum_at(int(self.steps), most=self.config.momentum)
        self.teacher.follow(self.supervised.classifier, momentum=momentum)
