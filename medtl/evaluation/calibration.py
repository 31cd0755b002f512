"""From scores to probabilities that mean what they say, and from probabilities to a decision."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binomtest

from medtl.evaluation.metrics import Array, bin_of, both_classes

TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(logits: Array, y: Array) -> float:
    """The temperature T with which sigmoid(logits / T) fits the labels best (Guo 2017, arXiv 1706.04599, sec. 4.2).

    Minimises the negative log-likelihood for T in 0.05 to 20. Where the logits separate the classes without error the
    likelihood has no optimum and T is the lower bound.

    Args:
        logits: (N,) of one finding.
        y: (N,) 0 or 1.

    Returns:
        T; 1 where `y` has one class only, because it then says nothing about T.
    """
    if not both_classes(y):
        return 1.0
    toward_truth = np.where(y == 1, logits, -logits).astype(np.float64)
    return _best_temperature(lambda t: float(np.logaddexp(0, -toward_truth / t).mean()))


def fit_temperature_multiclass(logits: Array, y: Array) -> float:
    """The temperature T with which softmax(logits / T) fits the labels best (Guo 2017, sec. 4.2, eq. 9).

    Args:
        logits: (N, C).
        y: (N,) class numbers, 0 to C-1.

    Returns:
        T in 0.05 to 20; 1 where `y` has one class only.
    """
    if len(np.unique(y)) < 2:
        return 1.0
    logits = logits.astype(np.float64)
    truth = logits[np.arange(len(y)), y.astype(np.int64)]
    return _best_temperature(lambda t: float((logsumexp(logits / t, axis=1) - truth / t).mean()))


def _best_temperature(loss: Callable[[float], float]) -> float:
    # The loss is convex in 1/T, so it has one valley in log T as well, where the search steps are even.
    low, high = np.log(TEMPERATURE_RANGE)
    best = minimize_scalar(lambda log_t: loss(np.exp(log_t)), bounds=(low, high), method="bounded")
    # The search never tries the bounds themselves.
    return float(np.exp(min([low, float(best.x), high], key=lambda log_t: loss(np.exp(log_t)))))


def operating_point(y: Array, p: Array) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950); flagged is p >= threshold.

    It lies midway between the two neighbouring scores, so that a change in the last digit decides nothing. Of equally
    good thresholds the lowest is taken: the one that misses fewest.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.

    Returns:
        The threshold; 0.5 where `y` has one class only.
    """
    if not both_classes(y):
        return 0.5
    scores, which = np.unique(np.asarray(p, dtype=np.float64), return_inverse=True)
    positives = np.bincount(which, weights=y == 1)
    negatives = np.bincount(which, weights=y == 0)
    # At or above the k-th score; Youden's J times both class sizes is a whole number, so that ties are exact.
    flagged_positives = positives[::-1].cumsum()[::-1]
    flagged_negatives = negatives[::-1].cumsum()[::-1]
    youden = flagged_positives * negatives.sum() - flagged_negatives * positives.sum()
    k = int(youden.argmax())
    below = scores[k - 1] if k else min(0.0, scores[0])
    middle = float((below + scores[k]) / 2)
    # Neighbouring floats have nothing between them: the middle must not fall on the lower one.
    return middle if middle > below else float(scores[k])


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Scans of like probability.

    Args:
        mean_predicted: mean probability of the scans in the bin.
        observed: share of them that are positive.
        count: how many scans.
        low, high: 95 % Wilson interval of `observed`.
    """

    mean_predicted: float
    observed: float
    count: int
    low: float
    high: float


def reliability(y: Array, p: Array, bins: int = 10) -> list[ReliabilityBin]:
    """What was predicted against what was seen, in bins of equal width; empty bins are left out.

    The Wilson interval (Wilson 1927) takes scans as independent.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.
        bins: how many.
    """
    inside = bin_of(p, bins)
    found = []
    for m in np.unique(inside):
        here = inside == m
        positives, count = int(y[here].sum()), int(here.sum())
        interval = binomtest(positives, count).proportion_ci(method="wilson")
        found.append(
            ReliabilityBin(
                mean_predicted=float(p[here].mean()),
                observed=positives / count,
                count=count,
                low=float(interval.low),
                high=float(interval.high),
            )
        )
    return found
