"""Figures of embeddings that need no labels. None is NaN, whatever the embeddings: all the same, or dead dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rankme(embeddings: Tensor) -> float:
    """Effective rank: exp of the entropy of the singular values (Garrido 2023, arXiv 2210.02885, eq. 2-3).

    Args:
        embeddings: (N, D).

    Returns:
        Between 1, when all scans share one direction, and min(N, D). Comparable only between runs of one method.
    """
    singular = torch.linalg.svdvals(embeddings.double())
    p = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()).clamp(min=1.0))


def spread(embeddings: Tensor) -> float:
    """Mean standard deviation over dimensions of the unit-length embeddings, times sqrt(D).

    About 1 when directions are even, 0 when all scans have collapsed to one point (Chen & He 2021, arXiv 2011.10566,
    sec. 4.1).
    """
    unit = F.normalize(embeddings.double(), dim=1)
    return float(unit.std(dim=0, correction=0).mean() * embeddings.shape[1] ** 0.5)


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the unit-length embeddings of two views (Wang & Isola 2020, arXiv 2005.10242, L_align
    with alpha = 2).

    Args:
        first, second: (N, D) embeddings of two views of the same scans.

    Returns:
        0 when views do not matter, which is also so after a collapse; 2 when they are as strangers; at most 4.
    """
    return float((F.normalize(first.double(), dim=1) - F.normalize(second.double(), dim=1)).square().sum(1).mean())


def uniformity(embeddings: Tensor) -> float:
    """Log of the mean Gaussian potential between scans (Wang & Isola 2020, L_uniform with t = 2).

    Args:
        embeddings: (N, D), N at least 2.

    Returns:
        0 when all scans have collapsed to one point; near -4 when they are spread evenly over many dimensions.
    """
    unit = F.normalize(embeddings.double(), dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())
