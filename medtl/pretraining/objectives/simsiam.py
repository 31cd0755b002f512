"""SimSiam: one view predicts the other, which is held still; nothing else is needed against collapse."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import projector
from medtl.training.together import gathered


class SimSiamConfig(StrictModel):
    """The settings of the objective."""

    projection_dim: int = Field(default=512, ge=2)
    """Size of the projector's layers and of the space in which one view predicts the other."""
    bottleneck_dim: int = Field(default=128, ge=2)
    """Size of the predictor's hidden layer; a quarter of `projection_dim` in the paper."""


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Chen & He 2021, arXiv 2011.10566, eq. 1 and 3, mean over scans: -1 to 1. No gradient flows into the target.

    Args:
        predicted, target: (B, D), not yet normalised.
    """
    return -F.cosine_similarity(predicted, target.detach(), dim=1).mean()


class SimSiam(nn.Module):
    """Chen & He 2021, eq. 4: the mean of both directions.

    Departures: 512 and 128 units in projector and predictor, not 2,048 and 512; the predictor learns at the rate of
    the rest, which falls, where the paper holds it; both views pass through batch normalisation together.
    """

    Config = SimSiamConfig
    n_views = 2
    n_crops = 0

    def __init__(self, encoder: Encoder, config: SimSiamConfig) -> None:
        super().__init__()
        self.encoder = encoder
        size = config.projection_dim
        self.projection = projector(encoder.embedding_dim, size, size, size, last_norm=True)
        self.prediction = projector(size, config.bottleneck_dim, size)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, and how well the projections of two views agree."""
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        projected = self.projection(self.encoder(scans))
        first, second = projected.chunk(2)
        first_predicts, second_predicts = self.prediction(projected).chunk(2)
        loss = (negative_cosine(first_predicts, second) + negative_cosine(second_predicts, first)) / 2
        return loss, agreement(gathered(first.detach()), gathered(second.detach()))

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
