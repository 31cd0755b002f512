"""Files in: which files an input means, and the scans in each of them."""

import glob
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl.data.dicom import read_dicom, read_dicom_frames
from medtl.data.images import read_image, read_tiff
from medtl.data.kinds import HEAD_BYTES, kind_of
from medtl.data.nifti import read_nifti
from medtl.data.npz import read_npz
from medtl.data.scan import Scan, by_sides
from medtl.data.series import group_series
from medtl.data.slice_head import read_head
from medtl.data.volume import read_dicom_volume, read_series
from medtl.errors import DatasetError, ScanError

LARGEST_FILE_BYTES = 2**31
MEMORY = Path("/dev/shm")
"""Where files can lie without being written to a disk."""
# Files that lie beside scans and are not meant as such when a folder is named.
_SIDE_SUFFIXES = {".csv", ".json", ".txt", ".md", ".yaml", ".yml", ".html", ".xml", ".parquet"}
_SIDE_NAMES = {"readme", "license"}
_READERS: dict[str, Callable[..., Scan]] = {
    "dicom": read_dicom,
    "png": read_image,
    "jpeg": read_image,
    "tiff": read_tiff,
    "nifti": read_nifti,
}


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """A file that an input means.

    Args:
        path: where it is, beginning as the user named the input.
        name: its path below `root`, with forward slashes; the same on every machine.
        root: the folder that `name` counts from.
    """

    path: Path
    name: str
    root: Path

    @property
    def source(self) -> str:
        """`root`, absolute, with links as the user named them."""
        return os.path.abspath(self.root)  # noqa: PTH100

    def version(self) -> str:
        """Changes when the file does: its size and time of change; empty where it cannot be asked."""
        try:
            found = self.path.stat()
        except OSError:
            return ""
        return f"{found.st_size}-{found.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True)
class ScanInFile:
    """One image of a file, with what an `.npz` says about it.

    Args:
        name: the file's name, with `#split/index` where a file holds many images.
        scan: the image.
        split: "train", "val" or "test", where the file says.
        labels: 0 or 1 for each finding, where the file has labels.
    """

    name: str
    scan: Scan
    split: str | None = None
    labels: dict[str, float] | None = None


def find_files(inputs: Sequence[str | Path]) -> list[FoundFile]:
    """The files that files, folders of any depth and globs mean, each once, in the order of the inputs, then by name.

    Hidden files, and what lies beside scans (tables, texts), are left out of folders and globs. A file
    that is named itself is always kept, so that it is refused with a reason.

    Raises:
        DatasetError: a path that does not exist, a glob without match, a folder without scans.
    """
    found: dict[str, FoundFile] = {}
    for each in inputs:
        for file in _expand(each):
            found.setdefault(os.path.realpath(file.path), file)
    if not found:
        raise DatasetError("no input; name a file, a folder or a glob")
    return list(found.values())


def _expand(given: str | Path) -> list[FoundFile]:
    path = Path(given)
    if path.is_dir():
        files = _walk(path, root=path)
    elif path.exists():
        return [FoundFile(path=path, name=path.name, root=path.parent)]
    elif glob.has_magic(str(given)):
        fixed = []
        for part in path.parts:
            if glob.has_magic(part):
                break
            fixed.append(part)
        root = Path(*fixed)
        matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207 - ** and order
        if not matches:
            raise DatasetError(f"{given}: no file matches")
        files = [
            file for match in matches for file in (_walk(match, root=root) if match.is_dir() else _one(match, root))
        ]
    else:
        raise DatasetError(f"{given}: no such file or folder")
    if not files:
        raise DatasetError(f"{given}: no scans found; expected DICOM, PNG, JPEG, TIFF, NIfTI or .npz files")
    return files


def _walk(folder: Path, *, root: Path) -> list[FoundFile]:
    files: list[FoundFile] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            files += _one(Path(here) / name, root)
    return sorted(files, key=lambda file: file.name)


def _one(path: Path, root: Path) -> list[FoundFile]:
    if _is_side(path.name) or not path.is_file():
        return []
    return [FoundFile(path=path, name=path.relative_to(root).as_posix(), root=root)]


def _is_side(name: str) -> bool:
    path = Path(name)
    is_table_or_text = path.suffix.lower() in _SIDE_SUFFIXES or path.stem.lower() in _SIDE_NAMES
    return path.name.startswith(".") or is_table_or_text


def read_scan(path: Path, *, name: str | None = None, dims: int = 2) -> Scan:
    """Read a file that holds one image, or one volume.

    Args:
        path: the file.
        name: how the scan and messages call it; the path by default.
        dims: 2 for an image, 3 for a volume.

    Raises:
        ScanError: the file cannot be used; `code` and message say why.
    """
    source = name or str(path)
    kind_of(head_of(path, source), name=source)
    return read_bytes(_content(path, source), name=source, dims=dims)


