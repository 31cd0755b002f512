"""What a detector says about a scan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medtl.config import closest
from medtl.data.scan import Scan
from medtl.errors import ConfigError
from medtl.evaluation.conformal import Band
from medtl.evaluation.observed import Observed


@dataclass(frozen=True, kw_only=True)
class FindingScore:
    """What a detector says about one finding of one scan.

    Args:
        probability, threshold: calibrated, and the operating point.
        band: where the answer stays open; None where too few scans were there to tell.
        observed: what scans of like probability turned out to be; None where too few are known.
    """

    finding: str
    probability: float
    threshold: float
    band: Band | None = None
    observed: Observed | None = None

    @property
    def flagged(self) -> bool:
        """Whether the probability reaches the operating point."""
        return self.probability >= self.threshold

    @property
    def decision(self) -> str:
        """The side of the operating point that the probability lies on, "uncertain" where both answers stay open."""
        if self.band is not None and self.band.uncertain(np.array(self.probability), self.threshold):
            return "uncertain"
        return "positive" if self.flagged else "negative"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One scan as it was read, and what the detector says about it, in the order of the bundle's findings.

    Args:
        stored: (*stored_shape) uint8, the scan as it was preprocessed.
        embedding: (L,) what the last level of the encoder makes of it.
        distance: from the labeled scans, see `Reference.distance`; NaN where there are none.
    """

    scan: Scan
    scores: tuple[FindingScore, ...]
    bundle_id: str
    stored: npt.NDArray[np.uint8] = field(repr=False)
    embedding: npt.NDArray[np.float32] = field(repr=False)
    distance: float = math.nan

    def __getitem__(self, finding: str) -> FindingScore:
        """The score of a finding.

        Raises:
            ConfigError: the detector knows no such finding.
        """
        return self.scores[place_of(finding, [score.finding for score in self.scores])]


def place_of(finding: str, findings: Sequence[str]) -> int:
    """Where a finding stands among those of a detector.

    Raises:
        ConfigError: the detector knows no such finding.
    """
    if finding not in findings:
        raise ConfigError(f"the detector knows no finding '{finding}'{closest(finding, findings)}")
    return findings.index(finding)
