"""What scans of like probability turned out to be, for words that a reader can check a probability by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtl.evaluation.metrics import Array

LEAST_SCANS = 20
"""Of fewer scans of like probability nothing is said."""
MOST_GROUPS = 10
MOST_APART = 0.3
"""Scans whose probabilities differ by more are not alike."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Labeled scans of like probability that the network was not fitted to.

    Args:
        lowest, highest: their probabilities.
        positives: how many of them had the finding.
        count: how many there are.

    Raises:
        ValueError: numbers that contradict each other.
    """

    lowest: float
    highest: float
    positives: int
    count: int

    def __post_init__(self) -> None:
        if not (0 <= self.lowest <= self.highest <= 1 and 0 <= self.positives <= self.count and self.count):
            raise ValueError(f"{self.positives} of {self.count} scans from {self.lowest} to {self.highest}")

    @property
    def share(self) -> float:
        """Of them that had the finding."""
        return self.positives / self.count

    def interval(self) -> tuple[float, float]:
        """Of the share: 95 %, Wilson 1927; takes scans as independent."""
        from scipy.stats import binomtest

        found = binomtest(self.positives, self.count).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def observed(y: Array, p: Array) -> tuple[Observed, ...]:
    """Scans in order of their probability, in groups of like size; equal probabilities stay together.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.

    Returns:
        At most `MOST_GROUPS` of at least `LEAST_SCANS` scans; none where there are fewer scans.
    """
    order = np.argsort(p, kind="stable")
    y, p = y[order], p[order]
    wanted = min(MOST_GROUPS, len(p) // LEAST_SCANS)
    cuts = [round(len(p) * i / wanted) for i in range(1, wanted)]
    edges = sorted({0, *(int(np.searchsorted(p, p[cut], side="left")) for cut in cuts), len(p)}) if wanted else [0]
    groups: list[Observed] = []
    first = 0
    for last in edges[1:]:
        if last - first < LEAST_SCANS or 0 < len(p) - last < LEAST_SCANS:
            continue
        here = slice(first, last)
        positives = int((y[here] == 1).sum())
        lowest, highest = float(p[first]), float(p[last - 1])
        groups.append(Observed(lowest=lowest, highest=highest, positives=positives, count=last - first))
        first = last
    return tuple(groups)


def like(groups: Sequence[Observed], probability: float) -> Observed | None:
    """The scans that a probability is like.

    Returns:
        None outside what was observed, and where the nearest scans lie too far apart to speak for each other.
    """
    if not groups or not groups[0].lowest <= probability <= groups[-1].highest:
        return None
    nearest = min(groups, key=lambda group: max(group.lowest - probability, probability - group.highest))
    return nearest if nearest.highest - nearest.lowest <= MOST_APART else None
