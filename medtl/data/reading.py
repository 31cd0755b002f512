"""Many files to stored blocks, on all cores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.duplicates import perceptual_hash
from medtl.data.manifest import describe
from medtl.data.parallel import ordered_map
from medtl.data.preprocess import PreprocessSpec
from medtl.data.quality import warnings_of
from medtl.data.quiet import quiet
from medtl.data.sources import FoundFile, ScanInFile, is_npz
from medtl.data.split import place_of
from medtl.data.units import Unit, scans_in
from medtl.data.values import IN_COLOUR, TO_LUMINANCE
from medtl.errors import ScanError

CHUNK = 8
"""Units that go to a process together: small files take less time than the trip there."""


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """How every scan is read.

    Args:
        spec: what is stored of it.
        key: the salt of the pseudonyms.
        seed: of the split, which must be drawn from the patient's own id.
    """

    spec: PreprocessSpec
    key: bytes
    seed: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A scan as a row of the manifest (and `place`, where its patient stands, and `labels` that its file holds), and
    its block (C, S, S) or (C, S, S, S)."""

    row: dict[str, Any]
    block: npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file as a row of the rejects."""

    row: dict[str, Any]


Outcome = Taken | Refused


def read_units(units: Sequence[Unit], plan: ReadPlan) -> Iterator[tuple[Unit, Iterator[Outcome]]]:
    """The scans of each unit in order, taken or refused; never an exception for a file's sake."""
    chunks = ((plan, units[first : first + CHUNK]) for first in range(0, len(units), CHUNK))
    if len(units) == 1 and is_npz(units[0].files[0]):  # no need for processes
        yield units[0], _read(units[0], plan)
        return
    for (_, chunk), done in ordered_map(read_chunk, chunks):
        if done is not None:
            yield from _with_npz(chunk, done, plan)
            continue
        for (_, [unit]), alone in ordered_map(read_chunk, ((plan, [unit]) for unit in chunk), workers=1):
            yield from _with_npz([unit], alone, plan) if alone is not None else [(unit, iter([_fatal(unit)]))]


def _with_npz(
    units: Sequence[Unit], done: Sequence[list[Outcome] | None], plan: ReadPlan
) -> Iterator[tuple[Unit, Iterator[Outcome]]]:
    for unit, items in zip(units, done, strict=True):
        # An .npz is a stream of many images: it is read here.
        yield unit, _read(unit, plan) if items is None else iter(items)


def read_chunk(task: tuple[ReadPlan, Sequence[Unit]]) -> list[list[Outcome] | None]:
    """What each unit holds, taken or refused, read by this process: what `read_units` has its workers do.

    None stands for an `.npz`, which is a stream of many images.
    """
    plan, units = task
    with quiet("PIL"), quiet("pydicom"), quiet("tifffile"), quiet("imagecodecs"):
        return [None if is_npz(unit.files[0]) else list(_read(unit, plan)) for unit in units]


def _read(unit: Unit, plan: ReadPlan) -> Iterator[Outcome]:
    try:
        version = unit.version()
        for each in scans_in(unit, dims=plan.spec.dims, least_px=plan.spec.least_px):
            yield _taken(each, unit, version, plan)
    except ScanError as problem:
        yield Refused(row=reject_row(unit.files[0], problem.code, problem.message))
    except MemoryError:
        yield Refused(row=reject_row(unit.files[0], "too_large", "needs more memory than there is"))
    except OSError as problem:
        yield Refused(row=reject_row(unit.files[0], "unreadable", f"cannot be opened: {problem.strerror or problem}"))


def _taken(each: ScanInFile, unit: Unit, version: str, plan: ReadPlan) -> Taken:
    scan = each.scan
    block = plan.spec.stored(scan)
    grey = plan.spec.grey(block)
    _, inside = plan.spec.placement(plan.spec.scaled_shape(scan))
    patient = scan.header.patient_id
    row = describe(scan, path=each.name, source=unit.source, split=each.split, key=plan.key) | {
        "files": len(unit.files),
        "version": version,
        "phash": perceptual_hash(grey),
        "warnings": "; ".join(warnings_of(scan, grey[0][inside])),
        "place": place_of(patient, plan.seed) if patient else None,
        "labels": each.labels,
    }
    if plan.spec.colour:
        row["steps"] = row["steps"].replace(TO_LUMINANCE, IN_COLOUR)
    return Taken(row=row, block=block)


def _fatal(unit: Unit) -> Refused:
    message = "the process that read it died; the file is damaged, or needs more memory than there is"
    return Refused(row=reject_row(unit.files[0], "crashed", message))


def reject_row(file: FoundFile, code: str, message: str) -> dict[str, Any]:
    """A file that is not used, as a row of the rejects."""
    return {"path": file.name, "code": code, "message": message, "source": file.source, "scan_id": "", "patient_id": ""}


def duplicate_row(row: dict[str, Any], *, of: str) -> dict[str, Any]:
    """A scan as a row of the rejects, because `of` holds the same bytes."""
    message = f"holds the same bytes as {of}, which is kept"
    kept = {name: row[name] for name in ("path", "source", "scan_id")}
    return kept | {"code": "duplicate", "message": message, "patient_id": row["patient_id"] or ""}
