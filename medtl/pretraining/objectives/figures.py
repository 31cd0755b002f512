"""Figures that objectives log: not what is minimised, but whether it does any good."""

import torch
import torch.nn.functional as F
from torch import Tensor

from medtl.pretraining.health import spread


@torch.no_grad()
def agreement(first: Tensor, second: Tensor) -> dict[str, float]:
    """What the outputs of two views of the same scans look like.

    Args:
        first, second: (B, D) of the whole batch.

    Returns:
        `top1`, the share of first views whose nearest second view is their own (1 / B is chance), and `std`, the
        spread of the outputs (0 is collapse, about 1 is even; see `health.spread`).
    """
    nearest = (F.normalize(first, dim=1) @ F.normalize(second, dim=1).T).argmax(dim=1)
    top1 = (nearest == torch.arange(len(first), device=nearest.device)).float().mean()
    return {"top1": round(float(top1), 4), "std": round(spread(first), 4)}
