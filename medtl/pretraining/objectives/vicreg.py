"""VICReg: views of a scan lie close, every feature varies over the batch, and no two vary together."""

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import projector
from medtl.training.together import gathered


class VICRegConfig(StrictModel):
    """The settings of the objective."""

    projection_dim: int = Field(default=1024, ge=2)
    """Size of the expander's layers and of the features that are compared."""
    invariance_weight: float = Field(default=25.0, ge=0.0)
    """What the distance of two views counts; lambda in the paper."""
    variance_weight: float = Field(default=25.0, ge=0.0)
    """What a too small standard deviation of a feature counts; mu in the paper."""
    covariance_weight: float = Field(default=1.0, ge=0.0)
    """What the covariance of different features counts; nu in the paper."""


def variance(z: Tensor) -> Tensor:
    """How much the standard deviation of the features of (B, D) falls short of 1 (Bardes 2022, eq. 1 and 2)."""
    return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Squared covariances of different features of (B, D), per feature (Bardes 2022, eq. 3 and 4)."""
    z = z - z.mean(dim=0)
    matrix = z.T @ z / (len(z) - 1)  # (D, D)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / len(matrix)


class VICReg(nn.Module):
    """Bardes 2022, arXiv 2105.04906, eq. 6.

    Departures: the expander has 1,024 units a layer, not 8,192, which would cost more than the encoder; the distance of
    two views (eq. 5) is a mean over features, as in the authors' code, for which the weights were tuned.
    """

    Config = VICRegConfig
    n_views = 2
    n_crops = 0

    def __init__(self, encoder: Encoder, config: VICRegConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.projection = projector(encoder.embedding_dim, *[config.projection_dim] * 3)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, its three terms before weighting, and how well the projections of two views agree."""
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        first, second = (gathered(half) for half in self.projection(self.encoder(scans)).chunk(2))
        terms = {
            "invariance": F.mse_loss(first, second),
            "variance": variance(first) + variance(second),
            "covariance": covariance(first) + covariance(second),
        }
        loss = (
            self.config.invariance_weight * terms["invariance"]
            + self.config.variance_weight * terms["variance"]
            + self.config.covariance_weight * terms["covariance"]
        )
        return loss, {name: round(float(term.detach()), 4) for name, term in terms.items()} | agreement(first, second)

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
