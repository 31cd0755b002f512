"""The evidence report: from labels and probabilities to `report.json` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medtl.data.tasks import Task
from medtl.errors import BundleError, LabelError
from medtl.evaluation import metrics
from medtl.evaluation.caveats import data_caveats, finding_caveats, multiclass_caveats
from medtl.evaluation.conformal import Band, set_result
from medtl.evaluation.intervals import binary_intervals, mean_auroc, multiclass_intervals
from medtl.evaluation.metrics import Array
from medtl.evaluation.page import render_page
from medtl.evaluation.results import FindingResult, MulticlassResult, Report, TaskResult
from medtl.files import atomic_folder, write_json


def build_report(
    *,
    findings: Sequence[str],
    labels: Array,
    probabilities: Array,
    patient_ids: Sequence[str],
    thresholds: Mapping[str, float],
    exclusive: bool,
    context: Mapping[str, str],
    tasks: Sequence[Task] = (),
    bands: Mapping[str, Band] | None = None,
    seed: int = 0,
) -> Report:
    """Measure a detector on labeled scans.

    Args:
        findings: F names.
        labels: (N, F) 0, 1 or NaN for unknown.
        probabilities: (N, F) in 0 to 1.
        patient_ids: (N,); an empty one makes the scan a patient of its own.
        thresholds: the operating point of each finding; a scan is flagged at or above it.
        exclusive: whether exactly one finding is true of each scan (multi-class).
        context: what was evaluated, in words, in the order in which to show it.
        tasks: of a detector with several, their findings as far as they are among `findings`.
        bands: where the answer of a finding stays open; a finding without one has no sets.
        seed: of the bootstrap.

    Raises:
        LabelError: a label is not 0, 1 or NaN.
        BundleError: a probability is not a number between 0 and 1, or a finding has no operating point.
    """
    labels, probabilities = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    _check(findings, labels, probabilities, patient_ids, thresholds)
    missing = sum(not name for name in patient_ids)
    patients = np.array([f"id {name}" if name else f"scan {i}" for i, name in enumerate(patient_ids)])
    results = tuple(
        _measure(name, labels[:, i], probabilities[:, i], patients, thresholds[name], (bands or {}).get(name), seed)
        for i, name in enumerate(findings)
    )
    multiclass = _measure_classes(findings, labels, probabilities, patients, seed) if exclusive else None
    caveats = data_caveats(patients.tolist(), missing=missing)
    caveats += [caveat for result in results for caveat in finding_caveats(result)]
    return Report(
        n_scans=len(labels),
        n_patients=len(np.unique(patients)),
        findings=results,
        multiclass=multiclass,
        context=dict(context),
        tasks=tuple(_measure_task(task, findings, labels, probabilities, patients, seed) for task in tasks),
        caveats=tuple(caveats + (multiclass_caveats(multiclass) if multiclass else [])),
    )


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`, in place of an earlier report.

    Raises:
        MedtlError: `folder` holds something other than a report.
    """
    with atomic_folder(folder, marker="report.json") as temporary:
        write_json(temporary / "report.json", report.as_json())
        (temporary / "report.html").write_text(render_page(report), encoding="utf-8")


def _measure(
    name: str, y: Array, p: Array, patients: Array, threshold: float, band: Band | None, seed: int
) -> FindingResult:
    known = ~np.isnan(y)
    y, p, patients = y[known], p[known], patients[known]
    return FindingResult(
        name=name,
        y=y,
        p=p,
        n_patients=len(np.unique(patients)),
        n_unknown=int((~known).sum()),
        threshold=threshold,
        intervals=binary_intervals(y, p, patients, threshold=threshold, seed=seed),
        brier=metrics.brier(y, p),
        ece=metrics.ece(y, p),
        sets=set_result(y, p, patients, band=band, threshold=threshold, seed=seed) if band else None,
    )


def _measure_task(
    task: Task, findings: Sequence[str], labels: Array, p: Array, patients: Array, seed: int
) -> TaskResult:
    columns = [list(findings).index(name) for name in task.findings]
    labels, p = labels[:, columns], p[:, columns]
    return TaskResult(
        task=task,
        n_scans=int((~np.isnan(labels)).any(axis=1).sum()),
        auroc=mean_auroc(labels, p, patients, seed=seed),
    )


def _measure_classes(findings: Sequence[str], labels: Array, p: Array, patients: Array, seed: int) -> MulticlassResult:
    one = (labels == 1).sum(axis=1) == 1
    y, p, patients = (labels[one] == 1).argmax(axis=1), p[one], patients[one]
    confusion = np.zeros((len(findings), len(findings)), np.int64)
    np.add.at(confusion, (y, p.argmax(axis=1)), 1)
    return MulticlassResult(
        classes=tuple(findings),
        intervals=multiclass_intervals(y, p, patients, seed=seed),
        confusion=confusion,
        n_left_out=int((~one).sum()),
    )


def _check(
    findings: Sequence[str], labels: Array, p: Array, patient_ids: Sequence[str], thresholds: Mapping[str, float]
) -> None:
    shape = (len(patient_ids), len(findings))
    if labels.shape != shape or p.shape != shape:
        raise ValueError(f"labels {labels.shape} and probabilities {p.shape} must both have the shape {shape}")
    for i, name in enumerate(findings):
        odd = ~np.isnan(labels[:, i]) & (labels[:, i] != 0) & (labels[:, i] != 1)
        if odd.any():
            row = int(odd.argmax())
            raise LabelError(f"{name}: scan {row} has the label {labels[row, i]:g}; expected 0, 1 or empty (unknown)")
        bad = ~((p[:, i] >= 0) & (p[:, i] <= 1))
        if bad.any():
            row = int(bad.argmax())
            raise BundleError(
                f"{name}: scan {row} has the probability {p[row, i]:g}; expected 0 to 1. "
                "The bundle's network is damaged: fine-tune it again"
            )
        if name not in thresholds:
            raise BundleError(f"{name}: the bundle has no operating point for it; fine-tune it again")
