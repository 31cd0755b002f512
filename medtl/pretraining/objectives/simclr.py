"""SimCLR: two views of one scan attract, views of different scans repel."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import projector
from medtl.training.together import gathered


class SimCLRConfig(StrictModel):
    """The settings of the objective."""

    temperature: float = Field(default=0.2, gt=0.0)
    """Divides the cosine similarities."""
    projection_dim: int = Field(default=128, ge=2)
    """Size of the space in which views are compared."""


def nt_xent(first: Tensor, second: Tensor, *, temperature: float, group: Tensor | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy (Chen 2020, arXiv 2002.05709, eq. 1, mean over both views).

    Args:
        first, second: (B, D) projections of the two views of the same scans, not yet normalised.
        group: (B,) scans with the same number are no negatives of each other; None: each scan is its own.

    Returns:
        The scalar loss; log(2B - 1) when all projections are the same and no two scans share a group.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)  # (2B, D)
    similarity = z @ z.T / temperature
    batch = len(first)
    partner = torch.arange(2 * batch, device=z.device).roll(batch)
    both = torch.arange(batch, device=z.device).repeat(2) if group is None else group.repeat(2)
    no_negative = both[:, None] == both[None, :]
    no_negative[torch.arange(2 * batch, device=z.device), partner] = False
    return F.cross_entropy(similarity.masked_fill(no_negative, -torch.inf), partner)


class SimCLR(nn.Module):
    """Chen 2020 with its two-layer projection head; the encoder's embedding is what is kept.

    Departures: the temperature's default is 0.2, which suits batches of 128 to 256, not 0.5; scans of one patient and
    near-duplicates are no negatives of each other.
    """

    Config = SimCLRConfig
    n_views = 2
    n_crops = 0

    def __init__(self, encoder: Encoder, config: SimCLRConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = config.temperature
        self.projection = projector(encoder.embedding_dim, encoder.embedding_dim, config.projection_dim)

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, and how the projections agree."""
        projected = self.projection(self.encoder(views.whole[:, :2].transpose(0, 1).flatten(0, 1)))  # (2B, D)
        first, second = (gathered(half) for half in projected.chunk(2))
        loss = nt_xent(first, second, temperature=self.temperature, group=gathered(views.group))
        return loss, agreement(first, second)

    def after_step(self, done: float) -> None:
        """Nothing moves but parameters."""
