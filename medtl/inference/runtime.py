"""`medtl.load`: a detector at work on single scans and on batches of stored blocks."""

from collections.abc import Mapping, Sequence
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
from medtl.evaluation.observed import like
from medtl.inference.bundle import Bundle, Classifier, read_bundle
from medtl.inference.explain import DEFAULT, explain
from medtl.inference.neighbours import SimilarScan, similar
from medtl.inference.prediction import FindingScore, Prediction, place_of
from medtl.inference.reference import Floats, Reference, read_reference, thumbnail
from medtl.inference.trust import Doubt, Familiarity, doubts

CHUNK = 8
"""Scans go through the network this many at a time, the last chunk filled up: kernels are chosen by the batch's size,
and with another size a probability would differ in its sixth digit."""
READ_AT_ONCE = 64
"""Stored blocks in memory at a time; a multiple of `CHUNK`."""


class Detector:
    """A bundle in memory. Make one with `medtl.load`."""

    def __init__(self, bundle: Bundle, classifier: Classifier, reference: Reference) -> None:
        self.bundle = bundle
        self.reference = reference
        self.familiarity = Familiarity(reference)
        self._classifier = classifier

    def predict(self, source: str | Path | Scan) -> Prediction:
        """Read and score one scan.

        Args:
            source: a file with one image (or volume, for a detector of volumes), or a scan that was read already.

        Raises:
            ScanError: the file cannot be used; its `code` and message say why.
        """
        scan = source if isinstance(source, Scan) else read_scan(Path(source), dims=self.bundle.spec.dims)
        stored = self.bundle.spec.stored(scan)
        probabilities, embeddings, distances = self.look(stored[None])
        return Prediction(
            scan=scan,
            scores=self.scores(probabilities[0]),
            bundle_id=self.bundle.bundle_id,
            stored=stored,
            embedding=embeddings[0],
            distance=float(distances[0]),
        )

    def look(self, stored: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], Floats, Floats]:
        """What `predict_stored` gives, and of the same blocks the embeddings (B, L) of the encoder's last level and the
        distances (B,) from the labeled scans."""
        logits, embeddings = outputs_of(
            self._classifier, self.bundle.spec, stored, flip_average=self.bundle.flip_average
        )
        probabilities = probabilities_by_task(logits, self.bundle.temperatures, self.bundle.tasks)
        last = self._classifier.encoder.widths[-1]
        return probabilities, embeddings[:, -last:].numpy(), self.reference.distance(embeddings.numpy())

    def predict_stored(self, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of stored blocks.

        Args:
            stored: (B, *stored_shape) uint8 of the bundle's preprocessing.

        Returns:
            (B, F) in 0..1, in the order of the bundle's findings.
        """
        return self.look(stored)[0]

    def scores(self, probabilities: npt.NDArray[np.float64]) -> tuple[FindingScore, ...]:
        """One scan's probabilities (F,) with their operating points."""
        return tuple(
            FindingScore(
                finding=finding,
                probability=float(p),
                threshold=self.bundle.thresholds[finding],
                band=self.bundle.bands.get(finding),
                observed=like(self.bundle.observed.get(finding, ()), float(p)),
            )
            for finding, p in zip(self.bundle.findings, probabilities, strict=True)
        )

    def similar(self, prediction: Prediction, k: int = 5) -> tuple[SimilarScan, ...]:
        """The labeled scans of the training that look most alike to the encoder; see `neighbours.similar`."""
        return similar(
            self.reference,
            prediction.embedding,
            k,
            findings=self.bundle.findings,
            scan_id=prediction.scan.scan_id,
            picture=thumbnail(prediction.stored, colour=self.bundle.spec.colour),
        )

    def doubts(self, prediction: Prediction) -> tuple[Doubt, ...]:
        """Why the prediction may be wrong; see `trust.doubts`."""
        return doubts(self.bundle, self.reference, self.familiarity, prediction)

    def explain(self, scan: Scan, finding: str, method: str = DEFAULT) -> npt.NDArray[np.float32]:
        """Where the network looked; see `explain.explain`.

        Args:
            method: "grad-cam", "grad-cam++" or "occlusion".

        Returns:
            (H, W) or (D, H, W) of the scan, 0..1; all zero where nothing speaks for the finding.

        Raises:
            ConfigError: no such method, or the detector knows no such finding.
        """
        return explain(self._classifier, self.bundle, scan, place_of(finding, self.bundle.findings), method=method)


def outputs_of(
    classifier: Classifier, spec: PreprocessSpec, stored: npt.NDArray[np.uint8], *, flip_average: bool
) -> tuple[Tensor, Tensor]:
    """Logits of stored blocks, before the temperature, and their embeddings.

    Args:
        stored: (B, *stored_shape) uint8.
        flip_average: take the mean of the logits over each scan and its mirror image.

    Returns:
        (B, F) float64, and (B, D) float32 of the scans as they are: all levels that the heads read.
    """
    parts: list[Tensor] = []
    embedded: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(stored), CHUNK):
            chunk = stored[first : first + CHUNK]
            full = np.zeros((CHUNK, *stored.shape[1:]), np.uint8)
            full[: len(chunk)] = chunk
            images = spec.network_input(torch.from_numpy(full))
            embeddings: Tensor = classifier.encoder(images)
            logits: Tensor = classifier.head(embeddings).double()
            if flip_average:
                logits = (logits + classifier(images.flip(-1)).double()) / 2
            parts.append(logits[: len(chunk)])
            embedded.append(embeddings[: len(chunk)].float())
    return torch.cat(parts), torch.cat(embedded)


def logits_of(
    classifier: Classifier, spec: PreprocessSpec, stored: npt.NDArray[np.uint8], *, flip_average: bool
) -> Tensor:
    """The logits of `outputs_of`, (B, F) float64."""
    return outputs_of(classifier, spec, stored, flip_average=flip_average)[0]


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
    return Detector(*read_bundle(bundle), read_reference(Path(bundle)))
