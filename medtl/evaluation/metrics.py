"""How good are scores? One number each, for scans whose label is known.

Labels are 0 or 1; scans with an unknown label are left out by the caller. Where the scans have one class only, a
measure that needs both is nan: not computable, rather than good or bad.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
NAN = float("nan")
ECE_BINS = 15


def both_classes(y: Array) -> bool:
    """Whether there is at least one positive and one negative scan."""
    return bool((y == 1).any() and (y == 0).any())


def auroc(y: Array, p: Array) -> float:
    """Area under the ROC curve: the chance that a random positive scores above a random negative, a tie counting half.

    Hanley & McNeil 1982, doi 10.1148/radiology.143.1.7063747.

    Args:
        y: (N,) 0 or 1.
        p: (N,) scores; only their order matters.
    """
    return float(sk.roc_auc_score(y, p)) if both_classes(y) else NAN


def average_precision(y: Array, p: Array) -> float:
    """Area under the precision-recall curve as a step function, without interpolation (scikit-learn's definition).

    Args:
        y: (N,) 0 or 1.
        p: (N,) scores.
    """
    return float(sk.average_precision_score(y, p)) if both_classes(y) else NAN


def sensitivity_specificity(y: Array, p: Array, threshold: float) -> tuple[float, float]:
    """Share of positives that are flagged, and of negatives that are not. A scan is flagged where p >= threshold.

    Args:
        y: (N,) 0 or 1.
        p: (N,) scores.
        threshold: the operating point.
    """
    flagged = p >= threshold
    positive, negative = y == 1, y == 0
    return (
        float(flagged[positive].mean()) if positive.any() else NAN,
        float((~flagged[negative]).mean()) if negative.any() else NAN,
    )


def brier(y: Array, p: Array) -> float:
    """Mean squared distance of the probability from the label (Brier 1950); 0 is perfect.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.
    """
    return float(np.mean((p - y) ** 2)) if len(y) else NAN


def ece(y: Array, p: Array) -> float:
    """Expected calibration error over 15 bins of equal width (Guo 2017, arXiv 1706.04599, eq. 3).

    Departure: the probability of the finding takes the place of the confidence in the predicted class, because it is
    what a reader is shown. Over few scans it is biased upwards: empty and sparse bins miss by chance.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.
    """
    if len(y) == 0:
        return NAN
    inside = bin_of(p, ECE_BINS)
    gap = np.bincount(inside, weights=p - y, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(y))


def bin_of(p: Array, bins: int) -> npt.NDArray[np.int64]:
    """Which of `bins` equal intervals ((m-1)/bins, m/bins] holds each probability; 0 belongs to the first."""
    inside: npt.NDArray[np.int64] = np.clip(np.ceil(np.asarray(p) * bins).astype(np.int64) - 1, 0, bins - 1)
    return inside


def macro_auroc(y: Array, p: Array) -> float:
    """Mean over classes of the AUROC of that class against the rest, each class counting the same.

    A class without a scan has no AUROC and is left out of the mean.

    Args:
        y: (N,) class numbers, 0 to C-1.
        p: (N, C) probabilities.
    """
    if len(np.unique(y)) < 2:
        return NAN
    return float(np.mean([auroc((y == c).astype(np.int64), p[:, c]) for c in np.unique(y)]))
