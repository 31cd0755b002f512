"""Which answers a probability leaves open: conformal sets with the same promise to both kinds of scan.

Scans with the finding and scans without it are each held to the same rate of error, whatever the prevalence
(class-conditional, "Mondrian" split conformal prediction: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a
Random World", sec. 4.5; Angelopoulos & Bates 2021, arXiv 2107.07511, sec. 4.2). A label's score is its probability
(Sadinle, Lei & Wasserman 2019, arXiv 1609.00451). The sizes that adaptive scores even out (Romano, Sesia & Candès 2020,
arXiv 2006.02544) are those of sets from many classes; here there are two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from medtl.evaluation.intervals import RESAMPLES, Estimate, patient_weights, percentile_interval
from medtl.evaluation.metrics import Array
from medtl.evaluation.ranking import ratio

Bools = npt.NDArray[np.bool_]
ERROR = 0.1
"""Of scans with a finding, and of scans without it, so many may have an answer that is wrong."""
LEAST = 9
"""With fewer scans of a class no probability can be ruled out for it: 1 / (LEAST + 1) is `ERROR`."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Where the answer of one finding stays open, around an operating point.

    A scan is uncertain where it is flagged although scans without the finding had as much, or is not flagged although
    scans with it had as little. Elsewhere the answer is the side of the operating point. The set of answers is
    therefore the conformal one and that side, so that it is never empty and covers no less.

    Args:
        lowest_present: a lower probability is too low for a scan with the finding, but for a share `error` of them.
        highest_absent: a higher one is too high for a scan without it, likewise.
        error: 0 to 1.
        n_present, n_absent: how many scans with and without the finding both were chosen from.

    Raises:
        ValueError: a number out of its range.
    """

    lowest_present: float
    highest_absent: float
    error: float
    n_present: int
    n_absent: int

    def __post_init__(self) -> None:
        shares = (self.lowest_present, self.highest_absent, self.error)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"{shares}: expected numbers from 0 to 1")
        if min(self.n_present, self.n_absent) < 1:
            raise ValueError(f"chosen from {self.n_present} and {self.n_absent} scans; expected some of each")

    def uncertain(self, p: Array, threshold: float) -> Bools:
        """Where both answers stay open: (N,) of probabilities (N,)."""
        p = np.asarray(p)
        return np.where(p >= threshold, p <= self.highest_absent, p >= self.lowest_present)

    def covers(self, y: Array, p: Array, threshold: float) -> Bools:
        """Where the truth (N,) is among the answers."""
        return np.asarray(((p >= threshold) == (y == 1)) | self.uncertain(p, threshold))

    def limits(self, threshold: float) -> tuple[float, float] | None:
        """The least and the greatest probability that is uncertain; None where none is."""
        low, high = min(self.lowest_present, threshold), max(self.highest_absent, threshold)
        return (low, high) if low < high else None


def conformal_band(y: Array, p: Array, *, error: float = ERROR) -> Band | None:
    """The band from scans that the network was not fitted to.

    Of a class with n such scans the k = floor(error (n + 1)) most unlike it are given up: a new scan is as likely to
    rank at any of the n + 1 places, so that it lies beyond the k-th with a chance of at most k / (n + 1). This holds
    on average over draws of these scans, if a new scan is drawn as they were; see `coverage_range`.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities, or anything that grows with them.

    Returns:
        None where a class has too few scans.
    """
    present, absent = np.sort(p[y == 1]), np.sort(p[y == 0])[::-1]
    cut = [_given_up(len(scores), error) for scores in (present, absent)]
    if min(cut) < 1:
        return None
    return Band(
        lowest_present=float(present[cut[0] - 1]),
        highest_absent=float(absent[cut[1] - 1]),
        error=error,
        n_present=len(present),
        n_absent=len(absent),
    )


def coverage_range(n: int, *, error: float = ERROR) -> tuple[float, float]:
    """Where the share of new scans of a class with the truth among their answers lies in 95 of 100 draws of n scans.

    Beta(n + 1 - k, k): Vovk 2012, "Conditional validity of inductive conformal predictors"; Angelopoulos & Bates
    2021, sec. 3.2.
    """
    k = _given_up(n, error)
    low, high = beta.ppf([0.025, 0.975], n + 1 - k, k)
    return float(low), float(high)


def _given_up(n: int, error: float) -> int:
    return int(np.floor(error * (n + 1) + 1e-9))


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """How the sets did on labeled scans, with 95 % intervals.

    Args:
        band: which sets.
        coverage: share of scans with the truth among their answers.
        covered_present, covered_absent: the same of scans with the finding, and of those without.
        uncertain: share of scans with both answers.
        right: share of the others whose answer is right.
    """

    band: Band
    coverage: Estimate
    covered_present: Estimate
    covered_absent: Estimate
    uncertain: Estimate
    right: Estimate


def set_result(
    y: Array,
    p: Array,
    patients: Sequence[str] | Array,
    *,
    band: Band,
    threshold: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SetResult:
    """Coverage and share of uncertain scans, with intervals over patients.

    Args:
        y: (N,) 0 or 1.
        p: (N,) probabilities.
        patients: (N,) patient of each scan.
        threshold: the operating point.
        resamples, seed: of the bootstrap.
    """
    present, covered, uncertain = y == 1, band.covers(y, p, threshold), band.uncertain(p, threshold)
    parts = {
        "coverage": (covered, np.ones(len(y), bool)),
        "covered_present": (covered & present, present),
        "covered_absent": (covered & ~present, ~present),
        "uncertain": (uncertain, np.ones(len(y), bool)),
        "right": (covered & ~uncertain, ~uncertain),
    }
    # Columns: what is counted and of what, one pair after the other.
    groups = np.stack([column for pair in parts.values() for column in pair], axis=1).astype(np.float64)
    drawn = [np.zeros((0, groups.shape[1]))]
    drawn += [weights @ groups for weights in patient_weights(patients, resamples=resamples, seed=seed)]
    totals, draws = groups.sum(axis=0, keepdims=True), np.concatenate(drawn)
    return SetResult(
        band=band,
        **{
            name: percentile_interval(
                float(ratio(totals[:, 2 * i], totals[:, 2 * i + 1])[0]), ratio(draws[:, 2 * i], draws[:, 2 * i + 1])
            )
            for i, name in enumerate(parts)
        },
    )


def uncertain_words(band: Band | None, threshold: float) -> str:
    """Where a finding is uncertain, in a sentence's part."""
    if band is None:
        return f"uncertain is never said: that takes {LEAST} scans with and {LEAST} without to calibrate with"
    limits = band.limits(threshold)
    return f"uncertain from {limits[0]:.3f} to {limits[1]:.3f}" if limits else "no probability is uncertain"
