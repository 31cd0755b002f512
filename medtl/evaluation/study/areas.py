"""AUROCs of many detectors on the same test scans, and how they vary when the same other patients are drawn.

Every detector is judged on the same resamples of patients, so that means and differences of whatever is asked for are
sums over arrays, and differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from medtl.evaluation.intervals import RESAMPLES, Estimate, patient_weights, percentile_interval
from medtl.evaluation.metrics import Array, Floats, auroc
from medtl.evaluation.ranking import Ranking


@dataclass(frozen=True)
class Areas:
    """AUROCs of C detectors for F findings.

    Args:
        points: (C, F) on the test scans.
        draws: (C, F, R) on R resamples of their patients; nan where a resample has one class.
    """

    points: Floats
    draws: Floats

    def of(self, detectors: Sequence[int], finding: int | None = None) -> "Areas":
        """Some of the detectors, for one finding or all."""
        some = slice(None) if finding is None else slice(finding, finding + 1)
        return Areas(self.points[list(detectors)][:, some], self.draws[list(detectors)][:, some])

    def mean(self) -> Estimate:
        """Over all detectors and findings."""
        return percentile_interval(float(self.points.mean()), self.draws.mean(axis=(0, 1)))


def difference(ours: Areas, base: Areas) -> Estimate:
    """How much the mean AUROC is above the base's; detectors stand in pairs, such as those with the same labels."""
    return Areas(ours.points - base.points, ours.draws - base.draws).mean()


def resampled_areas(
    y: Array, scores: Sequence[Array], patients: Sequence[str] | Array, *, resamples: int = RESAMPLES, seed: int = 0
) -> Areas:
    """AUROCs, and those of `resamples` draws of patients with replacement.

    Args:
        y: (N, F) 0, 1 or NaN for unknown.
        scores: C arrays (N, F); only the order within a finding matters.
        patients: (N,) patient of each scan.
    """
    known = [~np.isnan(column) for column in y.T]
    columns = [(f, mask, y[mask, f]) for f, mask in enumerate(known)]
    rankings = [[Ranking(labels, each[mask, f]) for f, mask, labels in columns] for each in scores]
    points = np.array([[auroc(labels, each[mask, f]) for f, mask, labels in columns] for each in scores])
    blocks = [np.zeros((len(scores), y.shape[1], 0))]
    for weights in patient_weights(patients, resamples=resamples, seed=seed):
        parts = [weights[:, mask] for mask in known]
        blocks.append(
            np.array([[one.counts(part).auroc() for one, part in zip(row, parts, strict=True)] for row in rankings])
        )
    return Areas(points.astype(np.float64), np.concatenate(blocks, axis=2))


def scores_of(logits: Array, *, exclusive: bool) -> Floats:
    """Logits (N, F) as scores: themselves, or of exclusive findings the logarithm of the softmax."""
    values = np.asarray(logits, np.float64)
    return values - logsumexp(values, axis=1, keepdims=True) if exclusive else values
