"""labels.csv: read strictly, and joined to the scans of a dataset."""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.data.manifest import absolute_paths
from medtl.data.pseudonyms import as_patient, salt
from medtl.data.split import SPLITS
from medtl.data.tasks import MAIN, Task
from medtl.errors import LabelError
from medtl.progress import say

_KEYS = ("path", "scan_id", "patient_id", "split")
_VALUES = {"0": 0.0, "1": 1.0, "": np.nan, "0.0": 0.0, "1.0": 1.0}  # tables with gaps write whole numbers as 1.0
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What is known about each scan of a dataset.

    Args:
        findings: the names of the columns.
        values: (N, F) float32, aligned with the manifest: 1 there, 0 not there, NaN unknown.
        tasks: the findings by tasks, in the same order; without any, all findings are one task, which is exclusive
            where they look like classes: at least three, of which each labeled scan has exactly one.
    """

    findings: tuple[str, ...]
    values: Values
    tasks: tuple[Task, ...] = ()

    def __post_init__(self) -> None:
        if not self.tasks:
            labeled = self.values[~np.isnan(self.values).all(axis=1)]
            classes = len(self.findings) >= 3 and len(labeled) > 0 and bool((labeled.sum(axis=1) == 1).all())
            object.__setattr__(self, "tasks", (Task(name=MAIN, findings=self.findings, exclusive=classes),))

    @property
    def exclusive(self) -> bool:
        """Whether all findings are classes, of which each labeled scan has exactly one."""
        return len(self.tasks) == 1 and self.tasks[0].exclusive

    def columns(self, task: Task) -> list[int]:
        """Where in `values` the findings of a task stand."""
        return [self.findings.index(finding) for finding in task.findings]

    def digest(self, *rows: npt.NDArray[np.int64]) -> str:
        """Changes with any label, and with any of `rows`, so that work is not resumed with others."""
        content = hashlib.sha256(",".join(self.findings).encode())
        content.update(self.values.tobytes())
        for each in rows:
            content.update(each.tobytes())
        return content.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """A labels file whose every cell was checked; what each row is about is not known yet.

    Args:
        file: the file.
        findings: the names of the columns with labels.
        values: (R, F) float32.
        cells: (R,) of each of path, scan_id, patient_id and split, empty where the file does not say.
        numbers: (R,) the row of each in the file; the header is row 1.
    """

    file: Path
    findings: tuple[str, ...]
    values: Values
    cells: dict[str, list[str]]
    numbers: list[int]


@dataclass(frozen=True, kw_only=True)
class Join:
    """A labels file joined to a manifest.

    Args:
        table: the labels, aligned with the manifest.
        patients: patient id of each manifest row that the file names one for.
        splits: likewise its part.
        unused: labels of files that were rejected.
    """

    table: LabelTable
    patients: dict[int, str]
    splits: dict[int, str]
    unused: int


def read_labels(file: Path) -> LabelRows:
    """Read a labels file and check every cell.

    Raises:
        LabelError: names the row and what to do.
    """
    records = list(_records(file))
    if not records:
        raise LabelError(f"{file}: has the columns none; expected path or scan_id, and findings")
    header = [name.strip() for name in records[0][1]]
    _check_header(file, header)
    body = records[1:]
    for number, record in body:
        if len(record) != len(header):
            raise LabelError(f"{file}, row {number}: has {len(record)} cells, the header has {len(header)}")
    if not body:
        raise LabelError(f"{file}: has a header and no rows")
    numbers = [number for number, _ in body]
    columns = {name: [record[i].strip() for _, record in body] for i, name in enumerate(header)}
    for number, part in zip(numbers, columns.get("split", []), strict=False):
        if part not in ("", *SPLITS):
            raise LabelError(f"{file}, row {number}: split is '{part}'; expected {', '.join(SPLITS)} or nothing")
    findings: dict[str, list[float]] = {}
    for name in header:
        if name in _KEYS:
            continue
        if _is_measurement(columns[name]):
            say(f"{file.name}: column '{name}' holds measurements, not 0 or 1: ignored")
        elif not any(columns[name]):
            say(f"{file.name}: column '{name}' is empty: ignored")
        else:
            findings[name] = _values(file, name, columns[name], numbers)
    if not findings:
        raise LabelError(
            f"{file}: has no column of findings; beside {', '.join(n for n in header if n in _KEYS)} it needs a column "
            "of 0, 1 or nothing for each finding"
        )
    return LabelRows(
        file=file,
        findings=tuple(findings),
        values=np.array(list(findings.values()), np.float32).T,
        cells={name: columns.get(name, [""] * len(body)) for name in _KEYS},
        numbers=numbers,
    )


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with their numbers."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, record in enumerate(csv.reader(lines, strict=True), start=1):
                if any(cell.strip() for cell in record):
                    yield number, record
    except FileNotFoundError:
        raise LabelError(f"{file}: no such file") from None
    except UnicodeDecodeError:
        raise LabelError(f"{file}: is not UTF-8 text; save it as CSV with UTF-8 encoding") from None
    except (OSError, csv.Error) as problem:
        raise LabelError(f"{file}: cannot be read as CSV ({problem})") from None


def _check_header(file: Path, header: list[str]) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise LabelError(f"{file}: its columns are separated by semicolons or tabs; save it with commas")
    if not {"path", "scan_id"} & set(header):
        raise LabelError(f"{file}: has the columns {', '.join(header)}; expected path or scan_id, and findings")
    for i, name in enumerate(header):
        if not name:
            raise LabelError(f"{file}, row 1: column {i + 1} has no name")
        if name in header[:i]:
            raise LabelError(f"{file}, row 1: two columns are called '{name}'")


def _is_measurement(cells: list[str]) -> bool:
    try:
        numbers = {float(cell) for cell in cells if cell}
    except ValueError:
        return False
    return bool(numbers) and not numbers & {0.0, 1.0}


def _values(file: Path, name: str, cells: list[str], numbers: list[int]) -> list[float]:
    for number, cell in zip(numbers, cells, strict=True):
        if cell not in _VALUES:
            raise LabelError(
                f"{file}, row {number}: {name} is '{cell}'; expected 0 (absent), 1 (present) or nothing (unknown). "
                "A column that is no finding must be left out"
            )
    return [_VALUES[cell] for cell in cells]


def join_labels(file: Path, manifest: pd.DataFrame, rejects: pd.DataFrame) -> LabelTable:
    """Join a labels file to a dataset whose parts are fixed.

    Raises:
        LabelError: a cell or an id that cannot be used, with its row; patients or splits that the dataset's parts
            contradict, so that a patient to learn from would also be one to test on.
    """
    rows = read_labels(file)
    join = match_labels(rows, manifest, rejects, key=salt() if any(rows.cells["patient_id"]) else b"")
    if join.unused:
        say(f"{file.name}: {join.unused:,} labels are of files that were rejected: not used")
    again = "ingest the scans again with --labels, so that the parts follow the labels file"
    part = list(manifest["split"])
    for row, split in join.splits.items():
        if part[row] != split:
            raise LabelError(
                f"{file}: puts {manifest['path'][row]} into '{split}', the dataset has it in '{part[row]}'; {again}"
            )
    parts_of: dict[str, str] = {}
    for row, patient in join.patients.items():
        if parts_of.setdefault(patient, part[row]) != part[row]:
            raise LabelError(
                f"{file}: the scans of patient {patient} are in the parts '{parts_of[patient]}' and '{part[row]}' of "
                f"the dataset, which knew no better; {again}"
            )
    return join.table


def match_labels(rows: LabelRows, manifest: pd.DataFrame, rejects: pd.DataFrame, *, key: bytes) -> Join:
    """Find the scan that each row of a labels file is about.

    A scan is named by `scan_id`, by its path in the manifest, or by a path that leads from the folder of the labels
    file (or from /) to where the scan lay when it was ingested. A series may be named by its folder, where it is alone.

    Args:
        rows: the labels file.
        manifest: the scans.
        rejects: the files that are none.
        key: the salt of the manifest's pseudonyms.

    Raises:
        LabelError: an id that matches no scan or several, rows that disagree about a scan or a patient.
    """
    scans = _Index(manifest, rejects)
    values = np.full((len(manifest), len(rows.findings)), np.nan, np.float32)
    first: dict[int, int] = {}
    patients: dict[int, str] = {}
    splits: dict[int, str] = {}
    parts_of: dict[str, tuple[str, int]] = {}
    unused = 0
    for i, number in enumerate(rows.numbers):
        where = f"{rows.file}, row {number}"
        row = scans.find(rows.cells["path"][i], rows.cells["scan_id"][i], rows.file, where)
        if row is None:
            unused += 1
            continue
        named = rows.cells["scan_id"][i] or rows.cells["path"][i]
        also = f"{where}: '{named}' is also in row {first.setdefault(row, number)},"
        known = ~np.isnan(rows.values[i])
        clash = known & ~np.isnan(values[row]) & (values[row] != rows.values[i])
        if clash.any():
            name = rows.findings[int(np.flatnonzero(clash)[0])]
            raise LabelError(f"{also} which says otherwise about {name}; keep one")
        values[row, known] = rows.values[i, known]
        patient, split = rows.cells["patient_id"][i], rows.cells["split"][i]
        if patient and patients.setdefault(row, patient) != patient:
            raise LabelError(f"{also} as of patient {patients[row]}, not {patient}; keep one")
        if split:
            known_as = manifest["patient_id"][row]  # missing while scans are being ingested that name nobody
            owner = (
                as_patient(patient, key=key)
                if patient
                else str(manifest["path"][row] if pd.isna(known_as) else known_as)
            )
            part, said = parts_of.setdefault(owner, (split, number))
            if part != split:
                raise LabelError(
                    f"{where}: puts the patient into '{split}' whom row {said} puts into '{part}'; a patient to "
                    "learn from cannot be one to test on"
                )
            splits[row] = split
    return Join(
        table=LabelTable(findings=rows.findings, values=values), patients=patients, splits=splits, unused=unused
    )


class _Index:
    """From the ways to name a scan to its row; None stands for a file that was rejected."""

    def __init__(self, manifest: pd.DataFrame, rejects: pd.DataFrame) -> None:
        self.by_id: dict[str, int | None] = {name: row for row, name in enumerate(manifest["scan_id"])}
        self.by_path: dict[str, list[int | None]] = {}
        self.by_place: dict[str, int | None] = {}
        # A duplicate of a scan was rejected, but its labels are that scan's.
        twins = [self.by_id.get(name) if code == "duplicate" else None
                 for name, code in zip(rejects["scan_id"], rejects["code"], strict=True)]  # fmt: skip
        for table, rows in ((rejects, twins), (manifest, list(range(len(manifest))))):
            for path, place, row in zip(table["path"], absolute_paths(table), rows, strict=True):
                self.by_path.setdefault(path, []).append(row)
                self.by_place[place] = row
        for path, files, row in zip(manifest["path"], manifest["files"], range(len(manifest)), strict=True):
            if files > 1:
                self.by_path.setdefault(os.path.dirname(path), []).append(row)  # noqa: PTH120

    def find(self, path: str, scan_id: str, file: Path, where: str) -> int | None:
        if scan_id:
            if scan_id not in self.by_id:
                raise LabelError(f"{where}: scan_id '{scan_id}' matches no scan{_near(self.by_id)}")
            return self.by_id[scan_id]
        if not path:
            raise LabelError(f"{where}: names no scan; fill in its path or scan_id")
        rows = set(self.by_path.get(os.path.normpath(path.replace("\\", "/")), ()))
        if len(rows) > 1:
            raise LabelError(f"{where}: '{path}' is in several of the ingested folders; name the scan by scan_id")
        if rows:
            return rows.pop()
        place = os.path.normpath(os.path.join(os.path.abspath(file.parent), path.replace("\\", "/")))  # noqa: PTH100, PTH118
        if place not in self.by_place:
            raise LabelError(f"{where}: path '{path}' matches no scan{_near(self.by_path)}")
        return self.by_place[place]


def _near(known: Mapping[str, object]) -> str:
    """An example of what would have matched."""
    example = next(iter(known), None)
    return f"; the dataset's look like '{example}'" if example else ""
