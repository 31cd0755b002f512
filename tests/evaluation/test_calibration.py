import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve

from medtl.evaluation import metrics
from medtl.evaluation.calibration import (
    fit_temperature,
    fit_temperature_multiclass,
    operating_point,
    reliability,
)

samples = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.booleans(), min_size=n, max_size=n), st.lists(st.floats(0, 1), min_size=n, max_size=n)
    )
)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_recovered(true):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    y = (random.random(20_000) < expit(logits)).astype(int)
    # Labels follow sigmoid(logits); a network that says `true` times as much needs the temperature `true`.
    # Fitting on 20,000 scans has a relative standard error of about 1.5 %.
    assert fit_temperature(logits * true, y) == pytest.approx(true, rel=0.06)


@pytest.mark.parametrize("true", [0.5, 3.0])
def test_a_known_multiclass_temperature_is_recovered(true):
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (10_000, 4))
    y = (softmax(logits, axis=1).cumsum(axis=1) < random.random((10_000, 1))).sum(axis=1)
    assert fit_temperature_multiclass(logits * true, y) == pytest.approx(true, rel=0.06)


def test_no_temperature_on_a_fine_grid_fits_better():
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, 60)
    y = (random.random(60) < expit(logits / 2.5)).astype(int)
    grid = np.geomspace(0.05, 20, 2000)
    p = np.where(y == 1, expit(logits / grid[:, None]), expit(-logits / grid[:, None]))  # (2000, 60)
    best = grid[np.log(p).mean(axis=1).argmax()]
    # The grid's own step is 0.3 %.
    assert fit_temperature(logits, y) == pytest.approx(best, rel=0.005)
    both = np.stack([np.zeros(60), logits], axis=1)
    assert fit_temperature_multiclass(both, y) == pytest.approx(fit_temperature(logits, y), rel=1e-4)


def test_the_temperature_stays_within_its_bounds():
    y = np.array([0, 0, 1, 1])
    assert fit_temperature(np.array([-1.0, -2, 1, 2]), y) == pytest.approx(0.05)
    assert fit_temperature(np.array([1.0, 2, -1, -2]), y) == pytest.approx(20)
    # Logits as large as a network's never overflow.
    assert fit_temperature(np.array([-3e4, 2e4, 3e4, -1e4], np.float32), y) == pytest.approx(20)


def test_one_class_says_nothing_about_temperature_or_threshold():
    for y in (np.zeros(4), np.ones(4)):
        assert fit_temperature(np.arange(4.0), y) == 1
        assert operating_point(y, np.linspace(0, 1, 4)) == 0.5
    assert fit_temperature_multiclass(np.eye(3), np.zeros(3, int)) == 1


def youden(y, p, threshold):
    sensitivity, specificity = metrics.sensitivity_specificity(y, p, threshold)
    return sensitivity + specificity - 1


@settings(deadline=None)
@given(samples)
def test_no_threshold_is_better_and_none_as_good_misses_fewer(sample):
    y, p = np.array(sample[0], float), np.array(sample[1])
    if not metrics.both_classes(y):
        return
    threshold = operating_point(y, p)
    best = youden(y, p, threshold)
    for other in [*p, 2.0]:
        # J is a difference of fractions of at most 40 scans: anything below 1e-9 is rounding.
        assert youden(y, p, other) <= best + 1e-9
        if youden(y, p, other) > best - 1e-9:
            assert metrics.sensitivity_specificity(y, p, threshold)[0] >= (
                metrics.sensitivity_specificity(y, p, other)[0] - 1e-9
            )


@settings(deadline=None)
@given(samples)
def test_the_threshold_lies_midway_between_neighbours(sample):
    y, p = np.array(sample[0], float), np.array(sample[1])
    if not metrics.both_classes(y):
        return
    threshold = operating_point(y, p)
    above, below = p[p >= threshold], p[p < threshold]
    assert len(above), "a threshold that flags nothing is no operating point"
    assert 0 <= threshold <= 1
    lower = below.max() if len(below) else 0.0
    assert threshold == pytest.approx((lower + above.min()) / 2) or threshold == above.min()


def test_threshold_by_hand():
    y = np.array([0, 0, 1, 0, 1, 1])
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
    # From 0.3 up: 3 of 3 and 2 of 3 right; from 0.6 up: 2 of 3 and 3 of 3. Equal: the sensitive one.
    assert operating_point(y, p) == pytest.approx(0.25)


def test_neighbouring_floats_leave_the_lower_one_out():
    low = 0.3
    for _ in range(2):  # the middle is rounded up for the one pair, down for the other
        high = math.nextafter(low, 1)
        assert low < operating_point(np.array([0, 1]), np.array([low, high])) <= high
        low = high


def test_a_worse_than_chance_detector_flags_everything():
    assert operating_point(np.array([1, 1, 0, 0]), np.array([0.2, 0.3, 0.7, 0.8])) == pytest.approx(0.1)


def test_reliability_is_scikit_learns_with_counts(binormal):
    y, p, _ = binormal(500, 1.0, seed=0)
    bins = reliability(y, p)
    observed, predicted = calibration_curve(y, p, n_bins=10)
    assert [each.observed for each in bins] == pytest.approx(observed.tolist())
    assert [each.mean_predicted for each in bins] == pytest.approx(predicted.tolist())
    assert sum(each.count for each in bins) == 500


def test_wilson_interval_is_the_closed_form():
    (only,) = reliability(np.array([1.0] * 8 + [0.0] * 2), np.full(10, 0.75))
    z, n, rate = 1.959964, 10, 0.8
    center = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    assert (only.low, only.high) == pytest.approx((center - half, center + half), abs=1e-6)
    assert (only.count, only.observed, only.mean_predicted) == (10, 0.8, 0.75)


def test_bins_hold_their_upper_edge_and_the_first_holds_zero():
    bins = reliability(np.zeros(4), np.array([0.0, 0.1, 0.11, 1.0]))
    assert [each.count for each in bins] == [2, 1, 1]
