"""How far can a number be trusted? Percentile bootstrap intervals (95 %) over patients.

Scans of one patient resemble each other, so the patient, not the scan, is drawn with replacement (Efron & Tibshirani
1993, ch. 13 for percentile intervals; Field & Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x for whole clusters).
The same seed gives the same intervals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medtl.evaluation import metrics
from medtl.evaluation.metrics import Array, Floats
from medtl.evaluation.ranking import Ranking, ratio

RESAMPLES = 2000
TAILS = (0.025, 0.975)
ROC_GRID: Floats = np.linspace(0, 1, 101)
CELLS = 2_000_000
"""Weights held at once: bounds memory to some 100 MB however many scans there are."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; nan where it cannot be computed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BinaryIntervals:
    """What the resamples say about one finding.

    Args:
        auroc, ap, sensitivity, specificity, accuracy, ppv, npv: with intervals.
        roc_low, roc_high: (G,) pointwise 95 % band of the sensitivity at false-positive rates `ROC_GRID`.
        one_class: how many resamples held positives only or negatives only and were skipped.
        resamples: how many were drawn.
    """

    auroc: Estimate
    ap: Estimate
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate
    ppv: Estimate
    npv: Estimate
    roc_low: Floats
    roc_high: Floats
    one_class: int
    resamples: int


