"""Temperatures and operating points, from labeled scans that the network was not fitted to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.data.tasks import Task
from medtl.evaluation.calibration import fit_temperature, fit_temperature_multiclass, operating_point
from medtl.evaluation.conformal import Band, conformal_band
from medtl.evaluation.metrics import auroc, both_classes
from medtl.evaluation.observed import Observed, observed
from medtl.finetuning.parts import ENOUGH, Parts, Rows, count, count_patients, enough, prevalences
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of_rows, probabilities_by_task

SHARPEST = 0.5
"""The least temperature: scans that happen to be separable would otherwise drive it towards certainty."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was chosen for each finding, and from what; see `Bundle`.

    Args:
        aurocs: of each finding of which these scans have both kinds.
        caveats: of each finding whose operating point is not chosen from scans.
    """

    temperatures: dict[str, float]
    thresholds: dict[str, float]
    note: str
    aurocs: dict[str, float] = field(default_factory=dict)
    bands: dict[str, Band] = field(default_factory=dict)
    observed: dict[str, tuple[Observed, ...]] = field(default_factory=dict)
    caveats: dict[str, list[str]] = field(default_factory=dict)

    def of_task(self, task: Task) -> float:
        """The mean AUROC over the findings of a task; nan where none has one."""
        known = [self.aurocs[finding] for finding in task.findings if finding in self.aurocs]
        return float(np.mean(known)) if known else float("nan")


def calibrate(
    classifier: Classifier, data: Dataset, labels: LabelTable, parts: Parts, spec: PreprocessSpec, *, flip_average: bool
) -> Calibration:
    """Choose temperatures and operating points from labeled scans of the val part; without any, see `uncalibrated`."""
    rows, shares = parts.calibrate, prevalences(labels, parts.labeled)
    if len(rows) == 0:
        return uncalibrated(
            shares, why=f"for want of labels in the val part (at least {ENOUGH} patients with and {ENOUGH} without)"
        )
    logits = logits_of_rows(classifier, data, rows, spec, flip_average=flip_average)
    patients = data.patients
    return calibrated_from(logits, labels, rows, patients=patients, shares=shares, where="scans of the val part")


def uncalibrated(shares: Mapping[str, float], *, why: str) -> Calibration:
    """Temperature 1, and the share of positives as the operating point of each finding.

    Args:
        shares: see `prevalences`.
        why: nothing better is known, for the note.
    """
    return Calibration(
        temperatures=dict.fromkeys(shares, 1.0),
        thresholds=dict(shares),
        note=f"none, {why}; operating points are the shares of positives among the labels",
        caveats={finding: [_guessed(share)] for finding, share in shares.items()},
    )


def _guessed(share: float) -> str:
    return (
        f"its operating point is its share of positives among the labels, {share:.3f}, and its probabilities are not "
        "calibrated, for want of labeled patients"
    )


def calibrated_from(
    logits: Tensor,
    labels: LabelTable,
    rows: Rows,
    *,
    patients: npt.NDArray[np.str_],
    shares: Mapping[str, float],
    where: str,
) -> Calibration:
    """Choose a temperature and, by Youden's J, an operating point for each finding, and where its answer stays open.

    A finding with too few patients among `rows` keeps temperature 1, and its share of positives is its threshold; the
    note says so. A conformal set
    depends on the order of the scans alone, which a temperature does not change, so that both may be chosen from the
    same scans; where findings exclude each other this holds nearly.

    Args:
        logits: (N, F) of the rows, from networks that have not seen their patients.
        patients: of each row of the labels.
        shares: see `prevalences`.
        where: what the scans are, for the note.
    """
    temperatures = dict.fromkeys(labels.findings, 1.0)
    thresholds = dict(shares)
    truth, owners = labels.values[rows], patients[rows]
    calibrated = [finding for i, finding in enumerate(labels.findings) if enough(truth[:, i], owners)]
    for task in labels.tasks:
        columns = labels.columns(task)
        if task.exclusive:
            known = ~np.isnan(truth[:, columns]).any(axis=1)
            classes = truth[known][:, columns].argmax(axis=1)
            shared = fit_temperature_multiclass(logits.numpy()[known][:, columns], classes)
            temperatures |= dict.fromkeys(task.findings, max(SHARPEST, shared))
            continue
        for finding, column in zip(task.findings, columns, strict=True):
            if finding in calibrated:
                y, known = _known(truth[:, column])
                temperatures[finding] = max(SHARPEST, fit_temperature(logits.numpy()[known, column], y))
    probabilities = probabilities_by_task(logits, temperatures, labels.tasks)
    notes: list[str] = []
    aurocs: dict[str, float] = {}
    bands: dict[str, Band] = {}
    seen: dict[str, tuple[Observed, ...]] = {}
    for i, finding in enumerate(labels.findings):
        y, known = _known(truth[:, i])
        positives, negatives = count(y)
        if both_classes(y):
            aurocs[finding] = auroc(y, probabilities[known, i])
        if finding in calibrated:
            p = probabilities[known, i]
            thresholds[finding] = operating_point(y, p)
            if band := conformal_band(y, p):
                bands[finding] = band
            if groups := observed(y, p):
                seen[finding] = groups
            notes.append(f"{finding} on {positives} positive and {negatives} negative {where}")
        else:
            ill, well = count_patients(truth[:, i], owners)
            notes.append(
                f"{finding} none ({positives} positive and {negatives} negative scans, of {ill} and {well} patients, "
                f"are too few; its operating point is its share of positives among the labels)"
            )
    if not calibrated:
        notes.insert(0, "none")
    return Calibration(
        temperatures=temperatures,
        thresholds=thresholds,
        note="; ".join(notes),
        aurocs=aurocs,
        bands=bands,
        observed=seen,
        caveats={each: [_guessed(shares[each])] for each in labels.findings if each not in calibrated},
    )


def _known(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The known labels of a finding, and where they stand."""
    known = ~np.isnan(values)
    return values[known].astype(np.int64), known
