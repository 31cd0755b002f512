"""`medtl.deidentify`: DICOM images without the patients' identity, under the same new ids every time.

What is done to a header is in `confidentiality.py`. Two tables are kept: `OUT/deidentified.csv`, which may go with the
images, and `OUT-key.csv` beside the folder, which leads back to the originals and must stay in the hospital.
"""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from medtl.data.burned_in import burned_in
from medtl.data.confidentiality import clean, new_ids
from medtl.data.dicom import parse
from medtl.data.dicom_objects import PIXELS
from medtl.data.kinds import HEAD_BYTES, kind_of
from medtl.data.pseudonyms import salt
from medtl.data.quiet import quiet
from medtl.data.sources import FoundFile, find_files
from medtl.errors import MedtlError, ScanError, Stopped
from medtl.files import atomic_file, check_replaceable
from medtl.progress import progress, say

TABLE = "deidentified.csv"
COLUMNS = ("row", "output", "burned_in", "why", "code", "message")
KEY_COLUMNS = ("row", "original", "output")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an input.

    Args:
        original: its absolute path.
        output: where it was written, below OUT; empty where it was refused.
        burned_in: "yes", "no", "likely", or empty where that was not looked at.
        why: what says so.
        code: one word for a refusal, else empty.
        message: the refusal in words that name neither patient nor file, else empty.
    """

    original: str
    output: str = ""
    burned_in: str = ""
    why: str = ""
    code: str = ""
    message: str = ""


def deidentify(inputs: str | Path | Sequence[str | Path], *, out: str | Path, keep_burned_in: bool = False) -> Path:
    """Write DICOM images after the Basic Application Level Confidentiality Profile (PS3.15 Annex E).

    The same patient, study and object get the same new ids in every call of this user (see `pseudonyms.salt`). What
    an earlier call has written is not written again.

    Args:
        inputs: files, folders or globs.
        out: the folder to write `PATIENT/STUDY/OBJECT.dcm` to, by their new ids, and `deidentified.csv`.
        keep_burned_in: write also images with text that may be burned into their pixels; they are then marked as
            such (Patient Identity Removed is NO), because nothing changes the pixels.

    Returns:
        The table of what became of each input.

    Raises:
        ScanError: no input could be written.
        MedtlError: `out` holds something else.
    """
    folder = Path(out)
    check_replaceable(folder, marker=TABLE)
    key = salt()
    found = find_files([inputs] if isinstance(inputs, str | Path) else inputs)
    own = folder.resolve()
    files = [each for each in found if not each.path.resolve().is_relative_to(own)]
    outcomes = _earlier(folder)
    _write_tables(folder, outcomes)
    taken: dict[str, str] = {}
    written = 0
    try:
        with progress("deidentifying", len(files)) as update:
            for done, file in enumerate(files, 1):
                outcome, new = _one(file, folder, key=key, keep_burned_in=keep_burned_in, taken=taken)
                outcomes[outcome.original] = outcome
                written += new
                update(done)
    except KeyboardInterrupt:
        raise Stopped(f"deidentifying: stopped after {written:,} files; they are written", again=()) from None
    finally:
        _write_tables(folder, outcomes)
    _report(folder, [outcomes[_absolute(file)] for file in files], written)
    return folder / TABLE


def key_file(out: Path) -> Path:
    """The table that leads from outputs back to originals: beside the folder, so that it is not copied with it."""
    whole = out.resolve()
    return whole.with_name(f"{whole.name}-key.csv")


def _one(
    file: FoundFile, folder: Path, *, key: bytes, keep_burned_in: bool, taken: dict[str, str]
) -> tuple[Outcome, bool]:
    """What became of a file, and whether it was written just now."""
    original = _absolute(file)
    marks, why = "", ""
    try:
        with quiet("pydicom"):
            dataset = _read(file.path)
            marks, why = burned_in(dataset)
            if marks != "no" and not keep_burned_in:
                raise ScanError(
                    "burned_in",
                    file.path,
                    "may show the patient's name in its pixels; look at it, then use --keep-burned-in",
                )
            ids = new_ids(dataset, key=key)
            output = f"{ids.patient}/{ids.study}/{ids.instance}.dcm"
            if taken.setdefault(output, original) != original:
                raise ScanError("duplicate", file.path, "has the SOP Instance UID of another input, which is kept")
            if there := (folder / output).is_file():
                return Outcome(original=original, output=output, burned_in=marks, why=why), not there
            try:
                clean(dataset, key=key, identity_removed=marks == "no")
                buffer = io.BytesIO()
                dataset.save_as(buffer, enforce_file_format=True)
            except Exception:  # pydicom's messages quote values: they must not reach the table
                raise _damaged(file.path) from None
        with atomic_file(folder / output) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except ScanError as problem:
        return Outcome(original=original, burned_in=marks, why=why, code=problem.code, message=problem.message), False
    except MemoryError:
        return Outcome(original=original, code="too_large", message="needs more memory than there is"), False
    return Outcome(original=original, output=output, burned_in=marks, why=why), True


def _read(path: Path) -> FileDataset:
    """A whole DICOM image.

    Raises:
        ScanError: not DICOM, without an image, cut off or damaged.
    """
    try:
        with path.open("rb") as opened:
            if kind_of(opened.read(HEAD_BYTES), name=str(path)) != "dicom":
                raise ScanError("not_dicom", path, "is an image but not DICOM; only DICOM is deidentified")
            opened.seek(0)
            data = opened.read()
    except OSError as problem:
        raise ScanError("unreadable", path, f"cannot be opened: {problem.strerror or problem}") from None
    try:
        dataset = parse(data, str(path))
        kind = UID(str(dataset.get("SOPClassUID", "")))
        syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        pixels = next((dataset[name] for name in PIXELS if name in dataset), None)
        if pixels is None and (not kind or "Rows" in dataset):
            raise ScanError("truncated", path, "is DICOM that ends too early; copy it again")
        if pixels is None:
            raise ScanError(
                "no_image",
                path,
                f"is DICOM without an image ({kind.name if kind != kind.name else 'of a private class'}), whose text "
                "cannot be cleaned with certainty; leave it out",
            )
        if not kind or not dataset.get("SOPInstanceUID"):
            raise ScanError("damaged", path, "is DICOM without SOP Class or SOP Instance UID; export it again")
        if syntax and not syntax.is_transfer_syntax:
            name = syntax.name if syntax != syntax.name else "a private syntax"
            raise ScanError("unsupported_syntax", path, f"is encoded as {name}, which medtl cannot write; convert it")
        compressed = bool(syntax) and syntax.is_compressed
        if not compressed and pixels.keyword == "PixelData" and len(pixels.value) < get_expected_length(dataset):
            raise ScanError("truncated", path, "is DICOM whose pixel data are too short; copy it again")
    except ScanError:
        raise
    except MemoryError:
        raise
    except EOFError:
        raise ScanError("truncated", path, "is DICOM that ends too early; copy it again") from None
    except Exception:  # a damaged element raises when it is touched, with any exception
        raise _damaged(path) from None
    return dataset


def _damaged(path: Path) -> ScanError:
    return ScanError("damaged", path, "is DICOM that cannot be read or written whole; copy or export it again")


def _absolute(file: FoundFile) -> str:
    return os.path.abspath(file.path)  # noqa: PTH100 - keeps links as the user named them


def _earlier(folder: Path) -> dict[str, Outcome]:
    """What earlier calls noted, by original."""
    if not (folder / TABLE).is_file() or not key_file(folder).is_file():
        return {}
    rows = {row["row"]: row for row in _rows(folder / TABLE, COLUMNS)}
    known = {}
    for row in _rows(key_file(folder), KEY_COLUMNS):
        if row["row"] in rows and rows[row["row"]]["output"] == row["output"]:
            said = {name: value for name, value in rows[row["row"]].items() if name != "row"}
            known[row["original"]] = Outcome(original=row["original"], **said)
    return known


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:  # names may be of any bytes
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != columns:
            raise MedtlError(
                f"{path}: has the columns {', '.join(table.fieldnames or ['none'])}, expected {', '.join(columns)}; "
                "choose another --out"
            )
        return list(table)


def _write_tables(folder: Path, outcomes: dict[str, Outcome]) -> None:
    """Both tables, in an order that says nothing of the originals' names.

    The key keeps what it knows of images that were since moved out of the folder, without a row number.
    """
    digest = {original: hashlib.sha256(original.encode(errors="surrogateescape")).hexdigest() for original in outcomes}
    latest = {each.output: each for each in outcomes.values() if each.output}  # an original that was moved
    kept = [each for each in outcomes.values() if not each.output or latest[each.output] is each]
    kept.sort(key=lambda each: (not each.output, each.output, digest[each.original]))
    with atomic_file(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows([i, e.output, e.burned_in, e.why, e.code, e.message] for i, e in enumerate(kept, 1))
    path, here = key_file(folder), {each.output for each in kept}
    away = [row for row in _rows(path, KEY_COLUMNS) if row["output"] not in here] if path.is_file() else []
    with atomic_file(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            table.writerow(KEY_COLUMNS)
            table.writerows([i, each.original, each.output] for i, each in enumerate(kept, 1))
            table.writerows(["", row["original"], row["output"]] for row in away if row["output"])


def _report(folder: Path, outcomes: Sequence[Outcome], written: int) -> None:
    done = [each for each in outcomes if each.output]
    look = [each for each in outcomes if each.burned_in in ("yes", "likely")]
    say(
        f"deidentified {len(done):,} images ({written:,} new, {len(done) - written:,} were there), "
        f"refused {len(outcomes) - len(done):,}: {folder / TABLE}"
    )
    if look:
        kept = "written, marked as not deidentified" if any(each.output for each in look) else "not written"
        say(f"{len(look):,} may show a name in their pixels and need a look ({kept}); see the column burned_in")
    say(f"{key_file(folder)} leads back to the originals: keep it in the hospital")
    if outcomes and not done:
        first = outcomes[0]
        raise ScanError("refused", first.original, f"{first.message} (no input was written; see {folder / TABLE})")
