"""Verdicts as labels: what readers said goes back into fine-tuning."""

import csv
from pathlib import Path

from medtl.errors import ReviewError
from medtl.files import atomic_file
from medtl.progress import say
from medtl.review.store import ReviewStore, StoredVerdict

_OPPOSITE = {"positive": "negative", "negative": "positive"}
_LABEL = {"positive": "1", "negative": "0"}


def export_labels(db: str | Path, out: str | Path) -> int:
    """Write the latest verdict on each finding of each scan as a label.

    A reader who agrees confirms the detector's decision, one who disagrees says the opposite, one who is unsure
    leaves the cell empty.

    Args:
        db: the file that keeps the verdicts.
        out: the labels file: `scan_id` and one column per finding with 1, 0 or nothing; replaced once complete.

    Returns:
        How many scans were written.

    Raises:
        ReviewError: no such file, no verdict in it, or it cannot be read.
    """
    if not Path(db).is_file():
        raise ReviewError(f"{db}: no such file; the review page (medtl serve) makes it")
    store = ReviewStore(db)
    verdicts = store.verdicts()
    store.close()
    if not verdicts:
        raise ReviewError(f"{db}: holds no verdicts yet; save one on the review page (medtl serve) first")
    findings = list(dict.fromkeys(verdict.finding for verdict in verdicts))
    scans: dict[str, dict[str, str]] = {}
    for verdict in verdicts:  # oldest first, so the latest wins
        scans.setdefault(verdict.scan_id, {})[verdict.finding] = _label(verdict)
    with atomic_file(Path(out)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["scan_id", *findings], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"scan_id": scan_id} | labels for scan_id, labels in scans.items())
    known = sum(label != "" for labels in scans.values() for label in labels.values())
    say(f"{known} labels of {len(scans)} scans: {out}")
    return len(scans)


def _label(verdict: StoredVerdict) -> str:
    if verdict.verdict == "unsure":
        return ""
    meant = verdict.decision if verdict.verdict == "agree" else _OPPOSITE[verdict.decision]
    return _LABEL[meant]
