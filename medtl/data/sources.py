"""From what a user names to scans: files, folders and globs found, each file's type told by its first bytes."""

import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medtl.data.dicom import is_dicom_without_preamble, read_dicom
from medtl.data.images import read_nifti, read_picture
from medtl.data.npz import read_npz
from medtl.data.scan import Header, Scan
from medtl.errors import DatasetError, ScanError

SIDE_FILES = {
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".txt",
    ".md",
    ".yaml",
    ".yml",
    ".html",
    ".xml",
    ".parquet",
    ".py",
    ".db",
}
SIDE_NAMES = {"README", "LICENSE", "DICOMDIR"}
LARGEST_FILE = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file that may hold scans; `name` is its path inside what the user named, with forward slashes."""

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class ScanInFile:
    """One image of a file; `.npz` files bring official parts and labels along."""

    name: str
    scan: Scan
    split: str | None = None
    labels: dict[str, float] = field(default_factory=dict)


def find_files(inputs: Sequence[str | Path]) -> list[FoundFile]:
    """All files under files, folders and globs, in a fixed order, each once.

    Inside folders, hidden files and side files such as tables and texts are passed over; a file that the user names
    is always kept, so that it can be refused with a reason.

    Raises:
        DatasetError: a path that does not exist, a glob without match, or nothing found at all.
    """
    found: dict[Path, FoundFile] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.is_file() and not _passed_over(inner, path):
                    found.setdefault(inner, FoundFile(path=inner, name=inner.relative_to(path).as_posix()))
        elif path.exists():
            found.setdefault(path, FoundFile(path=path, name=path.name))
        else:
            matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - takes absolute patterns too
            if not matches:
                raise DatasetError(f"{given}: no such file or folder; check the path")
            for match in find_files(matches):
                found.setdefault(match.path, match)
    if not found:
        named = ", ".join(map(str, inputs))
        raise DatasetError(f"{named}: no scans found; expected DICOM, PNG, JPEG, TIFF, NIfTI or .npz files")
    return list(found.values())


def _passed_over(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return hidden or path.suffix.lower() in SIDE_FILES or path.name in SIDE_NAMES


def read_scan(path: Path, *, name: str | None = None) -> Scan:
    """The one image of a file.

    Raises:
        ScanError: the file cannot be used; `code` and message say why.
    """
    return read_bytes(_bytes(path), name=name or str(path))


def read_scans(found: FoundFile) -> Iterator[ScanInFile]:
    """Every image of a file, in order.

    Raises:
        ScanError: as `read_scan`.
    """
    if _is_npz(found.path):
        for image in read_npz(found.path, name=found.name):
            yield ScanInFile(name=image.name, scan=image.scan, split=image.split, labels=image.labels)
    else:
        yield ScanInFile(name=found.name, scan=read_scan(found.path))


def read_bytes(data: bytes, *, name: str) -> Scan:
    """The one image in a file's bytes; what counts is the content, not the name's ending.

    Args:
        name: what messages and `Scan.source` call it.

    Raises:
        ScanError: the bytes cannot be used; `code` and message say why.
    """
    spacing: tuple[float, float] | None = None
    header = Header()
    if not data:
        raise ScanError("empty", name, "the file is empty (0 bytes); copy it again")
    if data[128:132] == b"DICM":  # first: a DICOM preamble may look like TIFF (PS3.10 7.1)
        pixels, spacing, header, steps = read_dicom(data, name)
    elif data[:4] in (b"\x89PNG", b"II*\x00", b"MM\x00*", b"II+\x00") or data[:3] == b"\xff\xd8\xff":
        pixels, steps = read_picture(data, name)
    elif _is_nifti(data):
        pixels, spacing, steps = read_nifti(data, name)
    elif is_dicom_without_preamble(data):
        pixels, spacing, header, steps = read_dicom(data, name)
    else:
        raise _not_a_scan(data, name)
    return Scan(
        pixels=pixels,
        spacing_mm=spacing,
        header=header,
        source=name,
        sha256=hashlib.sha256(data).hexdigest(),
        steps=steps,
    )


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ScanError(
                "too_large", path, f"is larger than {LARGEST_FILE // 2**30} GiB; this version reads single images"
            )
        return path.read_bytes()
    except IsADirectoryError:
        raise ScanError("not_a_file", path, "is a folder; name a file") from None
    except OSError as problem:
        raise ScanError("unreadable", path, f"cannot be read ({problem.strerror})") from None


def _is_npz(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _is_nifti(data: bytes) -> bool:
    if data[:2] == b"\x1f\x8b":
        import zlib

        try:
            data = zlib.decompressobj(31).decompress(data, 400)
        except zlib.error:
            return False
    return data[344:348] in (b"n+1\x00", b"ni1\x00") or data[4:8] == b"n+2\x00"


def _not_a_scan(data: bytes, name: str) -> ScanError:
    expected = "expected DICOM, PNG, JPEG, TIFF, NIfTI or .npz"
    if data[:4] == b"%PDF":
        return ScanError("pdf", name, f"is a PDF document, not a scan; {expected}")
    if data[:4] == b"PK\x03\x04":
        return ScanError("archive", name, "is an archive of many images; use medtl ingest or medtl score on it")
    sample = data[:2048]
    if b"\x00" not in sample and sum(byte >= 32 or byte in b"\t\n\r\f" for byte in sample) > 0.95 * len(sample):
        return ScanError("text", name, f"is text, not a scan; {expected}")
    return ScanError("not_an_image", name, f"is of no known image type; {expected}")
