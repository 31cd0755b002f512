"""The table of a dataset: a row per image, its patient and its part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medtl.data.labels import LabelRow
from medtl.data.scan import Scan
from medtl.data.split import split_of
from medtl.errors import LabelError

COLUMNS = (
    "row", "scan_id", "path", "source", "patient_id", "study_id", "series_id", "split", "modality", "body_part", "view",
    "manufacturer", "scanner", "age_years", "sex", "height_px", "width_px", "row_spacing_mm", "column_spacing_mm",
    "sha256", "steps",
)  # fmt: skip


def describe(scan: Scan, *, path: str, source: str, split: str | None) -> dict[str, Any]:
    """One row of the manifest, its number, patient and part still to be settled."""
    header = scan.header
    row_mm, column_mm = scan.spacing_mm or (None, None)
    return {
        "scan_id": scan.scan_id,
        "path": path,
        "source": source,
        "patient_id": header.patient_id,
        "study_id": header.study_id,
        "series_id": header.series_id,
        "split": split,
        "modality": header.modality,
        "body_part": header.body_part,
        "view": header.view,
        "manufacturer": header.manufacturer,
        "scanner": header.scanner,
        "age_years": header.age_years,
        "sex": header.sex,
        "height_px": scan.pixels.shape[0],
        "width_px": scan.pixels.shape[1],
        "row_spacing_mm": row_mm,
        "column_spacing_mm": column_mm,
        "sha256": scan.sha256,
        "steps": "; ".join(scan.steps),
    }


def settle(
    rows: list[dict[str, Any]], joined: Mapping[int, LabelRow], *, seed: int, labels: Path | None
) -> pd.DataFrame:
    """Give every row its patient and its part: all images of one patient are in one part.

    A patient id comes from the labels file, else from the header, else the file is its own patient. The part comes
    from the labels file, else from the file's official split, else from a hash of the patient id.

    Raises:
        LabelError: a patient whose images are sent to different parts.
    """
    sent: dict[str, str] = {}
    for i, row in enumerate(rows):
        label = joined.get(i)
        row["patient_id"] = (label.patient_id if label else "") or row["patient_id"] or row["path"]
        split = (label.split if label else "") or row["split"]
        if split and sent.setdefault(row["patient_id"], split) != split:
            raise LabelError(
                f"{labels}: patient {row['patient_id']} is in {sent[row['patient_id']]} and in {split}; "
                "all scans of a patient belong to one part"
            )
    for number, row in enumerate(rows):
        row["row"] = number
        row["split"] = sent.get(row["patient_id"]) or split_of(row["patient_id"], seed)
    return pd.DataFrame(rows, columns=list(COLUMNS))
