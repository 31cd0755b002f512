"""DINO: every view, also a small crop, says of its scan what a slowly moving teacher says who sees most of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import Momentum, cosine_to_one, projector
from medtl.training.together import gathered


class DINOConfig(StrictModel):
    """The settings of the objective."""

    local_crops: int = Field(default=4, ge=0)
    """Small crops of each scan besides the two views."""
    prototypes: int = Field(default=1024, ge=2)
    """Size of the output, over which teacher and student give a distribution."""
    hidden_dim: int = Field(default=512, ge=2)
    """Size of the head's two hidden layers."""
    bottleneck_dim: int = Field(default=128, ge=2)
    """Size of the space in which the prototypes lie."""
    student_temperature: float = Field(default=0.1, gt=0.0)
    """Divides the student's similarities."""
    teacher_temperature: float = Field(default=0.07, gt=0.0)
    """Divides the teacher's similarities once warmed up; sharper than the student's."""
    teacher_temperature_start: float = Field(default=0.04, gt=0.0)
    """Divides the teacher's similarities at the beginning."""
    temperature_warmup: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of the run in which the teacher's temperature rises, linearly."""
    frozen: float = Field(default=0.02, ge=0.0, le=1.0)
    """Share of the run in which the prototypes stay as they were drawn."""
    momentum: float = Field(default=0.99, ge=0.0, le=1.0)
    """Share of the teacher that stays in a step at the beginning; it rises to 1 over the run."""
    center_momentum: float = Field(default=0.9, ge=0.0, le=1.0)
    """Share of the centre that stays in a step."""


class Head(nn.Module):
    """Three layers, then the cosine to each prototype: a last layer with rows of unit length."""

    def __init__(self, inputs: int, config: DINOConfig) -> None:
        super().__init__()
        self.layers = projector(inputs, config.hidden_dim, config.hidden_dim, config.bottleneck_dim, last_norm=True)
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, config.bottleneck_dim) * 0.02)

    def forward(self, embedding: Tensor, learning: float = 1.0) -> Tensor:
        """(B, prototypes); `learning` is a factor of the gradient of the prototypes."""
        prototypes = torch.lerp(self.prototypes.detach(), self.prototypes, learning)
        return F.normalize(self.layers(embedding), dim=1) @ F.normalize(prototypes, dim=1).T


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy of each view with every other that the teacher saw (Caron 2021, arXiv 2104.14294, eq. 3), mean.

    Args:
        student: (V, B, K) logarithms of probabilities, the teacher's views first.
        teacher: (2, B, K) probabilities of its views.
    """
    pairs = -torch.einsum("gbk,vbk->gv", teacher, student) / student.shape[1]
    other = ~torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs[other].mean()


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the batch's statistics, but does not count them towards those of later use."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class DINO(nn.Module):
    """Caron 2021 with a convolutional encoder: multi-crop, a centred (eq. 4) and sharpened momentum teacher.

    Departures:
    - Sizes for some thousand scans and steps: 1,024 prototypes, not 65,536; 4 crops; hidden layers of 512 with batch
      normalisation and ReLU, not GELU; momentum from 0.99, not 0.996; prototypes frozen for 2 % of the run and the
      temperature warmed up over 30 %, as the paper's first of 100 epochs and first 30.
    - Batch normalisation also after the head's last layer, before lengths are made one: without it all scans came to
      lie in one direction and the teacher's distribution became even, at 300 steps on 1,000 radiographs.
    - Prototypes are frozen by a gradient of zero; weight decay shortens them meanwhile, which changes nothing.
    - Crops do not count towards the encoder's running statistics, which later see whole scans only; views and crops
      are normalised apart, in the head too.
    - The optimizer is the loop's: no gradient clipping, no schedule of weight decay. The student's encoder is kept,
      not the teacher's.
    """

    Config = DINOConfig
    n_views = 2
    center: Tensor
    done: Tensor

    def __init__(self, encoder: Encoder, config: DINOConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.n_crops = config.local_crops
        self.head = Head(encoder.embedding_dim, config)
        self.teacher = Momentum(nn.Sequential(self.encoder, self.head))
        self.register_buffer("center", torch.zeros(config.prototypes))
        self.register_buffer("done", torch.zeros(()))
        self._new: list[Tensor] = []  # mean outputs of the teacher since the optimizer's last step

    def teacher_temperature(self) -> float:
        """What it is now."""
        start, end = self.config.teacher_temperature_start, self.config.teacher_temperature
        warm = min(1.0, float(self.done) / self.config.temperature_warmup) if self.config.temperature_warmup else 1.0
        return start + (end - start) * warm

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss; how sharp the teacher is and how many prototypes it uses; how well views agree.

        `entropy` is that of the teacher's distribution of one scan, of log(prototypes) where it knows nothing;
        `used` is the effective number of prototypes over the batch, 1 where the teacher has collapsed to one.
        """
        learning = 0.0 if float(self.done) < self.config.frozen else 1.0
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        outputs = [self.head(self.encoder(scans), learning)]
        if self.n_crops and views.crops is not None:
            crops = views.crops[:, : self.n_crops].transpose(0, 1).flatten(0, 1)  # (L B, C, ...)
            with running_statistics_kept(self.encoder):
                outputs.append(self.head(self.encoder(crops), learning))
        student = torch.cat(outputs).reshape(-1, len(views), self.config.prototypes)  # (2 + L, B, K)
        target = self.teacher(scans)
        teacher = ((target - self.center) / self.teacher_temperature()).softmax(dim=1)
        loss = distillation(
            (student / self.config.student_temperature).log_softmax(dim=2), teacher.reshape_as(student[:2])
        )
        if self.training:
            self._new.append(_mean_of_batch(target))
        usage = _mean_of_batch(teacher)
        figures = {
            "entropy": round(float(_entropy(teacher).mean()), 4),
            "used": round(float(_entropy(usage).exp()), 2),
        }
        return loss, figures | agreement(gathered(student[0].detach()), gathered(student[1].detach()))

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        """The teacher follows, and the centre moves towards the teacher's mean output."""
        online = nn.Sequential(self.encoder, self.head)
        self.teacher.follow(online, momentum=cosine_to_one(self.config.momentum, done))
        if self._new:
            self.center.lerp_(torch.stack(self._new).mean(dim=0), 1 - self.config.center_momentum)
        self._new.clear()
        self.done.fill_(done)


def _mean_of_batch(rows: Tensor) -> Tensor:
    """(K,) mean of (N, K) rows over all processes."""
    return gathered(rows.mean(dim=0, keepdim=True)).mean(dim=0)


def _entropy(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(dim=-1)
