"""Learning-rate schedules: pure functions from the share of the work done to a factor of the top rate."""

import math


def one_cycle(done: float, *, warmup: float = 0.3, start: float = 0.04) -> float:
    """One-cycle policy (Smith & Topin 2018, arXiv 1708.07120), with cosine rise and fall.

    Args:
        done: share of all steps that are done, 0..1.
        warmup: the share in which the rate rises.
        start: the factor at the beginning.
    """
    if done < warmup:
        return start + (1 - start) * (1 - math.cos(math.pi * done / warmup)) / 2
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def warmup_cosine(done: float, *, warmup: float = 0.05) -> float:
    """Linear warm-up, then cosine to zero (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5, one period)."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2
