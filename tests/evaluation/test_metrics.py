import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from medtl.evaluation import metrics

# Few distinct values, so that ties are common.
scores = st.integers(0, 8).map(lambda k: k / 8)
labels = st.sampled_from([0.0, 1.0])
scans = st.integers(1, 40).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=labels), arrays(np.float64, n, elements=scores))
)


def auroc_by_pairs(y: np.ndarray, p: np.ndarray) -> float:
    pairs = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    return sum(pairs) / len(pairs) if pairs else math.nan


def ap_by_thresholds(y: np.ndarray, p: np.ndarray) -> float:
    total, recall = 0.0, 0.0
    for threshold in sorted(set(p), reverse=True):
        flagged = p >= threshold
        here = (flagged & (y == 1)).sum() / (y == 1).sum()
        total += (here - recall) * (y[flagged] == 1).mean()
        recall = here
    return total


@given(scans)
def test_auroc_is_the_share_of_pairs_in_the_right_order(sample):
    y, p = sample
    # Both are sums of halves over whole numbers, so only rounding separates them.
    assert metrics.auroc(y, p) == pytest.approx(auroc_by_pairs(y, p), abs=1e-12, nan_ok=True)


@given(scans)
def test_average_precision_is_the_precision_at_each_step_in_recall(sample):
    y, p = sample
    expected = ap_by_thresholds(y, p) if metrics.both_classes(y) else math.nan
    assert metrics.average_precision(y, p) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_auroc_of_binormal_scores_is_the_closed_form(binormal):
    y, p, _ = binormal(40_000, 1.3, seed=0)
    # 0.0025 is one standard error at this size (Hanley & McNeil 1982); four of them never fail by chance.
    assert metrics.auroc(y, p) == pytest.approx(norm.cdf(1.3 / math.sqrt(2)), abs=0.01)


@given(scans, scores)
def test_sensitivity_and_specificity_count_scans(sample, threshold):
    y, p = sample
    sensitivity, specificity = metrics.sensitivity_specificity(y, p, threshold)
    found = [score >= threshold for score, label in zip(p, y, strict=True) if label == 1]
    passed = [score < threshold for score, label in zip(p, y, strict=True) if label == 0]
    assert sensitivity == pytest.approx(sum(found) / len(found) if found else math.nan, nan_ok=True)
    assert specificity == pytest.approx(sum(passed) / len(passed) if passed else math.nan, nan_ok=True)


def test_a_score_on_the_threshold_is_flagged():
    assert metrics.sensitivity_specificity(np.array([1.0]), np.array([0.5]), 0.5)[0] == 1


def test_brier_by_hand():
    assert metrics.brier(np.array([1.0, 0.0]), np.array([0.8, 0.4])) == pytest.approx((0.04 + 0.16) / 2)


@given(scans)
def test_ece_is_the_weighted_gap_over_fifteen_bins(sample):
    y, p = sample
    total = 0.0
    for m in range(1, 16):
        inside = (p > (m - 1) / 15) & (p <= m / 15) | ((m == 1) & (p == 0))
        if inside.any():
            total += inside.sum() / len(y) * abs(p[inside].mean() - y[inside].mean())
    assert metrics.ece(y, p) == pytest.approx(total, abs=1e-12)


def test_ece_of_perfect_and_of_overconfident_probabilities():
    random = np.random.default_rng(0)
    p = random.random(100_000)
    y = (random.random(100_000) < p).astype(float)
    assert metrics.ece(y, p) < 0.01
    # Saying 1 of a coin is wrong by a half.
    assert metrics.ece(np.tile([0.0, 1.0], 50), np.ones(100)) == pytest.approx(0.5)


def test_macro_auroc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    y, p = random.integers(4, size=200), random.dirichlet(np.ones(4), 200)
    assert metrics.macro_auroc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))


def test_macro_auroc_leaves_out_a_class_without_scans():
    y, p = np.array([0, 0, 1, 1]), np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    expected = (metrics.auroc(1.0 * (y == 0), p[:, 0]) + metrics.auroc(1.0 * (y == 1), p[:, 1])) / 2
    assert metrics.macro_auroc(y, p) == pytest.approx(expected)


@pytest.mark.parametrize("y", [np.zeros(5), np.ones(5), np.zeros(0)])
def test_one_class_is_nan_and_not_a_crash(y):
    p = np.linspace(0, 1, len(y))
    assert math.isnan(metrics.auroc(y, p))
    assert math.isnan(metrics.average_precision(y, p))
    assert math.isnan(metrics.macro_auroc(y.astype(int), np.stack([1 - p, p], axis=1)))
    assert any(math.isnan(rate) for rate in metrics.sensitivity_specificity(y, p, 0.5))
