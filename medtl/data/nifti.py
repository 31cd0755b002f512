"""NIfTI to a scan: a single slice to an image, more to a volume."""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.geometry import Arrangement, arrangement
from medtl.data.hounsfield import TAKEN_AS_CT, hounsfield_units
from medtl.data.kinds import HEAD_BYTES, check_size, is_nifti, unzipped
from medtl.data.scan import Header, Scan, by_sides
from medtl.data.values import spread
from medtl.data.volume_display import hounsfield_volume, spread_volume
from medtl.errors import ScanError

_HEADER_BYTES = 544
_LARGEST_EXTENSION_BYTES = 2**24
_MM = {"meter": 1000.0, "micron": 0.001}
"""Units of length in mm; where a header states none, it means mm."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What a header says: how the values are stored, and how they lie.

    Args:
        image_class: nibabel's, of the version.
        shape: as stored, of up to seven axes.
        grid: the three axes in space.
        bytes_needed: from the start of the file to its last value.
        arrangement: of the grid.
        steps: how it was chosen, in words.
    """

    image_class: Any
    shape: tuple[int, ...]
    grid: tuple[int, int, int]
    bytes_needed: int
    arrangement: Arrangement
    steps: tuple[str, ...]


def read_nifti(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read one slice, shown as radiologists do (head or front up, the patient's right on the left), or a volume.

    NIfTI carries no unit and no window. Values that look like Hounsfield units are taken as such, and shown as a CT is;
    others are spread between percentiles.

    Raises:
        ScanError: `several_volumes`, `truncated`, `damaged`, `too_large` or `unsupported_format`.
    """
    zipped = data[:2] == b"\x1f\x8b"
    layout = _layout(_start(data, name) if zipped else data[:_HEADER_BYTES], name)
    content = unzipped(data, name=name, most=layout.bytes_needed + _LARGEST_EXTENSION_BYTES) if zipped else data
    if len(content) < layout.bytes_needed:
        raise ScanError("truncated", name, f"ends before its {by_sides(layout.shape)} pixels do; copy it again")
    flat = 1 in layout.grid
    try:
        stored = layout.image_class.from_bytes(content).get_fdata(dtype=np.float64 if flat else np.float32)
        grid = layout.arrangement.apply(stored.reshape(layout.grid))
    except MemoryError:
        raise ScanError("too_large", name, "needs more memory than there is") from None
    except Exception as problem:
        raise ScanError("damaged", name, f"cannot be decoded ({problem}); copy it again") from None
    spacing_mm: tuple[float, ...] = layout.arrangement.spacing_mm
    if flat:
        through = grid.shape.index(1)  # the first of several: a row of pixels is not seen from the side
        # Axes grow towards head, front and right; on screen they run down, and to the patient's left.
        grid = np.squeeze(grid, through)[::-1, ::-1]
        spacing_mm = tuple(mm for axis, mm in enumerate(spacing_mm) if axis != through)
    steps = list(layout.steps)
    if (hu := hounsfield_units(grid)) is not None:
        pixels, step = hounsfield_volume(hu)
        steps.append(TAKEN_AS_CT)
    else:
        pixels, step = spread(grid) if flat else spread_volume(np.ascontiguousarray(grid))
    return Scan(
        pixels=pixels,
        spacing_mm=spacing_mm,
        hu=hu,
        header=Header(modality=None if hu is None else "CT"),
        source=name,
        sha256=sha256,
        steps=(*steps, step),
    )


def nifti_extent(path: Path, *, name: str) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """The sides (D, H, W) and the spacing in mm of a NIfTI file, from its header alone.

    Raises:
        ScanError: as `read_nifti`, as far as the header tells; `unreadable`.
    """
    try:
        with path.open("rb") as file:
            start = file.read(HEAD_BYTES)
    except OSError as problem:
        raise ScanError("unreadable", name, f"cannot be opened: {problem.strerror or problem}") from None
    layout = _layout(_start(start, name) if start[:2] == b"\x1f\x8b" else start[:_HEADER_BYTES], name)
    return layout.arrangement.shape(layout.grid), layout.arrangement.spacing_mm


def _layout(head: bytes, name: str) -> _Layout:
    import nibabel

    if not is_nifti(head):
        raise ScanError("damaged", name, "starts like NIfTI, but its header cannot be read; copy it again")
    image_class = nibabel.Nifti1Image if head[344:348] == b"n+1\x00" else nibabel.Nifti2Image
    try:
        header = image_class.header_class(head[: 348 if image_class is nibabel.Nifti1Image else 540])
        shape, kind = tuple(int(side) for side in header.get_data_shape()), header.get_data_dtype()
        offset = int(header.get_data_offset())
    except Exception as problem:  # nibabel has its own exception for each field
        raise ScanError("damaged", name, f"its header cannot be read ({problem}); copy it again") from None
    if kind.fields is not None or kind.kind == "c":
        raise ScanError("unsupported_format", name, "holds colour or complex values; save it as grey values")
    if not shape or min(shape) < 1:
        raise ScanError("damaged", name, f"its header says {by_sides(shape) or 'no'} voxels; copy it again")
    grid = _grid(shape, name)
    check_size(name, math.prod(shape), what=f"{by_sides(shape)} pixels")
    try:
        steps_mm, how = _steps_mm(header, grid)
        arranged = arrangement(steps_mm)
    except Exception as problem:
        raise ScanError("damaged", name, f"does not say how its voxels lie ({problem}); convert it again") from None
    return _Layout(
        image_class=image_class,
        shape=shape,
        grid=grid,
        bytes_needed=offset + math.prod(shape) * kind.itemsize,
        arrangement=arranged,
        steps=(how, *arranged.notes),
    )


def _grid(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """The three axes in space; a slice may have been stored along any."""
    rows, columns, depth = [*shape, 1, 1][:3]
    volumes = math.prod(shape[3:])
    if volumes > 1 and 1 not in (rows, columns, depth):
        raise ScanError(
            "several_volumes",
            name,
            f"holds {volumes} volumes of {by_sides(shape[:3])} voxels; save each as a file of its own",
        )
    if volumes > 1:
        raise ScanError(
            "several_volumes", name, f"holds {volumes} images of {by_sides(shape[:3])} pixels; save each by itself"
        )
    return rows, columns, depth


def _steps_mm(header: Any, grid: tuple[int, int, int]) -> tuple[npt.NDArray[np.float64], str]:
    """What a step along each axis means, in mm towards right, front and head, and who says so.

    The sform counts before the qform; a file with neither is taken to lie straight in the patient.
    """
    try:
        mm = _MM.get(header.get_xyzt_units()[0], 1.0)
    except KeyError:  # a unit that the format does not know
        mm = 1.0
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        zooms = [*(float(zoom) for zoom in header.get_zooms()), 1.0, 1.0][:3]
        sides = [zoom * mm if side > 1 else zoom * mm or 1.0 for zoom, side in zip(zooms, grid, strict=True)]
        return np.diag(sides), "taken as lying straight: the file states no orientation"
    affine = np.asarray(header.get_best_affine(), np.float64)
    return affine[:3, :3] * mm, "oriented by the affine"


def _start(data: bytes, name: str) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _HEADER_BYTES)
    except zlib.error as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None
