"""Averages of the weights over a run."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medtl.training.schedules import one_cycle

SWA_FROM = 0.75
"""Izmailov 2018, arXiv 1803.05407, sec. 4.1: averaging begins after three quarters of the run."""


def averaged(module: nn.Module, how: str, *, steps: int) -> AveragedModel | None:
    """The average that `train` keeps: "ema", "swa" or "none"."""
    if how == "none":
        return None
    if how == "ema":
        decay = get_ema_multi_avg_fn(1 - 10 / max(steps, 20))  # type: ignore[no-untyped-call]
        return AveragedModel(module, multi_avg_fn=decay, use_buffers=True)
    return AveragedModel(module, avg_fn=late_mean(int(SWA_FROM * steps)), use_buffers=True)


def late_mean(first: int) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """The plain mean of the weights after more than `first` steps; until then the weights themselves."""

    def update(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        return mean + (now - mean) / (max(int(count) - first, 0) + 1)

    return update


def mix_with(network: nn.Module, before: Mapping[str, Tensor], *, keeps: float) -> None:
    """Move weights back towards earlier ones, by a share of the way (Wortsman 2022, arXiv 2109.01903, eq. 1).

    Args:
        before: the network's state then.
        keeps: 0 leaves it as it is, 1 gives it the earlier weights.
    """
    mixed = {
        key: torch.lerp(now, before[key], keeps) if now.is_floating_point() else now
        for key, now in network.state_dict().items()
    }
    network.load_state_dict(mixed)


def schedule(how: str) -> Callable[[float], float]:
    """One cycle of the learning rate; while a plain mean is taken it stays where it is, so that weights differ."""
    return (lambda share: one_cycle(min(share, SWA_FROM))) if how == "swa" else one_cycle
