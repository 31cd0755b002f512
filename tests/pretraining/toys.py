"""Images with structure that can be learned in seconds, and a bare training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medtl.pretraining.batch import Views
from medtl.pretraining.objectives import Objective
from tests.pretraining.tiny import views_of


def blobs(count: int, side: int, *, dims: int = 2, channels: int = 1, seed: int = 0) -> Tensor:
    """(count, channels, [side,] side, side) in -1..1: a bright ball on a dark slope, each at a place of its own."""
    g = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side)] * dims, indexing="ij")
    grid = torch.stack(axes)  # (dims, ...)
    lone = (-1, dims, *[1] * dims)
    centre = (torch.rand(count, dims, generator=g) - 0.5).reshape(lone)
    slope = torch.randn(count, dims, generator=g).reshape(lone) / math.sqrt(dims)
    ball = torch.exp(-((grid - centre) ** 2).sum(dim=1) / 0.1)
    image = (0.9 * ball + 0.3 * (grid * slope).sum(dim=1) - 0.4).clamp(-1, 1)
    return image[:, None].repeat(1, channels, *[1] * dims)


def stripes(count: int, side: int, *, dims: int = 2, seed: int = 0) -> Tensor:
    """(count, 1, [side,] side, side) in -1..1: waves of 8 pixels along one axis: what is seen says what is hidden."""
    g = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.arange(side) * (2 * math.pi / 8)] * dims, indexing="ij")
    phase = torch.rand(count, *[1] * dims, generator=g) * 2 * math.pi
    return torch.sin(torch.stack(axes)[torch.randint(dims, (count,), generator=g)] + phase)[:, None]


def batch(images: Tensor, *, seed: int = 0) -> Views:
    """A batch with one view of each scan."""
    return views_of(images[:, None], seed=seed)


def losses(
    objective: Objective,
    *,
    side: int,
    dims: int = 2,
    steps: int = 30,
    size: int = 16,
    lr: float = 2e-3,
    images: Callable[..., Tensor] = blobs,
) -> list[float]:
    """What a short training's losses are, on new images at every step, with a rate that rises over ten steps."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=lr)  # type: ignore[attr-defined]
    found: list[float] = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 10)
        loss, _ = objective(batch(images(size, side, dims=dims, seed=step), seed=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
        found.append(loss.item())
    return found


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