def read_scans(found: FoundFile, *, dims: int = 2, least_px: int | None = None) -> Iterator[ScanInFile]:
    """Every scan of a file: one of most, each frame of a DICOM file, each image of an `.npz`, which is a stream.

    Args:
        found: the file.
        dims: 2 for images, 3 for volumes.
        least_px: how many pixels the longer side of an image needs at least (see `read_dicom`); None for all.

    Raises:
        ScanError: the file cannot be used.
    """
    source = str(found.path)
    kind = kind_of(head_of(found.path, source), name=source)
    if kind == "npz":
        for image in read_npz(found.path, name=source, dims=dims):
            yield ScanInFile(
                name=f"{found.name}#{image.place}", scan=image.scan, split=image.split, labels=image.labels
            )
    elif kind == "dicom" and dims == 2:
        data = _content(found.path, source)
        sha256 = hashlib.sha256(data).hexdigest()
        for scan in read_dicom_frames(data, name=source, sha256=sha256, least_px=least_px):
            yield ScanInFile(name=found.name + scan.source[len(source) :], scan=scan)
    else:
        yield ScanInFile(name=found.name, scan=read_bytes(_content(found.path, source), name=source, dims=dims))


def is_npz(found: FoundFile) -> bool:
    """Whether a file is an `.npz`; False for one that cannot be read."""
    try:
        return kind_of(head_of(found.path, str(found.path)), name=str(found.path)) == "npz"
    except ScanError:
        return False


def read_bytes(data: bytes, *, name: str, dims: int = 2) -> Scan:
    """The same reading, of a file's bytes in memory.

    Args:
        data: the whole file.
        name: how the scan and messages call it.
        dims: 2 for an image, 3 for a volume.

    Raises:
        ScanError: the bytes cannot be used, or hold an image where a volume is expected or the other way round.
    """
    kind = kind_of(data[:HEAD_BYTES], name=name)
    if kind == "npz":
        raise ScanError("many_images", name, "is an .npz with many images; use medtl ingest or medtl score on the file")
    reader = read_dicom_volume if kind == "dicom" and dims == 3 else _READERS[kind]
    scan = reader(data, name=name, sha256=hashlib.sha256(data).hexdigest())
    if scan.dims != dims:
        if dims == 2:
            sides = by_sides(scan.pixels.shape)
            raise ScanError("volume", name, f"is a volume of {sides} voxels; single images are expected here")
        raise ScanError("no_volume", name, "is a single image; a volume is expected here")
    return scan


def read_uploads(files: Sequence[tuple[str, bytes]], *, dims: int) -> Scan:
    """One scan from what a browser sent: an image, a volume in one file, or the slices of a series, also zipped.

    Args:
        files: name and content of each.
        dims: 2 for an image, 3 for a volume.

    Raises:
        ScanError: the files cannot be used, or are several scans.
    """
    if dims == 3 and len(files) == 1 and files[0][1].startswith(b"PK\x03\x04"):
        files = _in_zip(files[0][1], name=files[0][0])
    if len(files) == 1:
        return read_bytes(files[0][1], name=files[0][0], dims=dims)
    if dims == 2 or not files:
        raise ScanError("several_files", files[0][0] if files else "", f"{len(files)} files; open one at a time")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        paths = []
        for place, (_, data) in enumerate(files):
            paths.append(Path(folder) / f"{place:05d}")
            paths[-1].write_bytes(data)
        heads = [read_head(path, name=name) for path, (name, _) in zip(paths, files, strict=True)]
        series, problems = group_series(heads)
        if not series and problems:
            raise problems[0]
        if len(series) != 1:
            raise ScanError("several_volumes", files[0][0], f"holds {len(series)} series; open one at a time")
        return read_series(series[0].paths, name=series[0].name)


def _in_zip(data: bytes, *, name: str) -> list[tuple[str, bytes]]:
    """The files of a zip archive, of the size of scans at most."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [item for item in archive.infolist() if not item.is_dir() and not _is_side(item.filename)]
            if sum(item.file_size for item in members) > LARGEST_FILE_BYTES:
                raise ScanError("too_large", name, "unpacks to more than 2 GB; open one series")
            return [(Path(item.filename).name, archive.read(item)) for item in members]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None


def head_of(path: Path, source: str) -> bytes:
    """The first bytes of a file, by which its kind is known.

    Raises:
        ScanError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as problem:
        raise _unreadable(source, problem) from None


def _content(path: Path, source: str) -> bytes:
    try:
        if (size := path.stat().st_size) > LARGEST_FILE_BYTES:
            raise ScanError("too_large", source, f"is a file of {size / 1e9:.1f} GB; one image has at most 2 GB")
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(source, problem) from None


def _unreadable(source: str, problem: OSError) -> ScanError:
    if isinstance(problem, FileNotFoundError):
        return ScanError("missing", source, "no such file")
    if isinstance(problem, IsADirectoryError):
        return ScanError("folder", source, "is a folder; expected one file")
    return ScanError("unreadable", source, f"cannot be opened: {problem.strerror or problem}")
