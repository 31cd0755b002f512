"""`medtl.load`: a detector at work on single scans and on batches of stored blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.sources import read_scan
from medtl.data.tasks import Task
from medtl.inference.bundle import Bundle, Classifier, read_bundle

CHUNK = 8
"""Scans go through the network this many at a time, the last chunk filled up: kernels are chosen by the batch's size,
and with another size a probability would differ in its sixth digit."""
READ_AT_ONCE = 64
"""Stored blocks in memory at a time; a multiple of `CHUNK`."""


@dataclass(frozen=True, kw_only=True)
class FindingScore:
    """What a detector says about one finding of one scan."""

    finding: str
    probability: float
    threshold: float

    @property
    def decision(self) -> str:
        """Which side of the operating point the probability lies on."""
        return "positive" if self.probability >= self.threshold else "negative"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One scan as it was read, and what the detector says about it, in the order of the bundle's findings."""

    scan: Scan
    scores: tuple[FindingScore, ...]
    bundle_id: str

    def __getitem__(self, finding: str) -> FindingScore:
        return next(score for score in self.scores if score.finding == finding)


class Detector:
    """A bundle in memory. Make one with `medtl.load`."""

    def __init__(self, bundle: Bundle, classifier: Classifier) -> None:
        self.bundle = bundle
        self._classifier = classifier

    def predict(self, source: str | Path | Scan) -> Prediction:
        """Read and score one scan.

        Args:
            source: a file with one image (or volume, for a detector of volumes), or a scan that was read already.

        Raises:
            ScanError: the file cannot be used; its `code` and message say why.
        """
        scan = source if isinstance(source, Scan) else read_scan(Path(source), dims=self.bundle.spec.dims)
        probabilities = self.predict_stored(self.bundle.spec.stored(scan)[None])[0]
        return Prediction(scan=scan, scores=self.scores(probabilities), bundle_id=self.bundle.bundle_id)

    def predict_stored(self, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of stored blocks.

        Args:
            stored: (B, *stored_shape) uint8 of the bundle's preprocessing.

        Returns:
            (B, F) in 0..1, in the order of the bundle's findings.
        """
        logits = logits_of(self._classifier, self.bundle.spec, stored, flip_average=self.bundle.flip_average)
        return probabilities_by_task(logits, self.bundle.temperatures, self.bundle.tasks)

    def scores(self, probabilities: npt.NDArray[np.float64]) -> tuple[FindingScore, ...]:
        """One scan's probabilities (F,) with their operating points."""
        return tuple(
            FindingScore(finding=finding, probability=float(p), threshold=self.bundle.thresholds[finding])
            for finding, p in zip(self.bundle.findings, probabilities, strict=True)
        )

    def explain(self, scan: Scan, finding: str) -> npt.NDArray[np.float32]:
        """Where the network looked: Grad-CAM (Selvaraju 2017, arXiv 1610.02391, eq. 1-2).

        Returns:
            (H, W) or (D, H, W) of the scan, 0..1; all zero where nothing speaks for the finding.
        """
        from medtl.inference.explain import grad_cam

        return grad_cam(self._classifier, self.bundle, scan, self.bundle.findings.index(finding))


def logits_of(
    classifier: Classifier, spec: PreprocessSpec, stored: npt.NDArray[np.uint8], *, flip_average: bool
) -> Tensor:
    """Logits of stored blocks, before the temperature.

    Args:
        stored: (B, *stored_shape) uint8.
        flip_average: take the mean over each scan and its mirror image.

    Returns:
        (B, F) float64.
    """
    parts: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(stored), CHUNK):
            chunk = stored[first : first + CHUNK]
            full = np.zeros((CHUNK, *stored.shape[1:]), np.uint8)
            full[: len(chunk)] = chunk
            images = spec.network_input(torch.from_numpy(full))
            logits: Tensor = classifier(images).double()
            if flip_average:
                logits = (logits + classifier(images.flip(-1)).double()) / 2
            parts.append(logits[: len(chunk)])
    return torch.cat(parts)


def logits_of_rows(
    classifier: Classifier,
    data: Dataset,
    rows: npt.NDArray[np.int64],
    spec: PreprocessSpec,
    *,
    flip_average: bool,
) -> Tensor:
    """Logits of rows of a dataset's manifest, read some at a time; see `logits_of`.

    Args:
        rows: (N,), one at least.

    Returns:
        (N, F) float64.
    """
    stored = (data.pixels(rows[first : first + READ_AT_ONCE]) for first in range(0, len(rows), READ_AT_ONCE))
    return torch.cat([logits_of(classifier, spec, blocks, flip_average=flip_average) for blocks in stored])


def probabilities_of(logits: Tensor, temperatures: Sequence[float], *, exclusive: bool) -> npt.NDArray[np.float64]:
    """Logits (B, F) divided by the temperatures (F,), through softmax or sigmoid: (B, F) in 0..1."""
    scaled = logits / torch.tensor(temperatures)
    result = scaled.softmax(dim=1) if exclusive else scaled.sigmoid()
    return np.asarray(result.numpy(), np.float64)


def probabilities_by_task(
    logits: Tensor, temperatures: Mapping[str, float], tasks: Sequence[Task]
) -> npt.NDArray[np.float64]:
    """The same of several tasks, whose outputs stand side by side in the logits (B, F).

    Each task is computed for itself, so that the numbers of one do not depend on which others there are, to the bit.
    """
    of_tasks = torch.split(logits, [len(task.findings) for task in tasks], dim=1)
    each = [
        probabilities_of(own.contiguous(), [temperatures[name] for name in task.findings], exclusive=task.exclusive)
        for own, task in zip(of_tasks, tasks, strict=True)
    ]
    return np.concatenate(each, axis=1)


def load(bundle: str | Path) -> Detector:
    """Read a bundle folder.

    Raises:
        BundleError: the folder is missing, incomplete, damaged or of another format.
    """
    return Detector(*read_bundle(bundle))
