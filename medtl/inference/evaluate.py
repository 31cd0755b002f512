"""`medtl evaluate`: the evidence report of a bundle on labeled scans."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset, open_dataset
from medtl.data.label_rows import LabelFiles
from medtl.data.labels import LabelTable
from medtl.data.tasks import Task
from medtl.errors import LabelError
from medtl.evaluation.report import build_report, write_report
from medtl.files import check_replaceable
from medtl.inference.bundle import Bundle
from medtl.inference.reference import read_reference
from medtl.inference.runtime import Detector, load
from medtl.progress import progress, say

SPLITS = ("test", "val", "train", "all")
BATCH = 32


def evaluate(
    bundle: str | Path,
    dataset: str | Path,
    *,
    out: str | Path,
    labels: LabelFiles = None,
    split: str = "test",
) -> Path:
    """Compare a bundle's probabilities with labels and write `report.html` and `report.json`.

    Args:
        bundle: the folder that `finetune` left.
        dataset: the folder that `ingest` left, stored as the bundle's preprocessing asks.
        out: the report's folder; an earlier report in it is replaced.
        labels: a labels file, or several of which a later one corrects the earlier; None takes the one in the dataset.
        split: "test", "val", "train" or "all"; only "test" is honest for scans that the bundle may have learned from.

    Returns:
        The report's folder.

    Raises:
        MedtlError: see the message.
    """
    folder, detector, data = Path(out), load(bundle), open_dataset(Path(dataset))
    check_replaceable(folder, marker="report.json")
    table = data.labels(labels)
    findings = _shared_findings(detector.bundle, table)
    columns = [table.findings.index(finding) for finding in findings]
    rows = _labeled_rows(data, table, columns, split)
    data.check_storage(detector.bundle.spec)
    known = set(read_reference(Path(bundle)).scan_ids)
    seen = sum(name in known for name in data.manifest["scan_id"].to_numpy()[rows])
    if seen:
        say(f"warning: the bundle was trained on {seen:,} of these {len(rows):,} scans; the numbers flatter it")
    probabilities = np.empty((len(rows), len(detector.bundle.findings)))
    with progress("evaluating", len(rows), unit="scans") as update:
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            probabilities[first : first + len(batch)] = detector.predict_stored(data.pixels(batch))
            update(first + len(batch))
    report = build_report(
        findings=findings,
        labels=table.values[rows][:, columns],
        probabilities=probabilities[:, [detector.bundle.findings.index(finding) for finding in findings]],
        patient_ids=[str(name) for name in data.manifest["patient_id"].to_numpy()[rows]],
        thresholds={finding: detector.bundle.thresholds[finding] for finding in findings},
        bands=detector.bundle.bands,
        exclusive=detector.bundle.exclusive and len(findings) == len(detector.bundle.findings),
        context=_context(detector, data, table, split, seen),
        tasks=_shared_tasks(detector.bundle, findings),
    )
    write_report(report, folder)
    for result in report.findings:
        value = result.intervals.auroc
        say(f"{result.name}: AUROC {value.value:.3f} ({value.low:.3f} to {value.high:.3f})")
    if left := [finding for finding in detector.bundle.findings if finding not in findings]:
        say(f"not judged, for want of labels: {', '.join(left)}; name a file that has them with --labels")
    say(f"report on {len(rows):,} scans: {folder / 'report.html'}")
    return folder


def _shared_findings(bundle: Bundle, table: LabelTable) -> list[str]:
    shared = [finding for finding in bundle.findings if finding in table.findings]
    if not shared:
        raise LabelError(
            f"the bundle detects {', '.join(bundle.findings)}, the labels are of {', '.join(table.findings)}; "
            "rename the column of the labels file"
        )
    return shared


def _shared_tasks(bundle: Bundle, findings: list[str]) -> list[Task]:
    """The tasks of a bundle that has several, with what is left of them among `findings`."""
    if len(bundle.tasks) == 1:
        return []
    left = [(task, tuple(name for name in task.findings if name in findings)) for task in bundle.tasks]
    return [replace(task, findings=names) for task, names in left if names]


def _labeled_rows(data: Dataset, table: LabelTable, columns: list[int], split: str) -> npt.NDArray[np.int64]:
    if split not in SPLITS:
        raise LabelError(f"--split {split}: choose from {', '.join(SPLITS)}")
    known = ~np.isnan(table.values[:, columns]).all(axis=1)
    here = np.ones(len(data), bool) if split == "all" else data.manifest["split"].to_numpy() == split
    rows = np.flatnonzero(known & here)
    if len(rows) == 0:
        raise LabelError(f"{data.folder}: no labeled scan in the part '{split}'; label some, or choose another --split")
    return rows


def _context(detector: Detector, data: Dataset, table: LabelTable, split: str, seen: int) -> dict[str, str]:
    bundle = detector.bundle
    return {
        "bundle": f"{bundle.name} ({bundle.bundle_id})",
        "dataset": str(data.folder),
        "labels": ", ".join(table.files),
        "part": split,
        "seen in training": f"{seen:,} of these scans; the numbers flatter the bundle"
        if seen
        else "none of these scans",
        "network": f"{bundle.network} at {bundle.seen_px} px",
        "start": str(bundle.training.get("start", "")),
        "trained on": f"{bundle.training.get('labeled_scans', '?')} labeled scans",
        "strategy": str(bundle.training.get("strategy", "")),
        "remarks on training": str(bundle.training.get("remarks", "")),
        "calibration": bundle.calibration,
        "date": date.today().isoformat(),
    }
