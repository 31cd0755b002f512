"""Losses that come in slowly, because guesses are poor at first."""

import math

import torch
from torch import Tensor, nn


def linear(done: float, *, over: float) -> float:
    """0 to 1 over the first share `over` of the run."""
    return min(1.0, done / over)


def sigmoid_shaped(done: float, *, over: float) -> float:
    """exp(-5 (1 - t)^2), 0.007 to 1 over the first share `over` of the run (Laine & Aila 2017, arXiv 1610.02242)."""
    return math.exp(-5 * (1 - min(1.0, done / over)) ** 2)


class Done(nn.Module):
    """The share of the work that is done, kept in checkpoints."""

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    def set(self, done: float) -> None:
        """Note it."""
        self.share.fill_(done)
