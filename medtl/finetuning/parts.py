"""Which labeled scans teach, and which are kept aside to calibrate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.errors import LabelError

Rows = npt.NDArray[np.int64]
FEW = 4
"""With fewer positives or negatives than this a finding is learned, and the bundle's card says from how few."""
ENOUGH = 5
"""Fewer positives or negatives than this say too little about a temperature or an operating point."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows of the manifest; a patient is in one part only, and nobody of the test part is in either."""

    fit: Rows
    calibrate: Rows


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows of the manifest to fit a network to, and labeled rows of other patients, held back from it."""

    fit: Rows
    held: Rows


def split_labeled(data: Dataset, labels: LabelTable) -> Parts:
    """The labeled rows of the train part to fit, of the val part to calibrate.

    Where the val part has too few labels to calibrate any finding, all labeled rows are fitted instead.

    Raises:
        LabelError: no labeled scan outside the test part, or a finding with no label there, or with one class only.
    """
    known = ~np.isnan(labels.values).all(axis=1)
    split = data.manifest["split"].to_numpy()
    calibrate = np.flatnonzero(known & (split == "val"))
    fit = np.flatnonzero(known & (split == "train"))
    if not any(enough(labels.values[calibrate, i]) for i in range(len(labels.findings))):
        fit, calibrate = np.flatnonzero(known & (split != "test")), np.empty(0, np.int64)
    if len(fit) == 0:
        raise LabelError(f"{data.folder}: no labeled scan outside the test part; label scans of the train part")
    for i, finding in enumerate(labels.findings):
        positives, negatives = count(labels.values[fit, i])
        if positives + negatives == 0:
            raise LabelError(
                f"{finding}: no scan to train on has a label of it; label scans outside the test part, or leave the "
                "column out"
            )
        if positives == 0 or negatives == 0:
            raise LabelError(
                f"{finding}: the {positives + negatives} labels to train on have {positives} positive and "
                f"{negatives} negative scans; a detector needs both, so label scans of the other kind"
            )
    return Parts(fit=fit.astype(np.int64), calibrate=calibrate.astype(np.int64))


def remarks(data: Dataset, labels: LabelTable, parts: Parts) -> list[str]:
    """What the user should know of the labels, though it stops nothing."""
    found: list[str] = []
    outside = int((data.manifest["split"] != "test").sum())
    labeled = len(parts.fit) + len(parts.calibrate)
    if labeled < outside:
        found.append(f"{labeled:,} of {outside:,} scans outside the test part have a label")
    for finding, values in zip(labels.findings, labels.values[parts.fit].T, strict=True):
        positives, negatives = count(values)
        if min(positives, negatives) < FEW:
            found.append(f"{finding} is learned from {positives} positive and {negatives} negative scans only")
    return found


def count(values: npt.NDArray[Any]) -> tuple[int, int]:
    """How many positives and negatives; NaN is neither."""
    return int((values == 1).sum()), int((values == 0).sum())


def enough(values: npt.NDArray[Any]) -> bool:
    """Whether labels suffice to choose a temperature and an operating point."""
    return min(count(values)) >= ENOUGH
