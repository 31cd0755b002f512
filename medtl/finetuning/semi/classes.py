"""Findings as choices among classes, so that each semi-supervised loss is written once.

Findings that exclude each other are one question with a class for each; others are a question each, with the classes
absent and present. Shapes are (B, Q, K): scans, questions, classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_probabilities(logits: Tensor, *, exclusive: bool) -> Tensor:
    """Logits (B, F) as log-probabilities: (B, 1, F) of findings that exclude each other, else (B, F, 2)."""
    if exclusive:
        return logits.log_softmax(dim=1)[:, None]
    return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=2)


def distributions(values: Tensor, *, exclusive: bool) -> Tensor:
    """Labels or probabilities (B, F) as distributions over classes, (B, Q, K); NaN where they are unknown."""
    if exclusive:
        return values[:, None]
    return torch.stack([1 - values, values], dim=2)


def cross_entropy_to(log_p: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy -sum_k q_k log p_k (Hinton 2015, arXiv 1503.02531, sec. 2), mean over questions that are known.

    Args:
        log_p: (B, Q, K).
        targets: (B, Q, K) distributions q, NaN where unknown.
        weights: (B, Q) what each question counts; the mean is still over all known ones.
    """
    known = ~targets.isnan().any(dim=2)
    each = -(torch.where(known[..., None], targets, 0.0) * log_p).sum(dim=2)  # (B, Q)
    counted = known if weights is None else known * weights
    return (each * counted).sum() / known.sum().clamp(min=1)
