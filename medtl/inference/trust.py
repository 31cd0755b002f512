"""Why an answer may be wrong: reasons to doubt, each a code, a sentence and a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from medtl.data.quality import BLANK, CLIPPED, COLLIMATED, TEXT, warnings_of
from medtl.data.scan import Scan
from medtl.inference.bundle import Bundle
from medtl.inference.population import strangeness
from medtl.inference.prediction import FindingScore, Prediction
from medtl.inference.reference import Floats, Reference, direction

NEIGHBOURS = 5
FARTHEST_SHARE = 0.99
"""Farther from the training scans than this share of them is from the others counts as unlike them."""
LEAST_PATIENTS = 20
"""Training scans of fewer patients do not tell what is usual."""
SAMPLE = 2000
"""Training scans, evenly spaced, whose distances say what is usual."""
NEAR = 0.1
"""Without a band of uncertain probabilities: nearer to the operating point than this share of the way to 0 or 1."""
POOR = {
    BLANK: "there is hardly any structure in the image",
    CLIPPED: "large parts of the image are overexposed, or cut off by the window",
    COLLIMATED: "a wide black border surrounds the image, so that the patient is shown smaller than usual",
    TEXT: "there may be text in the image, which the detector can mistake for anatomy",
}


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """One reason to doubt an answer.

    Args:
        code: "seen", "unlike", "near", "other_modality", "other_body_part", "other_view", "other_scanner", "other_age"
            or "quality_" and a warning of ingest.
        sentence: for a reader; without a full stop.
        finding: which answer it is about; None where it is about all.
        number: of "unlike" the distance, of "near" the probability; None where there is nothing to measure.
    """

    code: str
    sentence: str
    finding: str | None = None
    number: float | None = None


class Familiarity:
    """How far a scan is from the training scans, against how far those are from each other.

    The distance is 1 - cosine to the `NEIGHBOURS`-th nearest scan (Sun 2022, arXiv 2204.06507, sec. 3: normalised
    embeddings, the k-th neighbour, no model of their distribution), of other patients.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    @cached_property
    def usual(self) -> Floats:
        """Sorted distances of the training scans themselves, each left out of its own neighbours with its patient."""
        rows = np.unique(np.linspace(0, len(self._reference) - 1, min(SAMPLE, len(self._reference))).astype(np.int64))
        found = [np.zeros(0, np.float32)]
        for some in np.array_split(rows, max(1, len(rows) // 256)):
            found.append(self._distances(self._reference.directions[some], self._reference.patients[some]))
        return np.sort(np.concatenate(found))

    @property
    def known(self) -> bool:
        """Whether there are training scans enough to tell what is usual."""
        return len(np.unique(self._reference.patients)) >= LEAST_PATIENTS

    def distance(self, embeddings: Floats) -> Floats:
        """(B,) of scans that were not trained on, from their embeddings (B, D)."""
        return self._distances(direction(np.asarray(embeddings, np.float32)), None)

    def unlike(self, embeddings: Floats) -> npt.NDArray[np.bool_]:
        """(B,) whether embeddings (B, D) are of scans unlike the training scans; False where nobody can tell."""
        if not self.known:
            return np.zeros(len(embeddings), bool)
        return np.asarray(self.distance(embeddings) > np.quantile(self.usual, FARTHEST_SHARE))

    def _distances(self, directions: Floats, patients: npt.NDArray[np.int64] | None) -> Floats:
        cosines = directions @ self._reference.directions.T  # (B, N)
        if patients is not None:
            cosines[patients[:, None] == self._reference.patients[None]] = -1.0
        k = min(NEIGHBOURS, cosines.shape[1])
        return np.asarray(1 - np.partition(cosines, -k, axis=1)[:, -k], np.float32)


def doubts(bundle: Bundle, reference: Reference, familiarity: Familiarity, prediction: Prediction) -> tuple[Doubt, ...]:
    """All reasons to doubt a prediction, those about the whole scan first."""
    return (
        *about_origin(reference, familiarity, prediction.scan.scan_id, prediction.embedding),
        *about_scan(bundle, prediction.scan, prediction.stored),
        *about_scores(prediction.scores),
    )


def about_origin(reference: Reference, familiarity: Familiarity, scan_id: str, embedding: Floats) -> tuple[Doubt, ...]:
    """Whether the detector was trained on this very scan, or on nothing like it.

    Args:
        embedding: (D,) of the scan.
    """
    if scan_id in reference.names:
        said = "the detector was trained on this very scan, with its label: its answer is no second opinion"
        return (Doubt(code="seen", sentence=said),)
    if not familiarity.unlike(embedding[None])[0]:
        return ()
    distance = float(familiarity.distance(embedding[None])[0])
    usual = float(np.median(familiarity.usual))
    said = (
        f"it is unlike the training scans: farther from them than {100 * FARTHEST_SHARE:.0f} of 100 of them are from "
        f"each other (distance {distance:.3f}, usually {usual:.3f})"
    )
    return (Doubt(code="unlike", sentence=said, number=distance),)


def about_scan(bundle: Bundle, scan: Scan, stored: npt.NDArray[np.uint8]) -> tuple[Doubt, ...]:
    """What header and pixels say against it.

    Args:
        stored: (*stored_shape) the scan as the bundle's preprocessing stores it.
    """
    _, inside = bundle.spec.placement(bundle.spec.scaled_shape(scan))
    poor = [
        Doubt(code=f"quality_{word.replace(' ', '_').replace('-', '_')}", sentence=POOR[word])
        for word in warnings_of(scan, bundle.spec.grey(stored)[0][inside])
    ]
    strange = [Doubt(code=code, sentence=said) for code, said in strangeness(scan.header, bundle.population)]
    return (*strange, *poor)


def about_scores(scores: Sequence[FindingScore]) -> tuple[Doubt, ...]:
    """Which findings lie where both answers are open."""
    found = []
    for score in scores:
        far = 1 - score.threshold if score.flagged else score.threshold
        near = score.band is None and abs(score.probability - score.threshold) < NEAR * far
        if not near and score.decision != "uncertain":
            continue
        if score.band is None:
            said = "the probability is close to the operating point"
        elif score.flagged:
            said = "the probability reaches the operating point, but scans without the finding had as much"
        else:
            said = "the probability is below the operating point, but scans with the finding had as little"
        found.append(Doubt(code="near", sentence=said, finding=score.finding, number=score.probability))
    return tuple(found)
