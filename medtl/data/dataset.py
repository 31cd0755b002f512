"""`medtl ingest`, and the memory-mapped dataset folder that it leaves."""

import csv
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl import __version__
from medtl.config import build
from medtl.data.input_report import write_input_report
from medtl.data.labels import LabelTable, match_rows, read_labels, table
from medtl.data.manifest import describe, settle
from medtl.data.preprocess import PreprocessSpec, Stored
from medtl.data.sources import FoundFile, find_files, read_scans
from medtl.errors import DatasetError, ScanError
from medtl.files import atomic_folder, check_replaceable, read_json, write_json
from medtl.progress import progress, say

MARKER = "dataset.json"
DEFAULT_PX = 256
SHARD_BYTES = 64 * 2**20
IN_FLIGHT = 4
"""Files that each reading thread may be ahead; keeps memory flat."""


@dataclass(frozen=True)
class Dataset:
    """A dataset folder: scans as stored squares, memory-mapped, with the manifest's table beside them."""

    folder: Path
    spec: PreprocessSpec
    manifest: pd.DataFrame
    fingerprint: str

    def __len__(self) -> int:
        return len(self.manifest)

    @cached_property
    def _shards(self) -> list[npt.NDArray[np.uint8]]:
        return [np.load(path, mmap_mode="r") for path in sorted(self.folder.glob("pixels-*.npy"))]

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([len(shard) for shard in self._shards])

    def pixels(self, rows: npt.NDArray[np.int64]) -> Stored:
        """Stored squares of some rows, in the order asked for: (B,) -> (B, 1, S, S) uint8."""
        out = np.empty((len(rows), 1, self.spec.size_px, self.spec.size_px), np.uint8)
        shards = np.searchsorted(self._ends, rows, side="right")
        for i, (row, shard) in enumerate(zip(rows, shards, strict=True)):
            first = self._ends[shard - 1] if shard else 0
            out[i] = self._shards[shard][row - first]
        return out

    def labels(self, path: Path | None = None) -> LabelTable:
        """Labels aligned with the manifest.

        Args:
            path: a labels file; None takes the dataset's own.

        Raises:
            LabelError: the file does not fit the dataset; names the row.
            DatasetError: none is given and the dataset has none.
        """
        if path is None:
            path = self.folder / "labels.csv"
            if not path.is_file():
                raise DatasetError(f"{self.folder}: was ingested without labels; give --labels")
        labels = read_labels(path)
        return table(labels, match_rows(labels, self.manifest, _rejected(self.folder)), len(self))

    def check_storage(self, spec: PreprocessSpec) -> None:
        """Make sure that a network made for `spec` can read these squares.

        Raises:
            DatasetError: they have another size.
        """
        if not spec.same_storage(self.spec):
            raise DatasetError(
                f"{self.folder}: keeps scans at {self.spec.size_px} px, the bundle was made for {spec.size_px} px; "
                f"ingest again with --size-px {spec.size_px}"
            )


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder.

    Raises:
        DatasetError: missing, incomplete, damaged or of another format.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder; expected a dataset that medtl ingest left")
    if not (path / MARKER).is_file():
        raise DatasetError(f"{path}: holds no {MARKER}; expected a dataset that medtl ingest left")
    content = read_json(path / MARKER, error=DatasetError)
    try:
        manifest = pd.read_parquet(path / "manifest.parquet")
        spec = build(PreprocessSpec, content["spec"], source=str(path / MARKER))
        dataset = Dataset(path, spec, manifest, str(content["fingerprint"]))
        stored = sum(len(shard) for shard in dataset._shards)
    except (OSError, KeyError, ValueError) as problem:
        raise DatasetError(f"{path}: is damaged ({problem}); ingest again") from None
    if stored != len(manifest):
        raise DatasetError(f"{path}: has pixels of {stored} scans, its manifest names {len(manifest)}; ingest again")
    return dataset


