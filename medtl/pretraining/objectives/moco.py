"""MoCo: a view finds the other view of its scan among the keys of many earlier batches."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from medtl.config import StrictModel
from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.objectives.figures import agreement
from medtl.pretraining.objectives.parts import Momentum, projector
from medtl.training.together import gathered

EMPTY = -1
"""The group of a place in the queue that holds no key yet."""


class MoCoConfig(StrictModel):
    """The settings of the objective."""

    temperature: float = Field(default=0.2, gt=0.0)
    """Divides the cosine similarities."""
    projection_dim: int = Field(default=128, ge=2)
    """Size of the space in which queries and keys are compared."""
    queue_size: int = Field(default=1024, ge=0)
    """Keys of earlier batches that are kept as negatives; a step brings two keys of each scan."""
    momentum: float = Field(default=0.99, ge=0.0, le=1.0)
    """Share of the key network that stays in a step."""
    variance_weight: float = Field(default=1.0, ge=0.0)
    """What a too small spread of the queries counts, against collapse; 0 is the paper's loss."""


def info_nce(
    query: Tensor, key: Tensor, *, temperature: float, group: Tensor, queue: Tensor, queue_group: Tensor
) -> Tensor:
    """He 2020, arXiv 1911.05722, eq. 1, mean over scans.

    Args:
        query, key: (B, D) of unit length; a query's positive is the key in its row.
        group: (B,) keys of a query's own group are no negatives of it.
        queue: (K, D) further keys of unit length, with their groups (K,); those of the group `EMPTY` do not count.
    """
    logits = query @ torch.cat([key, queue]).T / temperature  # (B, B + K)
    groups = torch.cat([group, queue_group])
    no_negative = (group[:, None] == groups[None, :]) | (groups == EMPTY)[None, :]
    positive = torch.arange(len(query), device=query.device)
    no_negative[positive, positive] = False
    return F.cross_entropy(logits.masked_fill(no_negative, -torch.inf), positive)


def lack_of_spread(z: Tensor) -> Tensor:
    """How far unit vectors (B, D) are from varying evenly in all directions.

    The variance term of VICReg (Bardes 2022, arXiv 2105.04906, eq. 1) on sqrt(D) z, so that its target 1 is what
    uniform directions have: 0 is even, about 1 is collapsed.
    """
    return F.relu(1 - (z.var(dim=0) * z.shape[1] + 1e-4).sqrt()).mean()


class MoCo(nn.Module):
    """Chen 2020 (MoCo v2, arXiv 2003.04297): two-layer projector, keys of a momentum encoder, a queue of them.

    Departures, all for small sets and one process:
    - The batch's other keys are negatives as well. The paper shuffles batch normalisation over GPUs, since otherwise
      the statistics of the batch tell a positive from every key in the queue; with one process nothing can be
      shuffled, and negatives that share the statistics take their place. The queue begins empty, not random.
    - Both views are queries, and keys of the other.
    - Keys of the same group (one patient, near-duplicates; the scan's own keys of an earlier epoch) are no negatives.
    - A variance term, on by default: MoCo v2 is reported to collapse on small medical sets without one.
    - Momentum 0.99, not 0.999, and 1,024 keys, not 65,536: a run has some thousand steps on some thousand scans.
    - Batch normalisation in the projector, as in SimCLR's.
    """

    Config = MoCoConfig
    n_views = 2
    n_crops = 0
    queue: Tensor
    queue_group: Tensor

    def __init__(self, encoder: Encoder, config: MoCoConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = config
        self.projection = projector(encoder.embedding_dim, encoder.embedding_dim, config.projection_dim)
        self.keys = Momentum(nn.Sequential(self.encoder, self.projection))
        self.register_buffer("queue", torch.zeros(config.queue_size, config.projection_dim))
        self.register_buffer("queue_group", torch.full((config.queue_size,), EMPTY))
        self._new: list[tuple[Tensor, Tensor]] = []  # keys and groups since the optimizer's last step

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The loss, and how well the queries of one view find the keys of the other."""
        scans = views.whole[:, :2].transpose(0, 1).flatten(0, 1)  # (2B, C, ...)
        queries = [gathered(half) for half in F.normalize(self.projection(self.encoder(scans)), dim=1).chunk(2)]
        keys = [gathered(half) for half in F.normalize(self.keys(scans), dim=1).chunk(2)]
        group = gathered(views.group)
        contrast, uneven = scans.new_zeros(()), scans.new_zeros(())
        for query, key in zip(queries, reversed(keys), strict=True):
            contrast = contrast + info_nce(
                query, key, temperature=self.config.temperature, group=group, queue=self.queue,
                queue_group=self.queue_group,
            ) / 2  # fmt: skip
            uneven = uneven + lack_of_spread(query) / 2
        if self.training:
            self._new.append((torch.cat(keys), group.repeat(2)))
        figures = {"contrast": round(float(contrast.detach()), 4)} | agreement(queries[0], keys[1])
        return contrast + self.config.variance_weight * uneven, figures

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        """The key network follows (eq. 2), and the new keys push the oldest out of the queue."""
        self.keys.follow(nn.Sequential(self.encoder, self.projection), momentum=self.config.momentum)
        for keys, group in self._new:
            self.queue.copy_(torch.cat([keys, self.queue])[: len(self.queue)])
            self.queue_group.copy_(torch.cat([group, self.queue_group])[: len(self.queue)])
        self._new.clear()
