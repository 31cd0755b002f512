import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from medtl.evaluation import metrics
from medtl.evaluation.intervals import (
    CELLS,
    ROC_GRID,
    binary_intervals,
    mean_auroc,
    multiclass_intervals,
    paired_difference,
    patient_weights,
    percentile_interval,
)
from medtl.evaluation.ranking import Ranking


def width(estimate) -> float:
    return estimate.high - estimate.low


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 6))
def test_weighted_areas_are_those_of_the_scans_repeated(seed, n, levels):
    random = np.random.default_rng(seed)
    y, p = random.integers(2, size=n), random.integers(levels, size=n) / levels
    weights = random.integers(0, 4, size=(5, n)).astype(float)
    counts = Ranking(y, p).counts(weights)
    for row, auroc, ap in zip(weights.astype(int), counts.auroc(), counts.average_precision(), strict=True):
        many_y, many_p = np.repeat(y, row), np.repeat(p, row)
        assert auroc == pytest.approx(metrics.auroc(many_y, many_p), abs=1e-12, nan_ok=True)
        assert ap == pytest.approx(metrics.average_precision(many_y, many_p), abs=1e-12, nan_ok=True)


def test_weighted_areas_are_scikit_learns_with_sample_weights(binormal):
    y, p, _ = binormal(200, 1.0, seed=1)
    weights = np.random.default_rng(2).integers(0, 5, size=(1, 200)).astype(float)
    counts = Ranking(y, p).counts(weights)
    assert counts.auroc()[0] == pytest.approx(roc_auc_score(y, p, sample_weight=weights[0]))
    assert counts.average_precision()[0] == pytest.approx(average_precision_score(y, p, sample_weight=weights[0]))


def test_patients_are_drawn_whole():
    patients = ["a", "b", "a", "c", "c", "c"]
    (weights,) = patient_weights(patients, resamples=300, seed=0)
    assert weights.shape == (300, 6)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 3:] == weights[:, 3:4]).all()
    # As many patients are drawn as there are.
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    # Each is drawn once on average; the standard error over 300 draws is 0.05.
    assert weights[:, [0, 1, 3]].mean(axis=0) == pytest.approx([1, 1, 1], abs=0.2)


def test_blocks_do_not_change_what_is_drawn(monkeypatch):
    patients = [f"P{i % 7}" for i in range(20)]
    whole = np.concatenate(list(patient_weights(patients, resamples=50, seed=3)))
    monkeypatch.setattr("medtl.evaluation.intervals.CELLS", 60)
    blocks = list(patient_weights(patients, resamples=50, seed=3))
    assert len(blocks) == 17
    assert (np.concatenate(blocks) == whole).all()


def test_the_same_seed_gives_the_same_intervals_in_any_order_of_scans(binormal):
    y, p, patients = binormal(60, 1.0, seed=0, scans_each=2)
    order = np.random.default_rng(0).permutation(len(y))
    first = binary_intervals(y, p, patients, threshold=0.5, resamples=200)
    again = binary_intervals(y[order], p[order], patients[order], threshold=0.5, resamples=200)
    other = binary_intervals(y, p, patients, threshold=0.5, resamples=200, seed=1)
    for name in ("auroc", "ap", "sensitivity", "specificity", "accuracy", "ppv", "npv"):
        one, two = getattr(first, name), getattr(again, name)
        # Sums in another order differ in the last digit.
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high), abs=1e-12)
    assert first.auroc.low != other.auroc.low


