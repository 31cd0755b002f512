"""Temperatures and operating points, from labeled scans that the network was not fitted to."""

from dataclasses import dataclass

import numpy as np
import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.evaluation.calibration import fit_temperature, fit_temperature_multiclass, operating_point
from medtl.finetuning.parts import ENOUGH, Rows, count, enough
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of

SHARPEST = 0.5
"""The least temperature: scans that happen to be separable would otherwise drive it towards certainty."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was chosen for each finding, and from what."""

    temperatures: dict[str, float]
    thresholds: dict[str, float]
    note: str


def calibrate(
    classifier: Classifier, data: Dataset, labels: LabelTable, rows: Rows, spec: PreprocessSpec, *, flip_average: bool
) -> Calibration:
    """Choose a temperature and, by Youden's J, an operating point for each finding.

    A finding with too few labels among `rows` keeps temperature 1 and threshold 0.5; the note says so.
    """
    temperatures = dict.fromkeys(labels.findings, 1.0)
    thresholds = dict.fromkeys(labels.findings, 0.5)
    if len(rows) == 0:
        return Calibration(
            temperatures=temperatures,
            thresholds=thresholds,
            note=f"none, for want of labels in the val part (at least {ENOUGH} positive and {ENOUGH} negative scans); "
            "operating points are 0.5",
        )
    stored = (data.pixels(rows[first : first + 64]) for first in range(0, len(rows), 64))
    logits = torch.cat([logits_of(classifier, spec, batch, flip_average=flip_average) for batch in stored]).numpy()
    truth = labels.values[rows]
    if labels.exclusive:
        known = ~np.isnan(truth).any(axis=1)
        shared = max(SHARPEST, fit_temperature_multiclass(logits[known], truth[known].argmax(axis=1)))
        temperatures = dict.fromkeys(labels.findings, shared)
        probabilities = torch.from_numpy(logits / shared).softmax(dim=1).numpy()
    notes: list[str] = []
    for i, finding in enumerate(labels.findings):
        known = ~np.isnan(truth[:, i])
        y = truth[known, i].astype(np.int64)
        positives, negatives = count(y)
        if not enough(y):
            notes.append(f"{finding} none ({positives} positive, {negatives} negative scans are too few)")
            continue
        if labels.exclusive:
            p = probabilities[known, i]
        else:
            temperatures[finding] = max(SHARPEST, fit_temperature(logits[known, i], y))
            p = 1 / (1 + np.exp(-logits[known, i] / temperatures[finding]))
        thresholds[finding] = operating_point(y, p)
        notes.append(f"{finding} on {positives} positive and {negatives} negative scans of the val part")
    return Calibration(temperatures=temperatures, thresholds=thresholds, note="; ".join(notes))
