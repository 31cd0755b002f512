"""Random numbers of a batch, the same however many processes share it."""

import torch
from torch import Tensor

from medtl.training.batches import generator


class Draws:
    """Numbers are drawn for the whole batch, and the scans of this process get theirs.

    Args:
        identity: what the numbers depend on, such as ("views", seed, step), and on nothing else.
        total: scans in the whole batch.
        part: which of them this process holds; None is all.
        device: where the numbers are wanted; they are drawn on the CPU, so that they are the same on every device.
    """

    def __init__(
        self, *identity: object, total: int, part: slice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self._identity = identity
        self._generator = generator(*identity)
        self._total, self._part, self._device = total, part or slice(None), device

    def __len__(self) -> int:
        """Scans that this process holds."""
        return len(range(self._total)[self._part])

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) uniform numbers."""
        drawn = torch.rand(self._total, *shape, generator=self._generator) * (high - low) + low
        return drawn[self._part].to(self._device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal numbers."""
        return torch.randn(self._total, *shape, generator=self._generator)[self._part].to(self._device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """(B, *shape) of True with this probability."""
        return self.uniform(0.0, 1.0, *shape) < probability

    def order(self, count: int) -> Tensor:
        """(B, count) a random permutation of 0..count-1 for each scan."""
        return self.uniform(0.0, 1.0, count).argsort(dim=1)

    def once(self, count: int) -> Tensor:
        """(count,) uniform numbers in 0..1 that all scans of the batch share, on the CPU."""
        return torch.rand(count, generator=self._generator)

    def named(self, name: str) -> "Draws":
        """Numbers of their own for a part of the work, so that one part's use does not move another's."""
        return Draws(*self._identity, name, total=self._total, part=self._part, device=self._device)
