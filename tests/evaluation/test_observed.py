"""Scans of like probability: grouped by order, counted, and silent where they do not support a sentence."""

from itertools import pairwise

import numpy as np
import pytest

from medtl.evaluation.observed import LEAST_SCANS, MOST_GROUPS, Observed, like, observed


@pytest.mark.parametrize("n", [20, 39, 40, 61, 250, 5000])
@pytest.mark.parametrize("decimals", [1, 9])
def test_groups_hold_all_scans_once(n, decimals):
    random = np.random.default_rng(n)
    p = random.random(n).round(decimals)
    y = (random.random(n) < p).astype(int)
    groups = observed(y, p)
    assert 1 <= len(groups) <= MOST_GROUPS and sum(group.count for group in groups) == n
    assert min(group.count for group in groups) >= LEAST_SCANS
    for group, after in pairwise(groups):
        assert group.highest < after.lowest
    for group in groups:
        inside = (p >= group.lowest) & (p <= group.highest)
        assert (group.count, group.positives) == (inside.sum(), y[inside].sum())


def test_few_scans_support_nothing():
    assert observed(np.ones(19), np.linspace(0, 1, 19)) == ()
    assert observed(np.ones(0), np.ones(0)) == ()
    assert like((), 0.5) is None


def test_the_nearest_scans_speak_where_they_are_alike():
    groups = (
        Observed(lowest=0.02, highest=0.1, positives=1, count=20),
        Observed(lowest=0.2, highest=0.3, positives=5, count=20),
        Observed(lowest=0.35, highest=0.95, positives=15, count=20),
    )
    assert like(groups, 0.01) is None and like(groups, 0.96) is None, "nothing of the kind was seen"
    assert like(groups, 0.02) is groups[0] and like(groups, 0.14) is groups[0]
    assert like(groups, 0.16) is groups[1] and like(groups, 0.25) is groups[1]
    assert like(groups, 0.5) is None, "scans from 35 to 95 % are not alike"


def test_the_interval_is_wilsons():
    # 10 of 50: centre (10 + z^2/2) / (50 + z^2), z = 1.96; worked by hand.
    low, high = Observed(lowest=0.1, highest=0.2, positives=10, count=50).interval()
    assert (low, high) == (pytest.approx(0.1124, abs=5e-4), pytest.approx(0.3304, abs=5e-4))


@pytest.mark.parametrize("change", [{"lowest": 0.9}, {"positives": 6}, {"count": 0}])
def test_valid_once_constructed(change):
    with pytest.raises(ValueError, match="scans from"):
        Observed(**{"lowest": 0.1, "highest": 0.2, "positives": 5, "count": 5} | change)