def test_intervals_are_those_of_the_slow_bootstrap(binormal):
    """Draw patients and repeat their scans, with other random numbers; compare the quantiles."""
    y, p, patients = binormal(80, 1.0, seed=5, scans_each=2, shared=0.5)
    fast = binary_intervals(y, p, patients, threshold=0.5)
    random, names = np.random.default_rng(99), np.unique(patients)
    rows_of = {name: np.flatnonzero(patients == name) for name in names}
    slow = {"auroc": [], "ap": [], "sensitivity": [], "specificity": [], "accuracy": [], "ppv": [], "npv": []}
    for _ in range(600):
        rows = np.concatenate([rows_of[name] for name in random.choice(names, len(names))])
        label, score, flagged = y[rows], p[rows], p[rows] >= 0.5
        slow["auroc"].append(roc_auc_score(label, score))
        slow["ap"].append(average_precision_score(label, score))
        slow["sensitivity"].append(flagged[label == 1].mean())
        slow["specificity"].append((~flagged[label == 0]).mean())
        slow["accuracy"].append((flagged == (label == 1)).mean())
        slow["ppv"].append(label[flagged].mean())
        slow["npv"].append(1 - label[~flagged].mean())
    for name, draws in slow.items():
        low, high = np.quantile(draws, [0.025, 0.975])
        # An end of the interval wanders by about 5 % of its width from run to run at these numbers of draws.
        assert getattr(fast, name).low == pytest.approx(low, abs=0.2 * (high - low)), name
        assert getattr(fast, name).high == pytest.approx(high, abs=0.2 * (high - low)), name


def test_the_interval_covers_the_truth(binormal):
    """Of 200 simulated tests, about 95 % have the closed-form AUROC within their interval."""
    truth = norm.cdf(1.2 / math.sqrt(2))
    covered = 0
    for seed in range(200):
        y, p, patients = binormal(120, 1.2, seed=seed)
        found = binary_intervals(y, p, patients, threshold=0.5, resamples=300, seed=seed).auroc
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_over_patients_the_interval_covers_where_over_scans_it_does_not(binormal):
    truth = norm.cdf(1.2 / math.sqrt(2))
    by_patient = by_scan = 0
    for seed in range(100):
        y, p, patients = binormal(80, 1.2, seed=1000 + seed, scans_each=4, shared=0.8)
        for ids in (patients, np.arange(len(y))):
            found = binary_intervals(y, p, ids, threshold=0.5, resamples=200, seed=seed).auroc
            inside = found.low <= truth <= found.high
            by_patient += inside if ids is patients else 0
            by_scan += inside if ids is not patients else 0
    assert by_patient >= 88
    assert by_scan <= 80


def test_clustered_scans_make_a_wider_interval_than_pretended_independence(binormal):
    y, p, patients = binormal(100, 1.0, seed=2, scans_each=4, shared=0.8)
    by_patient = binary_intervals(y, p, patients, threshold=0.5)
    by_scan = binary_intervals(y, p, np.arange(len(y)), threshold=0.5)
    assert width(by_patient.auroc) > 1.4 * width(by_scan.auroc)
    assert width(by_patient.sensitivity) > 1.4 * width(by_scan.sensitivity)


def test_the_band_holds_the_curve_and_rises(binormal):
    y, p, patients = binormal(150, 1.0, seed=4)
    found = binary_intervals(y, p, patients, threshold=0.5)
    assert (found.roc_low <= found.roc_high).all()
    assert (np.diff(found.roc_low) >= 0).all() and (np.diff(found.roc_high) >= 0).all()
    counts = Ranking(y, p).counts(np.ones((1, len(y))))
    curve = counts.sensitivity_at(ROC_GRID)[0]
    assert ((found.roc_low <= curve) & (curve <= found.roc_high)).mean() > 0.95


def test_resamples_with_one_class_are_skipped_and_counted():
    y, p = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.2, 0.3, 0.1])
    found = binary_intervals(y, p, list("abcd"), threshold=0.5, resamples=2000)
    # The one positive is never drawn with probability (3/4)^4, and alone with (1/4)^4.
    assert found.one_class / found.resamples == pytest.approx(0.75**4 + 0.25**4, abs=0.04)
    assert found.auroc.value == found.auroc.low == 1


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_only_is_nan_where_both_are_needed(label):
    y, p = np.full(6, label), np.linspace(0, 1, 6)
    found = binary_intervals(y, p, list("abcdef"), threshold=0.5, resamples=100)
    assert found.one_class == 100
    assert math.isnan(found.auroc.value) and math.isnan(found.auroc.low) and math.isnan(found.ap.value)
    assert np.isnan(found.roc_low).all()
    known, unknown = (found.sensitivity, found.specificity) if label else (found.specificity, found.sensitivity)
    assert known.value == 0.5 and known.low < 0.5 < known.high
    assert math.isnan(unknown.value) and math.isnan(unknown.high)


