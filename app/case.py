"""The case on the screen: one scan, what the detector says about it, and its heatmaps. Lives in memory only."""

import contextlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtl.data.scan import Scan
from medtl.inference.runtime import Detector, Prediction
from medtl.review.records import NewCase, Score, Verdict

Heat = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scored scan in one browser session.

    Args:
        name: the file's name as it was uploaded.
        prediction: the scan and its scores.
        token: tells this showing from every other one, also of the same file.
        heats: heatmaps that were already made, by finding.
        at: the voxel of a volume that is looked at, one index an axis; empty for an image. Changed in place.
        prior: another scan of the same patient, to be seen beside this one.
    """

    name: str
    prediction: Prediction
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    heats: dict[str, Heat] = field(default_factory=dict)
    at: list[int] = field(default_factory=list)
    prior: Scan | None = None

    def heat(self, detector: Detector, finding: str) -> Heat:
        """The heatmap of a finding, (H, W) or (D, H, W); made once."""
        if finding not in self.heats:
            self.heats[finding] = detector.explain(self.prediction.scan, finding)
        return self.heats[finding]

    def leading(self) -> str:
        """The finding to look at first: the most probable, those above their operating point before the others."""
        return max(self.prediction.scores, key=lambda score: (score.decision == "positive", score.probability)).finding

    def record(self) -> NewCase:
        """The case as the store takes it up."""
        scan = self.prediction.scan
        return NewCase(
            scan_id=scan.scan_id,
            sha256=scan.sha256,
            path=self.name,
            bundle_id=self.prediction.bundle_id,
            scores=tuple(
                Score(finding=s.finding, probability=s.probability, threshold=s.threshold, decision=s.decision)
                for s in self.prediction.scores
            ),
        )

    def verdicts(self, case_id: int, said: dict[str, str | None], *, note: str) -> list[Verdict]:
        """What the reader chose, ready for the store.

        Args:
            case_id: the number that the store gave to `record`.
            said: by finding, "agree", "disagree", "unsure" or None.
        """
        bundle_id = self.prediction.bundle_id
        return [
            Verdict(case_id=case_id, bundle_id=bundle_id, finding=finding, verdict=choice, note=note.strip())
            for finding, choice in said.items()
            if choice
        ]


def take(uploads: list[str]) -> list[tuple[str, bytes]]:
    """The names and the bytes of uploads; the files and their folders are gone when this returns."""
    paths = [Path(upload) for upload in uploads]
    try:
        return [(path.name, path.read_bytes()) for path in paths]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another upload of the same bytes may be arriving
                path.parent.rmdir()
