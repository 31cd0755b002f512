"""The scan of a case on the screen: its pixels, what the detector says about it, and its heatmaps. In memory only."""

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.render import HEAT_PX, shown_size
from medtl.data.nameless import nameless
from medtl.data.resample import resized
from medtl.data.scan import Scan
from medtl.errors import ReviewError
from medtl.inference.explain import DEFAULT
from medtl.inference.prediction import Prediction
from medtl.inference.runtime import Detector
from medtl.review.records import NewCase, Region, Score

Heat = npt.NDArray[np.float16]
NETWORK = threading.RLock()
"""Held by whoever lets the network compute: scans are also read ahead and watched for, and Grad-CAM hooks into it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scored scan in one browser session.

    Args:
        name: how the page calls it.
        owner: the user whose browser shows it.
        prediction: the scan and its scores.
        token: tells this showing from every other one, also of the same file.
        heats: heatmaps that were already made, by finding and method; small, for many cases are in memory.
        layers: heatmaps of an image as the page shows them, likewise; not for who may not see them yet.
        at: the voxel of a volume that is looked at, one index an axis; empty for an image. Changed in place.
        prior: reads an earlier scan of the same patient, to be seen beside this one; it may raise a ScanError.
        marked: of a lead who decides, the regions that readers marked, each with whose it is and of what.
        hidden: the reader may not see the detector's answer yet; heatmaps are empty.
    """

    name: str
    owner: str = ""
    prediction: Prediction
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    heats: dict[tuple[str, str], Heat] = field(default_factory=dict)
    layers: dict[tuple[str, str], dict[Any, Any]] = field(default_factory=dict)
    at: list[int] = field(default_factory=list)
    prior: Callable[[], Scan] | None = None
    marked: tuple[tuple[str, Region], ...] = ()
    hidden: bool = False

    def heat(self, detector: Detector, finding: str, method: str = DEFAULT) -> Heat:
        """The heatmap of a finding, (D, H, W), or (H, W) no larger than it is drawn; made once."""
        scan = self.prediction.scan
        shape = shown_size(scan.pixels.shape[::-1], None, longest=HEAT_PX) if scan.dims == 2 else scan.pixels.shape
        if self.hidden:
            return np.zeros(shape, np.float16)
        if (finding, method) not in self.heats:
            with NETWORK:
                whole = detector.explain(scan, finding, method)
            self.heats[finding, method] = resized(whole, shape).astype(np.float16)
        return self.heats[finding, method]

    def leading(self) -> str:
        """The finding to look at first: the most probable, those above their operating point before the others."""
        return max(self.prediction.scores, key=lambda score: (score.flagged, score.probability)).finding


def new_case(detector: Detector, prediction: Prediction, *, path: str, readings: int = 1) -> NewCase:
    """A scored scan as the store takes it up.

    Args:
        detector: whose prediction it is.
        path: where its file lies; of an upload the name.
        readings: how many readers have to read it.

    Raises:
        ConfigError: its patient needs a pseudonym, and there is no salt.
    """
    scan = prediction.scan
    facts = {name: value for name, value in nameless(scan.header).items() if value is not None}
    patient = str(facts.pop("patient_id", ""))
    facts["doubts"] = "; ".join(doubt.code for doubt in detector.doubts(prediction))
    return NewCase(
        scan_id=scan.scan_id,
        sha256=scan.sha256,
        path=path,
        bundle_id=prediction.bundle_id,
        scores=tuple(
            Score(finding=s.finding, probability=s.probability, threshold=s.threshold, decision=s.decision)
            for s in prediction.scores
        ),
        patient_id=patient,
        facts=facts,
        nearest_scan_id=detector.reference.nearest(prediction.embedding[None])[0],
        distance=prediction.distance if len(detector.reference) else None,
        readings_wanted=readings,
    )


def take(uploads: list[str]) -> list[tuple[str, bytes]]:
    """The names and the bytes of uploads; the files and their folders are gone when this returns."""
    paths = [Path(upload) for upload in uploads]
    try:
        return [(path.name, path.read_bytes()) for path in paths]
    except FileNotFoundError:  # somebody sent the same bytes, which lie in one file, and was faster
        raise ReviewError(f"{paths[0].name}: is gone from the server; open the file again") from None
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another upload of the same bytes may be arriving
                path.parent.rmdir()
