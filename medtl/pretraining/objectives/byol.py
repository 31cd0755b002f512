"""BYOL: one view predicts what a slowly moving copy of the network makes of the other."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import Momentum, cosine_to_one, projector
from medtl.training.together import gathered


class BYOLConfig(StrictModel):
    """The settings of the objective."""

    hidden_dim: int = Field(default=512, ge=2)
    """Size of the hidden layer of the projector and of the predictor."""
    projection_dim: int = Field(default=256, ge=2)
    """Size of the space in which one view predicts the other."""
    momentum: float = Field(default=0.99, ge=0.0, le=1.0)
    """Share of the target network that stays in a step at the beginning; it rises to 1 over the run."""


def prediction_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors (Grill 2020, arXiv 2006.07733, eq. 2), mean over scans: 0 to 4.

    Args:
        predicted, target: (B, D), not yet normalised.
    """
    return 2 - 2 * F.cosine_similarity(predicted, target, dim=1).mean()


class BYOL(nn.Module):
    """Grill 2020: the loss is eq. 2 in both directions, the target network follows by eq. 1.

    Departures: the momentum begins at 0.99, not 0.996, since a run has some thousand steps and not 300,000; the hidden
    layers have 512 units, not 4,096; both views pass through batch normalisation together.
    """

    Config = BYOLConfig
    n_views = 2
    n_crops = 0

    def __init__(self, encoder: Encoder, config: BYOLConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.momentum = config.momentum
        self.projection = projector(encoder.embedding_dim, config.hidden_dim, config.projection_dim)
        self.prediction = projector(config.projection_dim, config.hidden_dim, config.projection_dim)
        self.target = Momentum(nn.Sequential(self.encoder, self.projection))

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, and how well the projections of two views agree."""
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        projected = self.projection(self.encoder(scans))
        first, second = self.prediction(projected).chunk(2)
        first_target, second_target = self.target(scans).chunk(2)
        loss = prediction_error(first, second_target) + prediction_error(second, first_target)
        return loss, agreement(*(gathered(half) for half in projected.detach().chunk(2)))

    def after_step(self, done: float) -> None:
        """The target network follows."""
        online = nn.Sequential(self.encoder, self.projection)
        self.target.follow(online, momentum=cosine_to_one(self.momentum, done))
