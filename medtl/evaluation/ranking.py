"""ROC and precision-recall areas of thousands of resamples, from one sort.

To draw patients with replacement is to give each scan a whole-number weight. The order of the scores stays the same
under every weighting, so scans are sorted once and each resample costs one pass.
"""

from dataclasses import dataclass

import numpy as np

from medtl.evaluation.metrics import Array, Floats


@dataclass(frozen=True)
class Counts:
    """True and false positives at every distinct threshold, from "nothing flagged" to "everything flagged".

    Args:
        tp: (R, K+1) weighted true positives per resample, K distinct scores.
        fp: (R, K+1) weighted false positives.
    """

    tp: Floats
    fp: Floats

    def auroc(self) -> Floats:
        """(R,) trapezoids under the ROC curve, so that a tie counts half; nan where a resample has one class."""
        area = (np.diff(self.fp) * (self.tp[:, 1:] + self.tp[:, :-1])).sum(axis=1) / 2
        return ratio(area, self.tp[:, -1] * self.fp[:, -1])

    def average_precision(self) -> Floats:
        """(R,) precision at each step up in recall; nan where a resample has one class."""
        precision = ratio(self.tp, self.tp + self.fp, empty=0.0)
        area = (np.diff(self.tp) * precision[:, 1:]).sum(axis=1)
        return np.where(self.fp[:, -1] > 0, ratio(area, self.tp[:, -1]), np.nan)

    def sensitivity_at(self, false_positive_rate: Floats) -> Floats:
        """(R', G) height of the ROC curves at the given rates, for the R' resamples that have both classes."""
        rows = np.flatnonzero((self.tp[:, -1] > 0) & (self.fp[:, -1] > 0))
        heights = [
            np.interp(false_positive_rate, self.fp[r] / self.fp[r, -1], self.tp[r] / self.tp[r, -1]) for r in rows
        ]
        return np.array(heights).reshape(len(rows), len(false_positive_rate))


class Ranking:
    """Scans of one finding, sorted by score.

    Args:
        y: (N,) 0 or 1.
        p: (N,) scores.
    """

    def __init__(self, y: Array, p: Array) -> None:
        self._order = np.argsort(-p, kind="stable")
        ranked = p[self._order]
        self._positive = y[self._order] == 1
        self._last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def counts(self, weights: Floats) -> Counts:
        """Count under `weights` (R, N), given in the order of the scans as they came."""
        ranked = weights[:, self._order]
        tp = np.cumsum(ranked * self._positive, axis=1)[:, self._last_of_tie]
        fp = np.cumsum(ranked * ~self._positive, axis=1)[:, self._last_of_tie]
        start = np.zeros((len(weights), 1))
        return Counts(tp=np.hstack([start, tp]), fp=np.hstack([start, fp]))


def ratio(above: Array, below: Array, *, empty: float = np.nan) -> Floats:
    """`above / below`, and `empty` where `below` is 0."""
    result: Floats = np.divide(above, below, out=np.full(np.shape(below), empty), where=np.asarray(below) > 0)
    return result
