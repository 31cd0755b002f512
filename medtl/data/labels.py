"""Labels files joined to the scans of a dataset, and to each other: later files correct earlier ones."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.data.label_rows import LabelRows, Values, read_labels
from medtl.data.manifest import absolute_paths
from medtl.data.pseudonyms import as_patient, salt
from medtl.data.tasks import MAIN, Task
from medtl.errors import LabelError
from medtl.progress import counted, say


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What is known about each scan of a dataset.

    Args:
        findings: the names of the columns.
        values: (N, F) float32, aligned with the manifest: 1 there, 0 not there, NaN unknown.
        tasks: the findings by tasks, in the same order; without any, all findings are one task, which is exclusive
            where they look like classes: at least three, of which each labeled scan has exactly one.
        files: what the labels are from, in words: name and digest of each file.
    """

    findings: tuple[str, ...]
    values: Values
    tasks: tuple[Task, ...] = ()
    files: tuple[str, ...] = ()

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
class Join:
    """Labels files joined to a manifest.

    Args:
        table: the labels, aligned with the manifest.
        patients: patient id of each manifest row that the files name one for.
        splits: likewise its part.
        modalities: likewise its modality.
    """

    table: LabelTable
    patients: dict[int, str]
    splits: dict[int, str]
    modalities: dict[int, str]


def join_labels(files: Sequence[Path], manifest: pd.DataFrame, rejects: pd.DataFrame) -> LabelTable:
    """Join labels files to a dataset whose parts are fixed.

    Raises:
        LabelError: a cell or an id that cannot be used, with its row; patients or splits that the dataset's parts
            contradict, so that a patient to learn from would also be one to test on.
    """
    rows = [read_labels(file) for file in files]
    named = any(any(each.cells["patient_id"]) for each in rows)
    key = salt() if named else b""
    join = match_labels(rows, manifest, rejects, key=key)
    where = ", ".join(map(str, files))
    again = "ingest the scans again with --labels, so that the parts follow the labels file"
    part = list(manifest["split"])
    for row, split in join.splits.items():
        if part[row] != split:
            raise LabelError(
                f"{where}: puts {manifest['path'][row]} into '{split}', the dataset has it in '{part[row]}'; {again}"
            )
    parts_of: dict[str, str] = {}
    for row, patient in join.patients.items():
        other = parts_of.setdefault(as_patient(patient, key=key), part[row])
        if other != part[row]:
            raise LabelError(
                f"{where}: the scans of patient {patient} are in the parts '{other}' and '{part[row]}' of the dataset, "
                f"which knew no better; {again}"
            )
    return join.table


def match_labels(files: Sequence[LabelRows], manifest: pd.DataFrame, rejects: pd.DataFrame, *, key: bytes) -> Join:
    """Find the scan that each row of the labels files is about, and join the files by scan.

    A scan is named by `scan_id`, by its path in the manifest, or by a path that leads from the folder of the labels
    file (or from /) to where the scan lay when it was ingested. A series may be named by its folder, where it is alone.

    Args:
        files: one at least; where two speak of a finding of a scan, the later one counts.
        manifest: the scans.
        rejects: the files that are none.
        key: the salt of the manifest's pseudonyms.

    Raises:
        LabelError: an id that matches no scan or several, rows of a file that disagree about a scan, or of any about a
            patient.
    """
    scans, people = _Index(manifest, rejects), _People(manifest, key)
    table = _matched(files[0], scans, people)
    for rows in files[1:]:
        table = merged_labels(table, _matched(rows, scans, people), name=rows.file.name)
    return Join(table=table, patients=people.patients, splits=people.splits, modalities=people.modalities)


def merged_labels(earlier: LabelTable, later: LabelTable, *, name: str) -> LabelTable:
    """Both; where both speak of a finding of a scan, the later one counts. How many labels that changes is said.

    Args:
        name: what to call the later one.
    """
    findings = tuple(dict.fromkeys([*earlier.findings, *later.findings]))
    values = np.full((len(earlier.values), len(findings)), np.nan, np.float32)
    values[:, : len(earlier.findings)] = earlier.values
    columns = [findings.index(finding) for finding in later.findings]
    before, known = values[:, columns], ~np.isnan(later.values)
    added, changed = known & np.isnan(before), known & ~np.isnan(before) & (before != later.values)
    values[:, columns] = np.where(known, later.values, before)
    say(f"{name}: adds {counted(int(added.sum()), 'label')} to the earlier ones and changes {changed.sum():,} of those")
    merged = LabelTable(findings=findings, values=values, files=(*earlier.files, *later.files))
    if earlier.exclusive and not merged.exclusive:
        say(
            f"note: {', '.join(earlier.findings)} were classes, of which each labeled scan has exactly one; with "
            f"{name} that no longer holds, so each finding is judged for itself"
        )
    return merged


