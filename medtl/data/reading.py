"""Many files to stored squares, on all cores."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.manifest import describe
from medtl.data.parallel import ordered_map
from medtl.data.preprocess import PreprocessSpec
from medtl.data.sources import FoundFile, is_npz, read_scans
from medtl.errors import ScanError

CHUNK = 8
"""Files that go to a process together: small files take less time than the trip there."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A scan as a row of the manifest, its square (1, S, S), and the labels that its file holds."""

    row: dict[str, Any]
    square: npt.NDArray[np.uint8]
    labels: dict[str, float] | None

    def without_square(self) -> "Taken":
        """The same once its pixels are on disk."""
        return replace(self, square=self.square[:0])

    def as_duplicate(self, *, of: str) -> "Refused":
        """The same as a reject, because `of` holds the same bytes."""
        message = f"holds the same bytes as {of}, which is kept"
        kept = {name: self.row[name] for name in ("path", "source", "scan_id")}
        return Refused(row=kept | {"code": "duplicate", "message": message})


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file as a row of the rejects."""

    row: dict[str, Any]


def read_files(files: Sequence[FoundFile], spec: PreprocessSpec) -> Iterator[Taken | Refused]:
    """Every image of every file in order, taken or refused; never an exception for a file's sake."""
    chunks = ((spec, files[first : first + CHUNK]) for first in range(0, len(files), CHUNK))
    if len(files) == 1 and is_npz(files[0]):  # no need for processes
        yield from _read(files[0], spec)
        return
    for (_, chunk), done in ordered_map(_read_chunk, chunks):
        if done is not None:
            yield from _with_npz(chunk, done, spec)
            continue
        for (_, [file]), alone in ordered_map(_read_chunk, ((spec, [file]) for file in chunk), workers=1):
            yield from _with_npz([file], alone, spec) if alone is not None else [_fatal(file)]


def _with_npz(
    files: Sequence[FoundFile], done: Sequence[Taken | Refused | None], spec: PreprocessSpec
) -> Iterator[Taken | Refused]:
    for file, item in zip(files, done, strict=True):
        if item is None:  # an .npz is a stream of many images: it is read here
            yield from _read(file, spec)
        else:
            yield item


def _read_chunk(task: tuple[PreprocessSpec, Sequence[FoundFile]]) -> list[Taken | Refused | None]:
    """The image of each file; None for an `.npz`."""
    spec, files = task
    return [None if is_npz(file) else next(_read(file, spec)) for file in files]


def _read(file: FoundFile, spec: PreprocessSpec) -> Iterator[Taken | Refused]:
    source = os.path.abspath(file.root)  # noqa: PTH100 - keeps links as the user named them
    try:
        for each in read_scans(file):
            row = describe(each.scan, path=each.name, source=source, split=each.split)
            yield Taken(row=row, square=spec.stored(each.scan), labels=each.labels)
    except ScanError as problem:
        yield _refused(file, problem.code, problem.message)
    except MemoryError:
        yield _refused(file, "too_large", "needs more memory than there is")


def _fatal(file: FoundFile) -> Refused:
    message = "the process that read it died; the file is damaged, or needs more memory than there is"
    return _refused(file, "crashed", message)


def _refused(file: FoundFile, code: str, message: str) -> Refused:
    source = os.path.abspath(file.root)  # noqa: PTH100
    return Refused(row={"path": file.name, "code": code, "message": message, "source": source, "scan_id": ""})
