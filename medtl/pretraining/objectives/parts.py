"""What several objectives are made of."""

import copy
import math

import torch
from torch import Tensor, nn


def projector(inputs: int, *sizes: int, last_norm: bool = False) -> nn.Sequential:
    """A multilayer perceptron: linear, batch norm, ReLU between layers; the last is linear, with norm where asked."""
    layers: list[nn.Module] = []
    for size in sizes[:-1]:
        layers += [nn.Linear(inputs, size, bias=False), nn.BatchNorm1d(size), nn.ReLU(inplace=True)]
        inputs = size
    layers.append(nn.Linear(inputs, sizes[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(sizes[-1], affine=False))
    return nn.Sequential(*layers)


class Momentum(nn.Module):
    """A slowly moving copy of a module that is not trained: the target, teacher or key network.

    Grill 2020, arXiv 2006.07733, eq. 1; He 2020, arXiv 1911.05722, eq. 2.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.copy = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The copy's output; no gradient flows."""
        out: Tensor = self.copy(x)
        return out

    @torch.no_grad()
    def follow(self, source: nn.Module, *, momentum: float) -> None:
        """Move weights towards the source's by 1 - momentum; other buffers are left to the copy's own forward."""
        for mine, theirs in zip(self.copy.parameters(), source.parameters(), strict=True):
            mine.lerp_(theirs, 1 - momentum)


def cosine_to_one(base: float, done: float) -> float:
    """A momentum that rises from `base` to 1 over the run (Grill 2020, sec. 3.2)."""
    return 1 - (1 - base) * (math.cos(math.pi * done) + 1) / 2
