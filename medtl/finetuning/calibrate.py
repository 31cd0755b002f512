"""Temperatures and operating points, from labeled scans that the network was not fitted to."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.evaluation.calibration import fit_temperature, fit_temperature_multiclass, operating_point
from medtl.evaluation.conformal import Band, conformal_band
from medtl.evaluation.observed import Observed, observed
from medtl.finetuning.parts import ENOUGH, Rows, count, enough
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of_rows, probabilities_of

SHARPEST = 0.5
"""The least temperature: scans that happen to be separable would otherwise drive it towards certainty."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was chosen for each finding, and from what; see `Bundle`."""

    temperatures: dict[str, float]
    thresholds: dict[str, float]
    note: str
    bands: dict[str, Band] = field(default_factory=dict)
    observed: dict[str, tuple[Observed, ...]] = field(default_factory=dict)


def calibrate(
    classifier: Classifier, data: Dataset, labels: LabelTable, rows: Rows, spec: PreprocessSpec, *, flip_average: bool
) -> Calibration:
    """Choose temperatures and operating points from labeled scans of the val part; none where `rows` is empty."""
    if len(rows) == 0:
        return Calibration(
            temperatures=dict.fromkeys(labels.findings, 1.0),
            thresholds=dict.fromkeys(labels.findings, 0.5),
            note=f"none, for want of labels in the val part (at least {ENOUGH} positive and {ENOUGH} negative scans); "
            "operating points are 0.5",
        )
    logits = logits_of_rows(classifier, data, rows, spec, flip_average=flip_average)
    return calibrated_from(logits, labels, rows, where="scans of the val part")


def calibrated_from(logits: Tensor, labels: LabelTable, rows: Rows, *, where: str) -> Calibration:
    """Choose a temperature and, by Youden's J, an operating point for each finding, and where its answer stays open.

    A finding with too few labels among `rows` keeps temperature 1 and threshold 0.5; the note says so. A conformal set
    depends on the order of the scans alone, which a temperature does not change, so that both may be chosen from the
    same scans; where findings exclude each other this holds nearly.

    Args:
        logits: (N, F) of the rows, from networks that have not seen their patients.
        where: what the scans are, for the note.
    """
    temperatures = dict.fromkeys(labels.findings, 1.0)
    thresholds = dict.fromkeys(labels.findings, 0.5)
    truth = labels.values[rows]
    calibrated = [finding for i, finding in enumerate(labels.findings) if enough(truth[:, i])]
    if labels.exclusive:
        known = ~np.isnan(truth).any(axis=1)
        shared = fit_temperature_multiclass(logits.numpy()[known], truth[known].argmax(axis=1))
        temperatures = dict.fromkeys(labels.findings, max(SHARPEST, shared))
    else:
        for finding in calibrated:
            y, known = _known(truth[:, labels.findings.index(finding)])
            fitted = fit_temperature(logits.numpy()[known, labels.findings.index(finding)], y)
            temperatures[finding] = max(SHARPEST, fitted)
    probabilities = probabilities_of(logits, list(temperatures.values()), exclusive=labels.exclusive)
    notes: list[str] = []
    bands: dict[str, Band] = {}
    seen: dict[str, tuple[Observed, ...]] = {}
    for i, finding in enumerate(labels.findings):
        y, known = _known(truth[:, i])
        positives, negatives = count(y)
        if finding in calibrated:
            p = probabilities[known, i]
            thresholds[finding] = operating_point(y, p)
            if band := conformal_band(y, p):
                bands[finding] = band
            if groups := observed(y, p):
                seen[finding] = groups
            notes.append(f"{finding} on {positives} positive and {negatives} negative {where}")
        else:
            notes.append(f"{finding} none ({positives} positive, {negatives} negative scans are too few)")
    if not calibrated:
        notes.insert(0, "none: operating points are 0.5")
    return Calibration(
        temperatures=temperatures, thresholds=thresholds, note="; ".join(notes), bands=bands, observed=seen
    )


def _known(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The known labels of a finding, and where they stand."""
    known = ~np.isnan(values)
    return values[known].astype(np.int64), known
