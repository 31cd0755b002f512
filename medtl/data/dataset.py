"""The dataset folder: `ingest` makes it, `open_dataset` opens it."""

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl import __version__
from medtl.config import build
from medtl.data.assign import assign_patients_and_parts, own_labels, write_labels
from medtl.data.input_report import write_input_report
from medtl.data.labels import LabelTable, join_labels, match_labels, read_labels
from medtl.data.manifest import manifest_table, read_manifest, read_rejects, reject_table
from medtl.data.npz import count_of, side_of
from medtl.data.preprocess import PreprocessSpec
from medtl.data.reading import Refused, Taken, read_files
from medtl.data.shards import ShardReader, ShardWriter
from medtl.data.sources import FoundFile, find_files, is_npz
from medtl.errors import DatasetError
from medtl.files import atomic_folder, check_replaceable, read_json, write_json
from medtl.progress import progress, say

MARKER = "dataset.json"
DEFAULT_SIZE_PX = 256
_SOFTWARE = ("numpy", "pillow", "pydicom", "python-gdcm", "tifffile", "nibabel")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An open dataset folder. Make one with `medtl.open_dataset` or `medtl.ingest`.

    Args:
        folder: where it is.
        spec: how its scans were preprocessed.
        manifest: a row for each scan; its columns are those of `medtl.data.manifest`.
        fingerprint: digest of the scans, their patients and parts, and the spec.
    """

    folder: Path
    spec: PreprocessSpec
    manifest: pd.DataFrame
    fingerprint: str
    _shards: ShardReader = field(repr=False)

    def __len__(self) -> int:
        return len(self.manifest)

    def pixels(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Stored squares (B, 1, S, S) of manifest rows (B,), in any order."""
        return self._shards.read(np.asarray(rows, np.int64))

    def labels(self, csv: str | Path | None = None) -> LabelTable:
        """The labels in a file, or those that came with the dataset.

        Raises:
            DatasetError: `csv` is None and the dataset came without labels.
            LabelError: the file cannot be used; names the row.
        """
        file = Path(csv) if csv else self.folder / "labels.csv"
        if csv is None and not file.is_file():
            raise DatasetError(f"{self.folder}: was ingested without labels; name a labels file with --labels")
        return join_labels(file, self.manifest, read_rejects(self.folder))

    def check_storage(self, spec: PreprocessSpec) -> None:
        """Make sure that a network with `spec` can read this dataset.

        Raises:
            DatasetError: scans are stored otherwise than the network's.
        """
        if not self.spec.same_storage(spec):
            raise DatasetError(
                f"{self.folder}: stores scans at {self.spec.size_px} px, the network was made for {spec.size_px} px; "
                f"ingest the scans again with --size-px {spec.size_px}"
            )


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder; pixels stay on disk until asked for.

    Raises:
        DatasetError: not a dataset, damaged, or of another format.
    """
    path = Path(folder)
    if not (path / MARKER).is_file():
        found = "holds no dataset.json" if path.is_dir() else "no such folder"
        raise DatasetError(f"{path}: {found}; expected a dataset that medtl ingest left")
    content = read_json(path / MARKER, error=DatasetError)
    try:
        spec = build(PreprocessSpec, content["spec"], source=str(path / MARKER))
        count, fingerprint = int(content["counts"]["scans"]), str(content["fingerprint"])
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{path / MARKER}: lacks what every dataset has; ingest the scans again") from None
    manifest = read_manifest(path)
    if len(manifest) != count:
        raise DatasetError(
            f"{path}: manifest.parquet has {len(manifest):,} rows, dataset.json says {count:,}; "
            "the folder is damaged: ingest the scans again"
        )
    shards = ShardReader(path, count=count, shape=spec.stored_shape)
    return Dataset(folder=path, spec=spec, manifest=manifest, fingerprint=fingerprint, _shards=shards)


def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    labels: str | Path | None = None,
    size_px: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Read scans once into a dataset folder, split by patient.

    Every file is either a row of the manifest or a row of `rejects.csv` with the reason.

    Args:
        source: files, folders of any depth, globs.
        out: the dataset's folder; an earlier dataset in it is replaced once the new one is complete.
        labels: a labels file; what it says about patients and parts decides the split.
        size_px: side of the stored squares; None is 256, or the images' own for `.npz` files alone.
        seed: decides which patients go to train, val and test.

    Returns:
        The dataset, open.

    Raises:
        DatasetError: nothing to read, or not one usable file.
        LabelError: the labels file cannot be used; names the row.
        MedtlError: `out` holds something else.
    """
    folder = Path(out)
    check_replaceable(folder, marker=MARKER)
    rows = read_labels(Path(labels)) if labels else None  # before the long work
    files = find_files([source] if isinstance(source, str | Path) else source)
    only_npz = all(is_npz(file) for file in files)
    spec = build(PreprocessSpec, {"size_px": size_px or (_own_side(files) if only_npz else DEFAULT_SIZE_PX)})
    with atomic_folder(folder, marker=MARKER) as work:
        taken, refused = _store(files, spec, work, total=_count(files) if only_npz else len(files))
        if not taken:
            raise DatasetError(_nothing(refused))
        manifest, rejects = manifest_table([item.row for item in taken]), reject_table([item.row for item in refused])
        join = match_labels(rows, manifest, rejects) if rows else None
        official = [item.row["split"] for item in taken]
        assign_patients_and_parts(manifest, official=official, join=join, seed=seed)
        table = join.table if join else own_labels([item.labels for item in taken])
        if join and any(item.labels for item in taken):
            say(f"labels: those of {Path(str(labels)).name}; those inside the .npz are not used")
        if join and join.unused:
            say(f"labels: {join.unused:,} are of files that were rejected: not used")
        manifest.to_parquet(work / "manifest.parquet", index=False)
        rejects.to_csv(work / "rejects.csv", index=False)
        if table:
            write_labels(work / "labels.csv", manifest, table)
        write_json(work / MARKER, _description(spec, manifest, rejects, files, seed))
        pixels = ShardReader(work, count=len(manifest), shape=spec.stored_shape).read
        write_input_report(pixels, manifest, table, rejects, work / "report.html", name=folder.name)
    dataset = open_dataset(folder)
    _tell(dataset, rejects)
    return dataset