def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    labels: str | Path | None = None,
    size_px: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Read scans once into a dataset folder, split by patient.

    Args:
        source: files or folders of any depth.
        out: the dataset's folder; an earlier dataset in it is replaced once the new one is complete.
        labels: a labels file; is checked and kept in the dataset, and gives patients and parts where it names them.
        size_px: side of the stored squares; None is 256, or the images' own side for `.npz` files alone.
        seed: decides which patients go to train, val and test.

    Returns:
        The dataset.

    Raises:
        DatasetError: nothing to read, or not one usable scan.
        LabelError: the labels file does not fit; names the row.
    """
    folder = Path(out)
    check_replaceable(folder, marker=MARKER)
    given = read_labels(Path(labels)) if labels else None
    files = find_files([source] if isinstance(source, str | Path) else source)
    spec = build(PreprocessSpec, {"size_px": size_px or _own_side(files)})
    with atomic_folder(folder, marker=MARKER) as temporary:
        found = _read_all(files, spec, temporary)
        if not found.rows:
            path, _, message = found.rejects[0]
            more = f" (and {len(found.rejects) - 1} more files)" if len(found.rejects) > 1 else ""
            raise DatasetError(f"{path}: {message}{more}. No usable scan was found")
        _write_rejects(temporary, found.rejects)
        index = pd.DataFrame(found.rows, columns=["scan_id", "path", "source"])
        joined = match_rows(given, index, _rejected(temporary)) if given else {}
        if given is None or not any(row.patient_id for row in given.rows):
            _say_patients(found.rows)
        manifest = settle(found.rows, joined, seed=seed, labels=given.path if given else None)
        manifest.to_parquet(temporary / "manifest.parquet", index=False)
        learned = table(given, joined, len(manifest)) if given else _own_labels(found.labels)
        if learned is not None:
            _write_labels(temporary, manifest, learned)
        digest = hashlib.sha256("".join([str(spec.size_px), *manifest["scan_id"]]).encode()).hexdigest()[:16]
        counts = {
            "scans": len(manifest),
            "patients": int(manifest["patient_id"].nunique()),
            "rejects": len(found.rejects),
        }
        software = {"medtl": __version__, "numpy": np.__version__, "pandas": pd.__version__}
        content = {"spec": spec.model_dump(mode="json"), "counts": counts, "fingerprint": digest, "software": software}
        write_json(temporary / MARKER, content | {"seed": seed})
        dataset = Dataset(temporary, spec, manifest, digest)
        write_input_report(
            dataset.pixels, manifest, learned, found.rejects, temporary / "report.html", name=folder.name
        )
    parts = ", ".join(f"{part} {count:,}" for part, count in manifest["split"].value_counts().items())
    say(
        f"{len(manifest):,} scans of {counts['patients']:,} patients ({parts}), {len(found.rejects):,} files rejected: "
        f"{folder}"
    )
    say(f"what was read and how: {folder / 'report.html'}")
    return open_dataset(folder)


@dataclass(frozen=True, kw_only=True)
class _Found:
    rows: list[dict[str, Any]]
    labels: list[dict[str, float]]
    rejects: list[tuple[str, str, str]]


def _own_side(files: Sequence[FoundFile]) -> int:
    """The stored side when nobody chooses: 256, or an `.npz` collection's own where that is smaller."""
    if not all(found.path.suffix == ".npz" for found in files):
        return DEFAULT_PX
    try:
        return min(DEFAULT_PX, max(int(max(next(read_scans(found)).scan.pixels.shape)) for found in files))
    except (ScanError, StopIteration):
        return DEFAULT_PX


