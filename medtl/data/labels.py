"""Labels files: read strictly, joined to the scans of a dataset, refused with the row's number."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.data.split import PARTS
from medtl.errors import LabelError
from medtl.progress import say

KEYS = ("scan_id", "path", "patient_id", "split")
VALUES = {"": np.nan, "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Labels aligned with the rows of a dataset's manifest.

    Args:
        findings: names, in the order of the columns.
        values: (N, F) float32 of 0, 1 or NaN for unknown.
    """

    findings: tuple[str, ...]
    values: npt.NDArray[np.float32]

    @property
    def exclusive(self) -> bool:
        """Whether the findings are classes: three or more, and every labeled scan has exactly one."""
        labeled = self.values[~np.isnan(self.values).all(axis=1)]
        return (
            len(self.findings) >= 3
            and len(labeled) > 0
            and bool((np.nan_to_num(labeled, nan=2.0).sum(axis=1) == 1).all())
        )


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One line of a labels file."""

    number: int
    """Counted as a spreadsheet does: the header is row 1."""
    key: str
    patient_id: str
    split: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A labels file as it stands, not yet joined to scans."""

    path: Path
    key: str
    findings: tuple[str, ...]
    rows: tuple[LabelRow, ...]


def read_labels(path: Path) -> LabelFile:
    """Read a labels file.

    Raises:
        LabelError: no such file, no key column, no finding, or a value other than 0, 1 or empty; names the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise LabelError(
            f"{path}: no such file; expected a CSV with a column path or scan_id and one per finding"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise LabelError(f"{path}: is not a readable CSV file ({problem})") from None
    header = [name.strip() for name in lines[0]] if lines else []
    key = next((name for name in KEYS[:2] if name in header), None)
    if key is None:
        raise LabelError(
            f"{path}: has the columns {', '.join(header) or 'none'}; expected path or scan_id, and findings"
        )
    if len(set(header)) < len(header) or "" in header:
        raise LabelError(f"{path}: a column has no name or two have the same; give each its own")
    body = [(i, line) for i, line in enumerate(lines[1:], start=2) if any(cell.strip() for cell in line)]
    for i, line in body:
        if len(line) != len(header):
            raise LabelError(f"{path}, row {i}: has {len(line)} cells, the header has {len(header)}")
    findings = _findings(path, header, [line for _, line in body])
    places = {name: header.index(name) for name in header}

    def cell(line: list[str], name: str) -> str:
        return line[places[name]].strip() if name in places else ""

    rows = []
    for i, line in body:
        for finding in findings:
            if cell(line, finding) not in VALUES:
                raise LabelError(
                    f"{path}, row {i}: {finding} is '{cell(line, finding)}'; "
                    "expected 0 (absent), 1 (present) or nothing (unknown)"
                )
        split = cell(line, "split")
        if split and split not in PARTS:
            raise LabelError(f"{path}, row {i}: split is '{split}'; expected {', '.join(PARTS)} or nothing")
        values = tuple(VALUES[cell(line, finding)] for finding in findings)
        rows.append(
            LabelRow(number=i, key=cell(line, key), patient_id=cell(line, "patient_id"), split=split, values=values)
        )
    return LabelFile(path=path, key=key, findings=findings, rows=tuple(rows))


def _findings(path: Path, header: Sequence[str], body: Sequence[list[str]]) -> tuple[str, ...]:
    """The columns that are findings; a column of measurements is left out, and said so."""
    findings = []
    for i, name in enumerate(header):
        if name in KEYS:
            continue
        cells = {line[i].strip() for line in body} - {""}
        if cells and not cells & set(VALUES) and all(_is_number(cell) for cell in cells):
            say(f"{path}: the column {name} holds measurements, not 0 and 1; it is not used as a finding")
            continue
        findings.append(name)
    if not findings:
        raise LabelError(f"{path}: has no column of findings; add one per finding with 0, 1 or nothing")
    return tuple(findings)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def match_rows(labels: LabelFile, manifest: pd.DataFrame, rejected: Mapping[str, str]) -> dict[int, LabelRow]:
    """Find the manifest row of every label.

    Args:
        manifest: with the columns `scan_id`, `path`, `source`.
        rejected: paths of files that could not be used, which may have labels all the same; the value is the path of
            the same scan where the file is a duplicate, else empty.

    Returns:
        Manifest row to label row.

    Raises:
        LabelError: a label that matches no scan or several, or two that disagree; names the row.
    """
    index: dict[str, list[int]] = {}
    for i, name in enumerate(manifest[labels.key].astype(str)):
        index.setdefault(name, []).append(i)
    sources = [str(Path(str(source)).resolve()) for source in manifest["source"].unique()]
    joined: dict[int, LabelRow] = {}
    unusable = 0
    for row in labels.rows:
        names = [row.key] if labels.key == "scan_id" else _spellings(row.key, labels.path.parent, sources)
        place = next((index[name] for name in names if name in index), None)
        if place is None:
            twin = next((rejected[name] for name in names if name in rejected), None)
            if twin is None:
                raise LabelError(
                    f"{labels.path}, row {row.number}: {labels.key} '{row.key}' matches no scan of the dataset; "
                    f"expected something like '{manifest[labels.key].iloc[0]}'"
                )
            if not twin:
                unusable += 1
                continue
            place = index[twin]
        if len(place) > 1:
            raise LabelError(f"{labels.path}, row {row.number}: '{row.key}' names {len(place)} scans; use scan_id")
        before = joined.get(place[0])
        if before is not None and not np.array_equal(before.values, row.values, equal_nan=True):
            raise LabelError(
                f"{labels.path}, row {row.number}: '{row.key}' is also in row {before.number}, with other labels"
            )
        joined[place[0]] = row
    if unusable:
        say(f"{labels.path}: {unusable:,} labels are of files that could not be read; see rejects.csv")
    return joined


def _spellings(key: str, folder: Path, sources: Sequence[str]) -> list[str]:
    """The ways in which a labels file may name a path that the manifest keeps relative to its source."""
    plain = PurePosixPath(key.replace("\\", "/")).as_posix()
    full = str((folder / key).resolve())
    inside = [full[len(source) :].lstrip("/") for source in sources if full.startswith(source + "/")]
    return [plain, *inside, Path(full).name] if full in sources else [plain, *inside]


def table(labels: LabelFile, joined: Mapping[int, LabelRow], count: int) -> LabelTable:
    """Labels in the order of the manifest's `count` rows."""
    values = np.full((count, len(labels.findings)), np.nan, np.float32)
    for i, row in joined.items():
        values[i] = row.values
    return LabelTable(findings=labels.findings, values=values)
