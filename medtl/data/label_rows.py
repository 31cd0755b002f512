"""A labels file, read strictly: every cell is checked before it is known which scan its row is about."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from medtl.data.modalities import modality_of
from medtl.data.split import SPLITS
from medtl.errors import ConfigError, LabelError
from medtl.progress import say

_KEYS = ("path", "scan_id", "patient_id", "split", "modality")
_VALUES = {"0": 0.0, "1": 1.0, "": np.nan, "0.0": 0.0, "1.0": 1.0}  # tables with gaps write whole numbers as 1.0
Values = npt.NDArray[np.float32]
LabelFiles = str | Path | Sequence[str | Path] | None
"""A labels file or several, of which a later one corrects the earlier; None takes the labels in the dataset."""
NamedFiles = Annotated[tuple[str, ...], BeforeValidator(lambda said: (said,) if isinstance(said, str) else said or ())]
"""The same in a config, where one file may stand without a list."""


def files_of(labels: LabelFiles) -> tuple[Path, ...]:
    """The files, none where the labels in the dataset are meant."""
    if labels is None:
        return ()
    return tuple(map(Path, [labels] if isinstance(labels, str | Path) else labels))


@dataclass(frozen=True, kw_only=True)
class LabelRows:
    """A labels file whose every cell was checked; what each row is about is not known yet.

    Args:
        file: the file.
        sha256: of the file, in hexadecimal digits.
        findings: the names of the columns with labels.
        values: (R, F) float32.
        cells: (R,) of each of path, scan_id, patient_id, split and modality (its code), empty where the file does not
            say.
        numbers: (R,) the row of each in the file; the header is row 1.
    """

    file: Path
    sha256: str
    findings: tuple[str, ...]
    values: Values
    cells: dict[str, list[str]]
    numbers: list[int]

    @property
    def words(self) -> str:
        """The file's name and the beginning of its digest, by which people know it again."""
        return f"{self.file.name} (sha256 {self.sha256[:16]})"


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
    columns["modality"] = [
        _modality(file, number, said) if said else ""
        for number, said in zip(numbers, columns.get("modality", [""] * len(body)), strict=True)
    ]
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
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
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


def _modality(file: Path, number: int, said: str) -> str:
    try:
        return modality_of(said)
    except ConfigError as problem:
        raise LabelError(f"{file}, row {number}: {problem}") from None


def _values(file: Path, name: str, cells: list[str], numbers: list[int]) -> list[float]:
    for number, cell in zip(numbers, cells, strict=True):
        if cell not in _VALUES:
            raise LabelError(
                f"{file}, row {number}: {name} is '{cell}'; expected 0 (absent), 1 (present) or nothing (unknown). "
                "A column that is no finding must be left out"
            )
    return [_VALUES[cell] for cell in cells]
