"""What is read as one: a file, or the files of a series."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medtl.data.kinds import kind_of
from medtl.data.nifti import nifti_extent
from medtl.data.npz import volume_extent
from medtl.data.parallel import ordered_map
from medtl.data.series import group_series
from medtl.data.slice_head import SliceHead, read_head
from medtl.data.sources import FoundFile, ScanInFile, head_of, read_scans
from medtl.data.volume import read_series
from medtl.errors import ScanError
from medtl.progress import progress

As = Literal["auto", "images", "volumes"]
SAMPLE = 64
"""Files that are looked at to tell a folder of volumes from one of images."""
CHUNK = 64
LARGEST_VOLUME_PX = 96
Extent = tuple[tuple[int, ...], tuple[float, ...]]
"""Voxels and their distances in mm, along depth, height and width."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One file, or the files of one series in their spatial order.

    Args:
        files: at least one.
        name: of the file, or of the series' first file by name; below `source`.
        extent: of a volume, where the header says.
    """

    files: tuple[FoundFile, ...]
    name: str
    extent: Extent | None = None

    @property
    def source(self) -> str:
        """The folder that `name` counts from, absolute."""
        return self.files[0].source

    @property
    def first(self) -> Path:
        """The file that names it."""
        return next(file.path for file in self.files if file.name == self.name)

    def version(self) -> str:
        """Changes when one of the files does."""
        versions = [file.version() for file in self.files]
        return versions[0] if len(versions) == 1 else hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16]


def scans_in(unit: Unit, *, dims: int, least_px: int | None = None) -> Iterator[ScanInFile]:
    """The volume of a series, or every scan of a file (see `read_scans`).

    Raises:
        ScanError: the files cannot be used.
    """
    if len(unit.files) > 1:
        yield ScanInFile(name=unit.name, scan=read_series([file.path for file in unit.files], name=str(unit.first)))
    else:
        yield from read_scans(unit.files[0], dims=dims, least_px=least_px)


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What a file turned out to be, from its first bytes: part of a series, a volume of its own, or neither."""

    slice: SliceHead | None = None
    extent: Extent | None = None
    problem: ScanError | None = None


def looks_like_volumes(files: Sequence[FoundFile]) -> bool:
    """Whether most of the first files are volumes in one file, NIfTI or `.npz`; a series of slices is not seen here."""
    looked = [_look(file) for file in files[:: max(1, len(files) // SAMPLE)]]
    volumes = sum(each.extent is not None for each in looked)
    return 2 * volumes > sum(each.problem is None for each in looked)


def image_units(files: Sequence[FoundFile]) -> list[Unit]:
    """Each file for itself."""
    return [Unit(files=(file,), name=file.name) for file in files]


def volume_units(files: Sequence[FoundFile]) -> tuple[list[Unit], list[tuple[FoundFile, ScanError]]]:
    """Series put together, other files each for itself, and the files that are no part of a volume."""
    units: list[Unit] = []
    left_out: list[tuple[FoundFile, ScanError]] = []
    heads: list[SliceHead] = []
    by_path = {str(file.path): file for file in files}
    with progress("looking at headers", len(files)) as update:
        for done, (file, looked) in enumerate(_looked(files), start=1):
            if looked.problem is not None:
                left_out.append((file, looked.problem))
            elif looked.slice is not None:
                heads.append(looked.slice)
            else:
                units.append(Unit(files=(file,), name=file.name, extent=looked.extent))
            update(done)
    series, problems = group_series(heads)
    for each in series:
        members = tuple(by_path[str(path)] for path in each.paths)
        name = min(file.name for file in members)
        units.append(Unit(files=members, name=name, extent=(each.shape, each.spacing_mm)))
    left_out += [(by_path[problem.path], problem) for problem in problems]
    order = {id(file): place for place, file in enumerate(files)}
    units.sort(key=lambda unit: min(order[id(file)] for file in unit.files))
    return units, left_out


def grid_of(units: Sequence[Unit], size_px: int | None, spacing_mm: float | None) -> dict[str, Any]:
    """Side and voxels of the cube that holds 95 % of the volumes whole, no finer than the volumes themselves."""
    extents = [unit.extent for unit in units if unit.extent is not None]
    if not extents:
        return {"size_px": size_px or LARGEST_VOLUME_PX, "spacing_mm": spacing_mm or 1.0}
    longest = [max(n * mm for n, mm in zip(*extent, strict=True)) for extent in extents]
    finest = float(np.median([min(spacing) for _, spacing in extents]))
    reach = float(np.percentile(longest, 95))
    spacing = spacing_mm or round(max(finest, math.ceil(100 * reach / (size_px or LARGEST_VOLUME_PX)) / 100), 3)
    side = size_px or min(LARGEST_VOLUME_PX, max(16, math.ceil(reach / spacing / 8) * 8))
    return {"size_px": side, "spacing_mm": spacing}


def _looked(files: Sequence[FoundFile]) -> Iterator[tuple[FoundFile, _Looked]]:
    chunks = (files[first : first + CHUNK] for first in range(0, len(files), CHUNK))
    crashed = ScanError("crashed", "", "the process that read its header died; the file is damaged")
    for chunk, looked in ordered_map(_look_at_all, chunks):
        yield from zip(chunk, looked or [_Looked(problem=crashed)] * len(chunk), strict=True)


def _look_at_all(files: Sequence[FoundFile]) -> list[_Looked]:
    return [_look(file, heads=True) for file in files]


def _look(file: FoundFile, *, heads: bool = False) -> _Looked:
    name = str(file.path)
    try:
        kind = kind_of(head_of(file.path, name), name=name)
        if kind == "dicom":
            return _Looked(slice=read_head(file.path, name=name)) if heads else _Looked()
        if kind == "nifti":
            extent = nifti_extent(file.path, name=name)
            return _Looked(extent=extent if min(extent[0]) > 1 else None)
        if kind == "npz":
            return _Looked(extent=volume_extent(file.path, name=name))
        return _Looked()
    except ScanError as problem:
        return _Looked(problem=problem)
