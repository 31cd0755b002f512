"""The tables of a dataset: a row for each scan, and a row for each file that is not one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medtl.data.nameless import nameless
from medtl.data.pseudonyms import day_offset, pseudonym
from medtl.data.scan import Scan
from medtl.errors import DatasetError

TEXT = [
    "scan_id", "path", "source", "patient_id", "study_id", "series_id", "split", "modality", "body_part", "view",
    "manufacturer", "scanner", "sex", "sha256", "phash", "version", "warnings", "steps",
]  # fmt: skip
NUMBERS = ["age_years", "slice_spacing_mm", "row_spacing_mm", "column_spacing_mm"]
COUNTS = ["row", "depth_px", "height_px", "width_px", "files"]
COLUMNS = [
    "row", "scan_id", "path", "source", "patient_id", "study_id", "series_id", "split", "day", "modality", "body_part",
    "view", "manufacturer", "scanner", "age_years", "sex", "depth_px", "height_px", "width_px", "slice_spacing_mm",
    "row_spacing_mm", "column_spacing_mm", "files", "sha256", "phash", "version", "warnings", "steps",
]  # fmt: skip
REJECT_COLUMNS = ["path", "code", "message", "source", "scan_id", "patient_id"]


def describe(scan: Scan, *, path: str, source: str, split: str | None, key: bytes) -> dict[str, Any]:
    """A scan as a row of the manifest: patient, study and series as pseudonyms, dates as ages and days.

    Args:
        path: its path below `source`; what labels name.
        source: the folder that `path` counts from, absolute.
        split: the part that the file itself names, if it does.
        key: the salt of the pseudonyms.
    """
    header, known = scan.header, scan.spacing_mm or (None,) * scan.dims
    sides, spacing = ((1, *scan.shape)[-3:], (None, *known)[-3:])
    patient, day = header.patient_id, None
    if patient and header.acquired:
        day = header.acquired.toordinal() - day_offset(patient, key=key)
    return nameless(header, key=key) | {
        "scan_id": scan.scan_id,
        "path": path,
        "source": source,
        "study_id": pseudonym("study", header.study_id, key=key) if header.study_id else None,
        "series_id": pseudonym("series", header.series_id, key=key) if header.series_id else None,
        "split": split,
        "day": day,
        "manufacturer": header.manufacturer,
        "scanner": header.scanner,
        "depth_px": sides[0],
        "height_px": sides[1],
        "width_px": sides[2],
        "slice_spacing_mm": spacing[0],
        "row_spacing_mm": spacing[1],
        "column_spacing_mm": spacing[2],
        "sha256": scan.sha256,
        "steps": "; ".join(scan.steps),
    }


def manifest_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows as a table with the manifest's columns and types."""
    table = pd.DataFrame({name: [row.get(name) for row in rows] for name in COLUMNS[1:]})
    table.insert(0, "row", range(len(table)))
    types = dict.fromkeys(TEXT, "string") | dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(COUNTS, "int64")
    return table.astype(types | {"day": "Int64"})


def reject_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The files that were not taken, with the reason of each."""
    return pd.DataFrame(list(rows), columns=REJECT_COLUMNS).astype("string")


def read_manifest(folder: Path) -> pd.DataFrame:
    """The manifest of a dataset folder.

    Raises:
        DatasetError: it is missing, damaged or lacks a column.
    """
    path = folder / "manifest.parquet"
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; the dataset is incomplete: ingest the scans again") from None
    except Exception as problem:  # pyarrow's own exceptions are many
        said = str(problem).splitlines()[0]
        raise DatasetError(f"{path}: cannot be read ({said}); ingest the scans again") from None
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DatasetError(f"{path}: has no column '{missing[0]}'; ingest the scans again with this version of medtl")
    return table


def read_rejects(folder: Path) -> pd.DataFrame:
    """The rejects of a dataset folder; empty where there is no such file."""
    path = folder / "rejects.csv"
    if not path.is_file():
        return reject_table([])
    return pd.read_csv(path, dtype="string", keep_default_na=False)


def absolute_paths(table: pd.DataFrame) -> list[str]:
    """Where each row's file lay when it was ingested."""
    return [os.path.join(s, p) for s, p in zip(table["source"], table["path"], strict=True)]  # noqa: PTH118 - fast