def patient_weights(patients: Sequence[str] | Array, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks (r, N) of weights: how often each scan's patient was drawn in each of r resamples.

    Fewer than two patients yield nothing: they say nothing about how patients differ.

    Args:
        patients: (N,) patient of each scan.
        resamples: how many to draw in all.
        seed: equal seeds draw equal resamples, whatever the order of the scans.
    """
    names, patient_of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(names) < 2:
        return
    random = np.random.default_rng(seed)
    block = max(1, CELLS // max(1, len(patient_of)))
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = random.integers(len(names), size=(rows, len(names))) + np.arange(rows)[:, None] * len(names)
        times = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, len(names))
        yield times[:, patient_of].astype(np.float64)


def percentile_interval(value: float, draws: Array) -> Estimate:
    """The middle 95 % of `draws` around `value`, leaving out draws in which it could not be computed."""
    usable = draws[np.isfinite(draws)]
    if len(usable) == 0 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(usable, TAILS)
    return Estimate(value, float(low), float(high))


def binary_intervals(
    y: Array,
    p: Array,
    patients: Sequence[str] | Array,
    *,
    threshold: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BinaryIntervals:
    """All measures of one finding with intervals, from one set of resamples.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.
        patients: (N,) patient of each scan.
        threshold: the operating point; a scan is flagged where p >= threshold.
        resamples: how many bootstrap samples.
        seed: of the resampling.
    """
    positive, flagged = y == 1, p >= threshold
    # Columns: positives, negatives, true positives, true negatives, flagged, not flagged.
    groups = np.stack(
        [positive, ~positive, positive & flagged, ~positive & ~flagged, flagged, ~flagged], axis=1
    ).astype(np.float64)
    ranking = Ranking(y, p)
    areas = [np.zeros((0, 2))]
    totals = [np.zeros((0, groups.shape[1]))]
    curves = [np.zeros((0, len(ROC_GRID)))]
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        counts = ranking.counts(weights)
        areas.append(np.stack([counts.auroc(), counts.average_precision()], axis=1))
        totals.append(weights @ groups)
        curves.append(counts.sensitivity_at(ROC_GRID))
    drawn, area, curve = np.concatenate(totals), np.concatenate(areas), np.concatenate(curves)
    band = np.quantile(curve, TAILS, axis=0) if len(curve) else np.full((2, len(ROC_GRID)), np.nan)
    rates = _rates(drawn)
    values = _rates(groups.sum(axis=0, keepdims=True))
    return BinaryIntervals(
        auroc=percentile_interval(metrics.auroc(y, p), area[:, 0]),
        ap=percentile_interval(metrics.average_precision(y, p), area[:, 1]),
        roc_low=band[0],
        roc_high=band[1],
        one_class=len(drawn) - len(curve),
        resamples=len(drawn),
        **{name: percentile_interval(float(values[name][0]), draws) for name, draws in rates.items()},
    )


def _rates(totals: Floats) -> dict[str, Floats]:
    positives, negatives, true_positives, true_negatives, flagged, passed = totals.T
    return {
        "sensitivity": ratio(true_positives, positives),
        "specificity": ratio(true_negatives, negatives),
        "accuracy": ratio(true_positives + true_negatives, positives + negatives),
        "ppv": ratio(true_positives, flagged),
        "npv": ratio(true_negatives, passed),
    }


@dataclass(frozen=True, kw_only=True)
class MulticlassIntervals:
    """Measures over all classes of a detector whose findings exclude each other, with intervals."""

    accuracy: Estimate
    macro_auroc: Estimate


def multiclass_intervals(
    y: Array, p: Array, patients: Sequence[str] | Array, *, resamples: int = RESAMPLES, seed: int = 0
) -> MulticlassIntervals:
    """Accuracy of the most probable class, and macro AUROC over the classes that occur in `y`.

    A resample that misses a class which `y` has is skipped for the macro AUROC.

    Args:
        y: (N,) class numbers, 0 to C-1.
        p: (N, C) probabilities.
        patients: (N,) patient of each scan.
        resamples: how many bootstrap samples.
        seed: of the resampling.
    """
    right = (p.argmax(axis=1) == y).astype(np.float64)
    rankings = [Ranking((y == c).astype(np.int64), p[:, c]) for c in np.unique(y)]
    accuracy, macro = [np.zeros(0)], [np.zeros(0)]
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        accuracy.append(weights @ right / weights.sum(axis=1))
        macro.append(np.mean([ranking.counts(weights).auroc() for ranking in rankings], axis=0))
    return MulticlassIntervals(
        accuracy=percentile_interval(float(right.mean()) if len(y) else np.nan, np.concatenate(accuracy)),
        macro_auroc=percentile_interval(metrics.macro_auroc(y, p), np.concatenate(macro)),
    )


def mean_auroc(
    labels: Array, p: Array, patients: Sequence[str] | Array, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean AUROC over findings, each on the scans whose label is known.

    A resample in which one of them has one class only is skipped.

    Args:
        labels: (N, F) 0, 1 or NaN; a finding with one class only does not count.
        p: (N, F) probabilities.
        patients: (N,) patient of each scan.
        resamples: how many bootstrap samples.
        seed: of the resampling.
    """
    columns = [(~np.isnan(y), y, scores) for y, scores in zip(labels.T, p.T, strict=True)]
    columns = [(known, y[known], scores[known]) for known, y, scores in columns if metrics.both_classes(y[known])]
    if not columns:
        return Estimate(np.nan, np.nan, np.nan)
    rankings = [(known, Ranking(y, scores)) for known, y, scores in columns]
    draws = [np.zeros(0)]
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        draws.append(np.mean([ranking.counts(weights[:, known]).auroc() for known, ranking in rankings], axis=0))
    value = float(np.mean([metrics.auroc(y, scores) for _, y, scores in columns]))
    return percentile_interval(value, np.concatenate(draws))


def paired_difference(
    y: Array,
    p_a: Array,
    p_b: Array,
    patients: Sequence[str] | Array,
    *,
    metric: Literal["auroc", "ap"] = "auroc",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """How much better a is than b on the same scans: metric(a) - metric(b), both from the same resamples.

    An interval that leaves out 0 is evidence that one is better; overlapping single intervals are not evidence that
    neither is.

    Args:
        y: (N,) 0 or 1.
        p_a: (N,) scores of the one detector.
        p_b: (N,) scores of the other, of the same scans in the same order.
        patients: (N,) patient of each scan.
        metric: "auroc" or "ap" (average precision).
        resamples: how many bootstrap samples.
        seed: of the resampling.
    """
    point = metrics.auroc if metric == "auroc" else metrics.average_precision
    first, second = Ranking(y, p_a), Ranking(y, p_b)
    draws = [np.zeros(0)]
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        a, b = first.counts(weights), second.counts(weights)
        draws.append(a.auroc() - b.auroc() if metric == "auroc" else a.average_precision() - b.average_precision())
    return percentile_interval(point(y, p_a) - point(y, p_b), np.concatenate(draws))