@pytest.mark.parametrize("n", [0, 5])
def test_no_scans_or_one_patient_have_no_interval(n):
    y, p = np.arange(n) % 2, np.linspace(0, 1, n)
    found = binary_intervals(y, p, ["a"] * n, threshold=0.5)
    assert found.resamples == 0
    assert math.isnan(found.accuracy.low) and math.isnan(found.auroc.low)
    assert math.isnan(found.accuracy.value) == (n == 0)


def test_the_middle_95_percent_leaves_out_what_could_not_be_computed():
    found = percentile_interval(50, np.append(np.arange(101.0), [np.nan] * 40))
    assert (found.low, found.high) == (2.5, 97.5)


def test_paired_difference_knows_better_from_equal(binormal):
    y, p, patients = binormal(200, 1.2, seed=7)
    noisy = p + np.random.default_rng(0).normal(0, 0.4, len(p))
    for metric, point in (("auroc", metrics.auroc), ("ap", metrics.average_precision)):
        found = paired_difference(y, p, noisy, patients, metric=metric, resamples=500)
        assert found.value == pytest.approx(point(y, p) - point(y, noisy))
        assert 0 < found.low < found.value < found.high
        turned = paired_difference(y, noisy, p, patients, metric=metric, resamples=500)
        assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
        same = paired_difference(y, p, p, patients, metric=metric, resamples=500)
        assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairing_is_narrower_than_two_separate_intervals(binormal):
    y, p, patients = binormal(200, 1.2, seed=7)
    close = p + np.random.default_rng(0).normal(0, 0.05, len(p))
    paired = paired_difference(y, p, close, patients)
    alone = binary_intervals(y, p, patients, threshold=0.5)
    assert width(paired) < 0.5 * width(alone.auroc)


def test_classes_together_match_their_point_values():
    random = np.random.default_rng(0)
    y, p = random.integers(3, size=150), random.dirichlet(np.ones(3), 150)
    found = multiclass_intervals(y, p, np.arange(150) // 2, resamples=300)
    assert found.accuracy.value == (p.argmax(axis=1) == y).mean()
    assert found.macro_auroc.value == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
    for estimate in (found.accuracy, found.macro_auroc):
        assert estimate.low < estimate.value < estimate.high


def test_no_scan_with_a_class_is_nan():
    found = multiclass_intervals(np.zeros(0, int), np.zeros((0, 3)), [])
    assert math.isnan(found.accuracy.value) and math.isnan(found.macro_auroc.value)


def test_a_thousand_scans_take_less_than_three_seconds(binormal):
    y, p, patients = binormal(500, 1.2, seed=0, scans_each=2)
    start = time.process_time()  # of the processor: the machine that runs the tests may be busy
    binary_intervals(y, p, patients, threshold=0.5)
    assert time.process_time() - start < 3


def test_memory_does_not_grow_with_scans():
    block = next(patient_weights(np.arange(50_000), resamples=2000, seed=0))
    assert block.size <= CELLS


def test_the_mean_over_findings(binormal):
    y, p, patients = binormal(80, 1.0, seed=3)
    z, q, _ = binormal(80, 0.5, seed=4)
    alone = binary_intervals(y, p, patients, threshold=0.5).auroc
    one = mean_auroc(np.stack([y, y], axis=1).astype(float), np.stack([p, p], axis=1), patients)
    assert (one.value, one.low, one.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)
    labels = np.stack([y, z, np.ones(len(y))], axis=1).astype(float)
    labels[:20, 1] = np.nan
    found = mean_auroc(labels, np.stack([p, q, p], axis=1), patients)
    expected = (roc_auc_score(y, p) + roc_auc_score(z[20:], q[20:])) / 2  # the third has one class only
    assert found.value == pytest.approx(expected) and found.low < found.value < found.high
    assert np.isnan(mean_auroc(labels[:, 2:], p[:, None], patients).value)