def _store(
    files: Sequence[FoundFile], spec: PreprocessSpec, work: Path, *, total: int
) -> tuple[list[Taken], list[Refused]]:
    """Read all files; squares go to disk at once, rows stay in memory."""
    taken: list[Taken] = []
    refused: list[Refused] = []
    path_of: dict[str, str] = {}
    with progress("reading", total) as update, ShardWriter(work, shape=spec.stored_shape) as shards:
        for item in read_files(files, spec):
            if isinstance(item, Taken):
                digest, path = item.row["sha256"], item.row["path"]
                if digest in path_of:
                    item = item.as_duplicate(of=path_of[digest])
                else:
                    path_of[digest] = path
                    shards.append(item.square)
                    taken.append(item.without_square())
            if isinstance(item, Refused):
                refused.append(item)
            update(len(taken) + len(refused), rejected=len(refused))
    return taken, refused


def _own_side(files: Sequence[FoundFile]) -> int:
    side = max(side_of(file.path, name=str(file.path)) for file in files)
    return min(max(side, 16), 2048)


def _count(files: Sequence[FoundFile]) -> int:
    return sum(count_of(file.path, name=str(file.path)) for file in files)


def _nothing(refused: Sequence[Refused]) -> str:
    first = refused[0].row
    return f"none of the {len(refused):,} files can be used; the first: {first['path']}: {first['message']}"


def _description(
    spec: PreprocessSpec, manifest: pd.DataFrame, rejects: pd.DataFrame, files: Sequence[FoundFile], seed: int
) -> dict[str, Any]:
    identity = [*manifest["scan_id"], *manifest["patient_id"], *manifest["split"], spec.model_dump_json()]
    digest = hashlib.sha256("\n".join(identity).encode())
    parts = manifest["split"].value_counts()
    return {
        "spec": spec.model_dump(mode="json"),
        "counts": {
            "scans": len(manifest),
            "patients": int(manifest["patient_id"].nunique()),
            **{part: int(parts.get(part, 0)) for part in ("train", "val", "test")},
            "rejects": len(rejects),
        },
        "fingerprint": digest.hexdigest()[:16],
        "sources": sorted({os.path.abspath(file.root) for file in files}),  # noqa: PTH100
        "seed": seed,
        "software": {"medtl": __version__, "python": platform.python_version()} | {n: version(n) for n in _SOFTWARE},
    }


def _tell(data: Dataset, rejects: pd.DataFrame) -> None:
    parts = data.manifest["split"].value_counts()
    shares = ", ".join(f"{part} {parts.get(part, 0):,}" for part in ("train", "val", "test"))
    patients = data.manifest["patient_id"].nunique()
    say(f"{len(data):,} scans of {patients:,} patients at {data.spec.size_px} px ({shares}): {data.folder}")
    if len(rejects):
        reasons = ", ".join(f"{code} {n:,}" for code, n in rejects["code"].value_counts().items())
        say(f"rejected {len(rejects):,} of {len(rejects) + len(data):,} ({reasons}): {data.folder / 'rejects.csv'}")
    for part in ("train", "val", "test"):
        if not parts.get(part, 0):
            say(f"note: no patient is in the part '{part}'; with so few, name parts in the column 'split' of --labels")
