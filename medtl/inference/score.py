"""`medtl score`: whole archives, a row for every input, resumable."""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.data.nameless import nameless
from medtl.data.pseudonyms import salt
from medtl.data.scan import Header
from medtl.data.sources import FoundFile, find_files
from medtl.data.units import Unit, image_units, scans_in, volume_units
from medtl.errors import ConfigError, RunError, ScanError, Stopped
from medtl.files import atomic_file, read_json, write_json
from medtl.inference.bundle import Bundle
from medtl.inference.runtime import Detector, load
from medtl.inference.trust import about_origin, about_scan, about_scores
from medtl.progress import progress, say

BATCH = 32
PART_ROWS = 1024
COLUMNS = [
    "path", "scan_id", "finding", "probability", "threshold", "decision", "reason", "sha256", "bundle_id", "doubts",
    "nearest_scan_id", "distance", "patient_id", "age_years", "sex", "modality", "view", "body_part",
]  # fmt: skip
SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One input on its way to the network: either its stored square or the reason it was refused.

    Args:
        doubts: codes of what header and pixels say against its scores.
        known: its patient's pseudonym, age, sex, and what the scan shows.
    """

    path: str
    file: str
    scan_id: str = ""
    sha256: str = ""
    stored: npt.NDArray[np.uint8] | None = None
    reason: str = ""
    doubts: tuple[str, ...] = ()
    known: dict[str, str | float] = field(default_factory=lambda: _known(Header(), key=b""))


def score(bundle: str | Path, inputs: str | Path | Sequence[str | Path], *, out: str | Path) -> Path:
    """Score files, folders and globs with a bundle.

    Each input (a file, a frame or image in it, or a series of slices, named by its first file) gets a row for each
    finding, with the codes of reasons to doubt it (`trust.Doubt`), the labeled scan that is most like it, its distance
    from the labeled scans, the patient's pseudonym, age and sex, and modality, view and body part, as far as its header
    says; one that cannot be used gets a single row with `decision` "refused" and the reason. A call that was
    interrupted goes on where it stopped when it is made again.

    Args:
        bundle: the folder that `finetune` left.
        inputs: one or more files, folders or globs.
        out: a `.parquet`, `.csv` or `.jsonl` file.

    Returns:
        The file.

    Raises:
        ScanError: not one input could be used; the file with the reasons is written all the same.
        MedtlError: see the message.
    """
    target = Path(out)
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"{target}: unknown suffix '{target.suffix}'; choose from {', '.join(SUFFIXES)}")
    files = find_files([inputs] if isinstance(inputs, str | Path) else inputs)
    detector = load(bundle)
    spec = detector.bundle.spec
    units, left_out = volume_units(files) if spec.dims == 3 else (image_units(files), [])
    parts = _Parts(target, detector.bundle.bundle_id)
    unread = [_refused(file.path, _version(file.path, file), problem) for file, problem in left_out]
    by_version = {_version(unit.first, unit): unit for unit in units}
    wanted = {*by_version, *(item.file for item in unread)}
    todo = {version: unit for version, unit in by_version.items() if version not in parts.done}
    parts.add([row for item in unread if item.file not in parts.done for row in _rows(detector, [item])])
    if len(todo) < len(units):
        say(f"scoring: {len(units) - len(todo):,} of {len(units):,} inputs were scored by an earlier call")
    with progress("scoring", len(units), start=len(units) - len(todo)) as update, ThreadPoolExecutor(1) as reader:
        items = _items(todo, detector.bundle, key=cache(salt))
        finished = len(units) - len(todo)
        ahead = reader.submit(lambda: list(islice(items, BATCH)))
        try:
            while batch := ahead.result():
                ahead = reader.submit(lambda: list(islice(items, BATCH)))  # the next batch is read meanwhile
                parts.add(_rows(detector, batch))
                finished += len({item.file for item in batch})
                update(min(finished, len(units)))
        except KeyboardInterrupt:
            parts.flush_complete()
            raise Stopped(
                f"scoring: stopped after {finished:,} of {len(units):,} inputs; they are saved", again=()
            ) from None
    table = parts.finish(wanted)
    refused = table[table["decision"] == "refused"]
    say(f"scored {table['path'].nunique() - len(refused):,} inputs, refused {len(refused):,}: {target}")
    if len(refused) and len(refused) == len(table):
        first = refused.iloc[0]
        raise ScanError("refused", first["path"], f"{first['reason']} (no input could be scored; see {target})")
    return target


def _items(units: Mapping[str, Unit], bundle: Bundle, *, key: Callable[[], bytes]) -> Iterator[Item]:
    """What is read of each unit, one after the other.

    Args:
        key: gives the salt of the pseudonyms, and is asked only where a header has a patient.
    """
    spec = bundle.spec
    for file, unit in units.items():
        try:
            for scan in (each.scan for each in scans_in(unit, dims=spec.dims, least_px=spec.least_px)):
                stored = spec.stored(scan)
                yield Item(
                    path=scan.source,
                    file=file,
                    scan_id=scan.scan_id,
                    sha256=scan.sha256,
                    stored=stored,
                    doubts=tuple(doubt.code for doubt in about_scan(bundle, scan, stored)),
                    known=_known(scan.header, key=key() if scan.header.patient_id else b""),
                )
        except ScanError as problem:
            yield _refused(unit.first, file, problem)


def _known(header: Header, *, key: bytes) -> dict[str, str | float]:
    """What the header says without naming anyone; nothing is "", or NaN for the age."""
    said = nameless(header, key=key)
    return {
        name: value if value is not None else math.nan if name == "age_years" else "" for name, value in said.items()
    }


def _refused(path: Path, file: str, problem: ScanError) -> Item:
    return Item(path=str(path), file=file, reason=f"{problem.code}: {problem.message}", sha256=_sha256(path))


def _version(named: Path, what: Unit | FoundFile) -> str:
    """A file's or series' name with its version, so that one that changed is scored again."""
    return f"{named}|{what.version()}"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _rows(detector: Detector, items: Sequence[Item]) -> list[dict[str, Any]]:
    usable = [item.stored for item in items if item.stored is not None]
    scored: Iterator[tuple[Any, Any, Any, str]] = iter(())
    if usable:
        looked = detector.look(np.stack(usable))
        scored = zip(*looked, detector.reference.nearest(looked[1]), strict=True)
    rows: list[dict[str, Any]] = []
    for item in items:
        common: dict[str, Any] = item.known | {
            "path": item.path,
            "scan_id": item.scan_id,
            "sha256": item.sha256,
            "bundle_id": detector.bundle.bundle_id,
            "reason": item.reason,
            "file": item.file,
        }
        if item.stored is None:
            nothing = {"finding": None, "probability": None, "threshold": None, "doubts": "", "nearest_scan_id": "",
                       "distance": math.nan}  # fmt: skip
            rows.append(common | nothing | {"decision": "refused"})
            continue
        probabilities, embedding, distance, nearest = next(scored)
        origin = about_origin(detector.reference, detector.familiarity, item.scan_id, embedding)
        for each in detector.scores(probabilities):
            codes = (*(doubt.code for doubt in origin), *item.doubts, *(doubt.code for doubt in about_scores([each])))
            rows.append(
                common
                | {
                    "finding": each.finding,
                    "probability": each.probability,
                    "threshold": each.threshold,
                    "decision": each.decision,
                    "doubts": "; ".join(codes),
                    "nearest_scan_id": nearest,
                    "distance": float(distance),
                }
            )
    return rows


class _Parts:
    """Rows written so far, in numbered Parquet files beside the target, so that a later call can go on."""

    def __init__(self, target: Path, bundle_id: str) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.parts"
        self.pending: list[dict[str, Any]] = []
        job, now = self.folder / "job.json", {"bundle_id": bundle_id, "columns": COLUMNS}
        if job.is_file() and read_json(job, error=RunError) != now:
            shutil.rmtree(self.folder)  # scores of another bundle, or of an earlier medtl
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(job, now)
        self.written = sorted(self.folder.glob("part-*.parquet"))
        done = [pd.read_parquet(part, columns=["file"])["file"] for part in self.written]
        self.done: set[str] = set(pd.concat(done).unique()) if done else set()

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take rows; write them once there are many."""
        self.pending += rows
        if len(self.pending) >= PART_ROWS:
            self.flush_complete()

    def flush_complete(self) -> None:
        """Write the rows of all files but the last, which may hold more images than were scored yet."""
        if self.pending:
            last = self.pending[-1]["file"]
            complete = [row for row in self.pending if row["file"] != last]
            # Taken out first: rows lost to an interruption here are scored again, rows written twice would stay.
            self.pending = [row for row in self.pending if row["file"] == last]
            self._write(complete)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        path = self.folder / f"part-{len(self.written):06d}.parquet"
        with atomic_file(path) as temporary:
            pd.DataFrame(rows, columns=[*COLUMNS, "file"]).to_parquet(temporary, index=False)
        self.written.append(path)

    def finish(self, wanted: set[str]) -> pd.DataFrame:
        """Put the rows of the wanted files together as the target and remove the parts."""
        self._write(self.pending)
        table = pd.concat([pd.read_parquet(part) for part in self.written], ignore_index=True)
        table = table.loc[table["file"].isin(wanted), COLUMNS].reset_index(drop=True)
        with atomic_file(self.target) as temporary:
            if self.target.suffix == ".parquet":
                table.to_parquet(temporary, index=False)
            elif self.target.suffix == ".csv":
                table.to_csv(temporary, index=False)
            else:
                table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        shutil.rmtree(self.folder)
        return table