def _read_all(files: Sequence[FoundFile], spec: PreprocessSpec, folder: Path) -> _Found:
    """Read every file on all cores, in order, and write the squares in shards."""
    result = _Found(rows=[], labels=[], rejects=[])
    seen: dict[str, str] = {}
    shard: list[Stored] = []
    limit = max(1, SHARD_BYTES // spec.size_px**2)
    written = 0

    def flush() -> None:
        nonlocal written
        np.save(folder / f"pixels-{written:05d}.npy", np.stack(shard))
        written += 1
        shard.clear()

    with progress("reading", len(files)) as update:
        for done, (found, items) in enumerate(_in_order(files, spec), start=1):
            source = str(found.path.resolve())[: -len(found.name)].rstrip("/") or "/"
            try:
                for row, labels, square in items:
                    if (twin := seen.get(row["sha256"])) is not None:
                        result.rejects.append((row["path"], "duplicate", f"same bytes as {twin}"))
                        continue
                    seen[row["sha256"]] = row["path"]
                    result.rows.append(row | {"source": source})
                    result.labels.append(labels)
                    shard.append(square)
                    if len(shard) >= limit:
                        flush()
            except ScanError as problem:
                result.rejects.append((found.name, problem.code, problem.message))
            update(done)
    if shard:
        flush()
    return result


Item = tuple[dict[str, Any], dict[str, float], Stored]


def _in_order(files: Sequence[FoundFile], spec: PreprocessSpec) -> Iterator[tuple[FoundFile, Iterator[Item]]]:
    """Files with their images, read ahead by threads (the decoders release the interpreter's lock)."""

    def images(found: FoundFile) -> Iterator[Item]:
        for each in read_scans(found):
            row = describe(each.scan, path=each.name, source="", split=each.split)
            yield row, each.labels, spec.stored(each.scan)

    def single(found: FoundFile) -> list[Item]:
        return list(images(found))

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[FoundFile, Future[list[Item]] | None]] = deque()

        def result(found: FoundFile, future: Future[list[Item]] | None) -> Iterator[Item]:
            # An .npz file may hold more than fits into memory: it is streamed here instead.
            yield from images(found) if future is None else future.result()

        for found in files:
            waiting.append((found, None if found.path.suffix == ".npz" else pool.submit(single, found)))
            if len(waiting) >= workers * IN_FLIGHT:
                first = waiting.popleft()
                yield first[0], result(*first)
        for first in waiting:
            yield first[0], result(*first)


def _own_labels(labels: Sequence[dict[str, float]]) -> LabelTable | None:
    """Labels that the files themselves carry."""
    findings = tuple(dict.fromkeys(finding for each in labels for finding in each))
    if not findings:
        return None
    values = np.array([[each.get(finding, np.nan) for finding in findings] for each in labels], np.float32)
    return LabelTable(findings=findings, values=values)


def _write_labels(folder: Path, manifest: pd.DataFrame, labels: LabelTable) -> None:
    content = manifest[["scan_id", "path", "patient_id", "split"]].copy()
    for i, finding in enumerate(labels.findings):
        content[finding] = pd.Series(labels.values[:, i]).astype("Int64")
    content[~np.isnan(labels.values).all(axis=1)].to_csv(folder / "labels.csv", index=False)


def _write_rejects(folder: Path, rejects: Sequence[tuple[str, str, str]]) -> None:
    with (folder / "rejects.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "code", "message"), *rejects])


def _rejected(folder: Path) -> dict[str, str]:
    """Rejected paths, a duplicate's with the path of the scan that was kept."""
    with (folder / "rejects.csv").open(newline="", encoding="utf-8") as file:
        return {
            line["path"]: line["message"].removeprefix("same bytes as ") if line["code"] == "duplicate" else ""
            for line in csv.DictReader(file)
        }


def _say_patients(rows: Sequence[dict[str, Any]]) -> None:
    unknown = sum(row["patient_id"] is None and row["split"] is None for row in rows)
    if unknown:
        say(
            f"{unknown:,} scans name no patient; each counts as a patient of its own. If some share a patient, give a "
            "labels file with a column patient_id, or the parts will share patients"
        )
