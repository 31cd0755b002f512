"""SimCLR: two views of one scan attract, views of different scans repel."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel


class SimCLRConfig(StrictModel):
    """The settings of the objective."""

    temperature: float = Field(default=0.2, gt=0.0)
    """Divides the cosine similarities."""
    projection_dim: int = Field(default=128, ge=2)
    """Size of the space in which views are compared."""


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen 2020, arXiv 2002.05709, eq. 1, mean over both views).

    Args:
        first, second: (B, D) projections of the two views of the same scans, not yet normalised.

    Returns:
        The scalar loss; log(2B - 1) when all projections are the same.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)  # (2B, D)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    batch = len(first)
    partner = torch.arange(2 * batch, device=z.device).roll(batch)
    return F.cross_entropy(similarity, partner)


class SimCLR(nn.Module):
    """Chen 2020 with its two-layer projection head; the encoder's embedding is what is kept.

    Departure: the temperature's default is 0.2, which suits batches of 128 to 256, not 0.5.
    """

    Config = SimCLRConfig
    n_views = 2

    def __init__(self, encoder: nn.Module, *, embedding_dim: int, config: SimCLRConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = config.temperature
        self.projection = nn.Sequential(
            nn.Linear(embedding_dim, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
            nn.ReLU(),
            nn.Linear(embedding_dim, config.projection_dim),
        )

    def forward(self, views: Tensor) -> tuple[Tensor, dict[str, float]]:
        """views: (B, 2, C, [D,] H, W) -> the loss, and the share of views whose nearest is their partner."""
        projected = self.projection(self.encoder(views.transpose(0, 1).flatten(0, 1)))  # (2B, D)
        first, second = projected.chunk(2)
        loss = nt_xent(first, second, temperature=self.temperature)
        with torch.no_grad():
            nearest = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).argmax(dim=1)
            top1 = (nearest == torch.arange(len(first), device=nearest.device)).float().mean()
        return loss, {"top1": round(float(top1), 4)}
