"""What is to be taught, and from what: labeled scans of a dataset, or scans that somebody marked one by one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset
from medtl.data.label_rows import LabelFiles, files_of
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.sources import read_scan
from medtl.errors import ConfigError, LabelError

Example = tuple[str | Path | Scan, int]
"""A scan or its file, and 1 where the finding is there, 0 where it is not."""
CHOSEN = "scans chosen one by one"
"""What stands for the dataset's fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labeled scans to teach findings from.

    Args:
        table: the labels of the N scans.
        scan_ids, patients: (N,) their names, and whose they are.
        stored: gives their stored blocks by place.
        beside: the folder next to which embeddings are kept; None takes the bundle's.
        fingerprint: of the dataset.
    """

    table: LabelTable
    scan_ids: tuple[str, ...]
    patients: npt.NDArray[np.str_]
    stored: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]
    beside: Path | None
    fingerprint: str


def from_dataset(data: Dataset, labels: LabelFiles, finding: str | None) -> Examples:
    """The labeled scans of a dataset outside its test part.

    Raises:
        LabelError: the labels file cannot be used, or has no such column.
    """
    table = data.labels(labels)
    if finding is not None and finding not in table.findings:
        where = ", ".join(map(str, files_of(labels) or [data.folder / "labels.csv"]))
        raise LabelError(f"{where}: has no column '{finding}'; it has {', '.join(table.findings)}")
    taught = table.findings if finding is None else (finding,)
    values = table.values[:, [table.findings.index(name) for name in taught]]
    outside = data.manifest["split"].to_numpy() != "test"
    rows = np.flatnonzero(~np.isnan(values).all(axis=1) & outside).astype(np.int64)
    return Examples(
        table=LabelTable(findings=taught, values=values[rows], files=table.files),
        scan_ids=tuple(str(name) for name in data.manifest["scan_id"].to_numpy()[rows]),
        patients=data.patients[rows],
        stored=lambda places: data.pixels(rows[places]),
        beside=data.folder,
        fingerprint=data.fingerprint,
    )


def from_scans(examples: Iterable[Example], finding: str | None, spec: PreprocessSpec) -> Examples:
    """Scans that somebody marked, as a page hands them over. Scans that name no patient count as one each.

    Raises:
        ConfigError: the finding has no name.
        LabelError: a label is neither 0 nor 1, or a scan has both.
        ScanError: a file cannot be used.
    """
    if not finding:
        raise ConfigError("finding: examples without a labels file need the finding's name")
    label_of: dict[str, int] = {}
    patient_of: dict[str, str] = {}
    blocks: dict[str, npt.NDArray[np.uint8]] = {}
    for number, (source, label) in enumerate(examples, start=1):
        if label not in (0, 1):
            raise LabelError(f"example {number}: {finding} is {label!r}; expected 0 (absent) or 1 (present)")
        scan = source if isinstance(source, Scan) else read_scan(Path(source), dims=spec.dims)
        if label_of.setdefault(scan.scan_id, int(label)) != label:
            raise LabelError(f"example {number}: {scan.source} was given before as {1 - label} of {finding}; keep one")
        patient_of[scan.scan_id] = scan.header.patient_id or f"scan {scan.scan_id}"
        blocks[scan.scan_id] = spec.stored(scan)
    names = tuple(blocks)
    return Examples(
        table=LabelTable(findings=(finding,), values=np.array([[label_of[name]] for name in names], np.float32)),
        scan_ids=names,
        patients=np.array(list(patient_of.values()), dtype=str),
        stored=lambda places: np.stack([blocks[names[place]] for place in places]),
        beside=None,
        fingerprint=CHOSEN,
    )
