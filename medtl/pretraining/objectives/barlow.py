"""Barlow Twins: two views of a scan give equal features, and each feature says something of its own."""

from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import projector
from medtl.training.together import gathered


class BarlowConfig(StrictModel):
    """The settings of the objective."""

    projection_dim: int = Field(default=1024, ge=2)
    """Size of the projector's layers and of the features that are correlated."""
    redundancy_weight: float = Field(default=0.005, ge=0.0)
    """What the correlations between different features count; lambda in the paper."""


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of each feature of one view with each of the other over the batch (Zbontar 2021, eq. 2).

    Args:
        first, second: (B, D).

    Returns:
        (D, D) in -1..1.
    """

    def standardised(z: Tensor) -> Tensor:
        z = z - z.mean(dim=0)
        return z / (z.square().mean(dim=0) + 1e-5).sqrt()  # as batch normalisation, which the authors' code uses

    return standardised(first).T @ standardised(second) / len(first)


def barlow_twins(first: Tensor, second: Tensor, *, redundancy_weight: float) -> tuple[Tensor, Tensor]:
    """Zbontar 2021, arXiv 2103.03230, eq. 1, in its two terms.

    Returns:
        How far features are from equal between views, and the weighted redundancy between them.
    """
    correlation = cross_correlation(first, second)
    diagonal = correlation.diagonal()
    invariance = (1 - diagonal).square().sum()
    redundancy = correlation.square().sum() - diagonal.square().sum()
    return invariance, redundancy_weight * redundancy


class BarlowTwins(nn.Module):
    """Zbontar 2021, with its three-layer projector.

    Departure: 1,024 features, not 8,192, of which a batch of 128 could not tell the correlations and which would cost
    more than the encoder.
    """

    Config = BarlowConfig
    n_views = 2
    n_crops = 0

    def __init__(self, encoder: Encoder, config: BarlowConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.redundancy_weight = config.redundancy_weight
        self.projection = projector(encoder.embedding_dim, *[config.projection_dim] * 3)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, its two terms, and how well the projections of two views agree."""
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        first, second = (gathered(half) for half in self.projection(self.encoder(scans)).chunk(2))
        invariance, redundancy = barlow_twins(first, second, redundancy_weight=self.redundancy_weight)
        terms = {"invariance": round(float(invariance.detach()), 3), "redundancy": round(float(redundancy.detach()), 3)}
        return invariance + redundancy, terms | agreement(first, second)

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
