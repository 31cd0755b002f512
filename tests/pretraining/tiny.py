"""A network and batches small enough for tests of objectives."""

import torch
from torch import Tensor, nn

from medtl.encoders.table import Encoder
from medtl.pretraining.batch import Views
from medtl.pretraining.draws import Draws


def tiny_encoder(side: int = 4, dims: int = 2, embedding_dim: int = 12) -> Encoder:
    """A linear network on scans of `side` pixels."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(side**dims, embedding_dim))
    return Encoder(net, name="tiny", input_px=side, embedding_dim=embedding_dim, cam_layer="net.0", dims=dims)


def views_of(whole: Tensor, *, crops: Tensor | None = None, group: Tensor | None = None, seed: int = 0) -> Views:
    """A batch from (B, V, C, ...) views."""
    return Views(
        whole=whole,
        crops=crops,
        group=torch.arange(len(whole)) if group is None else group,
        draws=Draws("test", seed, total=len(whole)),
    )
