"""How many scans a check looks at and how often, so that checks stay a small share of the run."""

from dataclasses import dataclass

import numpy as np

from medtl.training.batches import Rows

MOST_SCANS, FEWEST_SCANS = 512, 128
MOST_CHECKS, FEWEST_CHECKS = 20, 4
SHARE = 0.02
"""Of the run's work that checks may take; with the pictures they stay below 3 % of a run of some minutes."""
BACKWARD = 3
"""A training pass costs this many passes forward."""


@dataclass(frozen=True, kw_only=True)
class CheckPlan:
    """What a check costs and when it is due.

    Args:
        scans: in the fixed sample; half of them are also seen in two random views.
        every: steps between checks.
    """

    scans: int
    every: int

    def due(self, done: int, share: float) -> bool:
        """Whether health is checked after this many steps, at this share of the run."""
        return done % self.every == 0 or share >= 1


def plan_checks(
    *, n_scans: int, n_labeled: int, steps: int, images_per_step: int, every: int | None, look_at: int | None = None
) -> CheckPlan:
    """Twenty checks of 512 scans where a run is long enough; of a shorter one fewer scans, then fewer checks.

    Args:
        n_scans: in the dataset.
        n_labeled: that a probe looks at besides.
        images_per_step: views of a batch.
        every, look_at: steps and scans that were asked for, or chosen when the run began; None chooses.
    """
    budget = SHARE * steps * images_per_step * BACKWARD  # passes forward for all checks together
    most = min(n_scans, MOST_SCANS)

    def affordable(scans: int) -> int:
        return int(budget / (3 * scans + n_labeled))  # views are drawn besides, which costs as much again

    scans = min(look_at or most, most)
    while look_at is None and scans > min(most, FEWEST_SCANS) and affordable(scans) < MOST_CHECKS // 2:
        scans = max(scans // 2, min(most, FEWEST_SCANS))
    checks = min(MOST_CHECKS, max(FEWEST_CHECKS, affordable(scans)))
    return CheckPlan(scans=scans, every=every or -(-steps // (10 * checks)) * 10)


def evenly(rows: Rows, count: int) -> Rows:
    """At most `count` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64)]
