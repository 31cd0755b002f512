"""Artifacts on disk: written under a temporary name and renamed, read with a check of their format.

A killed process leaves either the old artifact or the new one, never half of one.
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medtl.errors import BundleError, DatasetError, MedtlError

FORMAT = 1
DATASET, BUNDLE = "dataset.json", "bundle.json"
"""The file that makes a folder a dataset, or a bundle."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of an OSError: no space left on the disk, or none that this user may have."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # from linux/fcntl.h and linux/fs.h


def _temporary(path: Path) -> Path:
    """A name beside `path` that says which process uses it; what a killed process left is cleared away."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        owner = left.name.split(".")[-2].partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)
    return path.parent / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"


def _sync(*paths: Path) -> None:
    """Bring files, and the entries of folders, to the disk."""
    for each in paths:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(first: Path, second: Path) -> None:
    """Swap two folders, in one step where the system can, so that at no moment one of the names is missing."""
    if _swapped_at_once(first, second):
        return
    aside = first.with_name(f"{first.name}.old")
    second.rename(aside)
    try:
        first.rename(second)
    except OSError:
        aside.rename(second)
        raise
    aside.rename(first)


def _swapped_at_once(first: Path, second: Path) -> bool:
    """Swap by renameat2 (Linux 3.15); False where the system or the file system (NFS) cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    done = libc.renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE)
    problem = ctypes.get_errno()
    if done != 0 and problem not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(problem, os.strerror(problem), str(second))
    return bool(done == 0)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, marker: str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`.

    Args:
        path: the artifact's folder. May hold an earlier artifact of the same kind, which is then replaced.
        marker: the file that every artifact of this kind has (`dataset.json`, `bundle.json`, ...).
    """
    check_replaceable(path, marker=marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        _publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(folder: Path, path: Path) -> None:
    """Bring a finished folder to the disk and to its name; what had the name before now has the folder's."""
    _sync(folder, *folder.rglob("*"))
    if path.exists():
        _exchange(folder, path)
    else:
        folder.rename(path)
    _sync(path.parent)


@contextmanager
def resumable_folder(path: Path, *, marker: str) -> Iterator[Path]:
    """Yield a folder beside `path` in which an interrupted call finds what an earlier one left.

    On success it takes the place of `path`; on an error, or when the process is killed, it stays for the next call.

    Raises:
        MedtlError: `path` holds something else, or another process is writing it.
    """
    check_replaceable(path, marker=marker)
    work = path.parent / f".{path.name}.part"
    work.mkdir(parents=True, exist_ok=True)
    lock = work / "lock"
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MedtlError(f"{path}: another medtl is writing it; wait until that is done") from None
        yield work
        lock.unlink()
        _publish(work, path)
        shutil.rmtree(work, ignore_errors=True)


def check_dataset(folder: Path) -> Path:
    """The folder, if `medtl ingest` left it.

    Raises:
        DatasetError: there is none, or it holds no dataset.
    """
    return _check_made(folder, DATASET, DatasetError, "a dataset that medtl ingest left")


def check_bundle(folder: Path) -> Path:
    """The folder, if `medtl finetune` left it.

    Raises:
        BundleError: there is none, or it holds no bundle.
    """
    return _check_made(folder, BUNDLE, BundleError, "a bundle that medtl finetune left")


def _check_made(folder: Path, marker: str, error: type[MedtlError], expected: str) -> Path:
    if not (folder / marker).is_file():
        found = f"holds no {marker}" if folder.is_dir() else "no such folder"
        raise error(f"{folder}: {found}; expected {expected}")
    return folder


def check_replaceable(path: Path, *, marker: str) -> None:
    """Refuse to write an artifact over a folder or file that is not one of the same kind.

    Raises:
        MedtlError: `path` holds something else.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise MedtlError(f"{path}: is a file; --out needs the name of a folder")
    if any(path.iterdir()) and not (path / marker).is_file():
        raise MedtlError(f"{path}: holds other files and no {marker}; medtl would overwrite them. Choose another --out")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with the format number first, atomically."""
    text = json.dumps({"format": FORMAT} | content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, *, error: type[MedtlError]) -> dict[str, Any]:
    """Read a JSON file that `write_json` wrote.

    Raises:
        MedtlError: of the class `error`, where the file is missing, damaged or of another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (ValueError, OSError) as problem:
        raise error(f"{path}: is not readable JSON ({problem}); it may be damaged: make it again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise error(
            f"{path}: has format {found}, this medtl reads format {FORMAT}; "
            "make it again with this version, or install the medtl that wrote it"
        )
    content.pop("format")
    return dict(content)
