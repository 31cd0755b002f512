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
"""Fewer patients with or without a finding than this say too little about a temperature or an operating point: scans
of one patient resemble each other."""
MOST_LABELS = 500
"""More labeled scans than this are not judged in folds: it would take longer than people wait."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows of the manifest; a patient is in one part only, and nobody of the test part is in either."""

    fit: Rows
    calibrate: Rows

    @property
    def labeled(self) -> Rows:
        """All of them."""
        return np.concatenate([self.fit, self.calibrate])


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows of the manifest to fit a network to, and labeled rows of other patients, held back from it."""

    fit: Rows
    held: Rows


def split_labeled(data: Dataset, labels: LabelTable) -> Parts:
    """The labeled rows of the train part to fit, of the val part to calibrate.

    All labeled rows are fitted instead, to be judged in folds, where the val part has patients enough to calibrate no
    finding, or not all of those that have patients enough outside the test part.

    Raises:
        LabelError: no labeled scan outside the test part, or a finding with no label there, or with one class only.
    """
    known = ~np.isnan(labels.values).all(axis=1)
    split = data.manifest["split"].to_numpy()
    calibrate = np.flatnonzero(known & (split == "val"))
    fit = np.flatnonzero(known & (split == "train"))
    outside = np.flatnonzero(known & (split != "test"))
    on_val, anywhere = (findings_with_enough(data, labels, rows) for rows in (calibrate, outside))
    if not on_val or (len(outside) <= MOST_LABELS and on_val != anywhere):
        fit, calibrate = outside, np.empty(0, np.int64)
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
    in_val = parts.fit[data.manifest["split"].to_numpy()[parts.fit] == "val"]
    if len(in_val):
        lacking = [name for name in labels.findings if name not in findings_with_enough(data, labels, in_val)]
        found.append(
            f"the val part has fewer than {ENOUGH} patients with or without {', '.join(lacking)}, so its labels are "
            "learned from like those of the train part"
        )
    for finding, values in zip(labels.findings, labels.values[parts.fit].T, strict=True):
        positives, negatives = count(values)
        if min(positives, negatives) < FEW:
            found.append(f"{finding} is learned from {positives} positive and {negatives} negative scans only")
    return found


def count(values: npt.NDArray[Any]) -> tuple[int, int]:
    """How many positives and negatives; NaN is neither."""
    return int((values == 1).sum()), int((values == 0).sum())


def count_patients(values: npt.NDArray[Any], patients: npt.NDArray[Any]) -> tuple[int, int]:
    """How many patients have a positive scan, and how many a negative one: values and patients (N,)."""
    return len(np.unique(patients[values == 1])), len(np.unique(patients[values == 0]))


def enough(values: npt.NDArray[Any], patients: npt.NDArray[Any]) -> bool:
    """Whether labels suffice to choose a temperature and an operating point: values and patients (N,)."""
    return min(count_patients(values, patients)) >= ENOUGH


def findings_with_enough(data: Dataset, labels: LabelTable, rows: Rows) -> list[str]:
    """Those that these rows can calibrate."""
    patients = data.patients[rows]
    return [
        name for name, values in zip(labels.findings, labels.values[rows].T, strict=True) if enough(values, patients)
    ]


def prevalences(labels: LabelTable, rows: Rows) -> dict[str, float]:
    """The share of positives among the known labels of each finding: where calibrated probabilities have their best
    threshold by Youden's J, and the threshold of a finding that cannot be calibrated."""
    means = np.nanmean(labels.values[rows].astype(np.float64), axis=0)
    return {name: float(mean) for name, mean in zip(labels.findings, means, strict=True)}