def _matched(rows: LabelRows, scans: "_Index", people: "_People") -> LabelTable:
    """The labels of one file, aligned with the manifest."""
    values = np.full((scans.count, len(rows.findings)), np.nan, np.float32)
    first: dict[int, int] = {}
    unused = 0
    for i, number in enumerate(rows.numbers):
        where = f"{rows.file}, row {number}"
        row = scans.find(rows.cells["path"][i], rows.cells["scan_id"][i], rows.file, where)
        if row is None:
            unused += 1
            continue
        named = rows.cells["scan_id"][i] or rows.cells["path"][i]
        known = ~np.isnan(rows.values[i])
        clash = known & ~np.isnan(values[row]) & (values[row] != rows.values[i])
        if clash.any():
            name = rows.findings[int(np.flatnonzero(clash)[0])]
            raise LabelError(
                f"{where}: '{named}' is also in row {first[row]}, which says otherwise about {name}; keep one"
            )
        first.setdefault(row, number)
        values[row, known] = rows.values[i, known]
        people.add(
            row, named, patient=rows.cells["patient_id"][i], split=rows.cells["split"][i], at=(rows.file, number)
        )
        people.add_modality(row, named, rows.cells["modality"][i], at=(rows.file, number))
    if unused:
        say(f"{rows.file.name}: not used because their files were rejected: {counted(unused, 'label')}")
    return LabelTable(findings=rows.findings, values=values, files=(rows.words,))


class _People:
    """Whose the scans are, into which part they go and how they were made, as all files say it alike."""

    def __init__(self, manifest: pd.DataFrame, key: bytes) -> None:
        self.patients: dict[int, str] = {}
        self.splits: dict[int, str] = {}
        self.modalities: dict[int, str] = {}
        self._how: dict[int, tuple[Path, int]] = {}
        self._manifest, self._key = manifest, key
        self._named: dict[int, tuple[Path, int]] = {}
        self._parts: dict[str, tuple[str, tuple[Path, int]]] = {}

    def add(self, row: int, named: str, *, patient: str, split: str, at: tuple[Path, int]) -> None:
        """Take up what a row of a file says of a scan.

        Raises:
            LabelError: another row says otherwise.
        """
        where = f"{at[0]}, row {at[1]}"
        if patient:
            before = self._named.setdefault(row, at)
            first = self.patients.setdefault(row, patient)
            if as_patient(first, key=self._key) != as_patient(patient, key=self._key):
                raise LabelError(
                    f"{where}: '{named}' is also in {_row(before, at)}, as of patient {first}, not {patient}; keep one"
                )
        if split:
            known_as = self._manifest["patient_id"][row]  # missing while scans are being ingested that name nobody
            owner = (
                as_patient(patient, key=self._key)
                if patient
                else str(self._manifest["path"][row] if pd.isna(known_as) else known_as)
            )
            part, said = self._parts.setdefault(owner, (split, at))
            if part != split:
                raise LabelError(
                    f"{where}: puts the patient into '{split}' whom {_row(said, at)} puts into '{part}'; a patient to "
                    "learn from cannot be one to test on"
                )
            self.splits[row] = split

    def add_modality(self, row: int, named: str, modality: str, *, at: tuple[Path, int]) -> None:
        """Take up what a row of a file says of how a scan was made; as `add`."""
        if not modality:
            return
        said = self._how.setdefault(row, at)
        if (first := self.modalities.setdefault(row, modality)) != modality:
            raise LabelError(
                f"{at[0]}, row {at[1]}: '{named}' is also in {_row(said, at)}, as {first}, not {modality}; keep one"
            )


def _row(other: tuple[Path, int], at: tuple[Path, int]) -> str:
    return f"row {other[1]}" + ("" if other[0] == at[0] else f" of {other[0]}")


class _Index:
    """From the ways to name a scan to its row; None stands for a file that was rejected."""

    def __init__(self, manifest: pd.DataFrame, rejects: pd.DataFrame) -> None:
        self.count = len(manifest)
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
