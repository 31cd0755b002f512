"""NIfTI to scans: volumes, and files with a single slice as images."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.geometry import Affine, upright, upright_extent
from medtl.data.kinds import check_size, is_nifti, unzipped
from medtl.data.scan import Header, Scan
from medtl.data.values import spread
from medtl.data.volume import volume_scan
from medtl.errors import ScanError

_HEADER_BYTES = 544
_LARGEST_EXTENSION_BYTES = 2**24
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def read_nifti(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read a volume, turned to head, front and right by its affine; or one slice as radiologists look at it.

    NIfTI carries no unit and no window, so values are spread between percentiles.

    Raises:
        ScanError: `several_volumes`, `truncated`, `damaged`, `too_large` or `unsupported_format`.
    """
    zipped = data[:2] == b"\x1f\x8b"
    header, image_class = _header(_start(data, name) if zipped else data[:_HEADER_BYTES], name)
    shape = header.get_data_shape()
    size = " x ".join(str(side) for side in shape)
    count, item_bytes = int(np.prod(shape, dtype=object)), header.get_data_dtype().itemsize
    check_size(name, count, what=f"{size} voxels")
    content = unzipped(data, name=name, most=count * item_bytes + _LARGEST_EXTENSION_BYTES) if zipped else data
    if len(content) < header.get_data_offset() + count * item_bytes:
        raise ScanError("truncated", name, f"ends before its {size} voxels do; copy it again")
    try:
        values = image_class.from_bytes(content).get_fdata(dtype=np.float32).reshape(_sides(header))
        affine, step = _affine(header)
        if min(values.shape) > 1:
            return volume_scan(values, affine, name=name, sha256=sha256, header=Header(), steps=(step,))
        return _slice(values, affine, step, name=name, sha256=sha256)
    except ScanError:
        raise
    except Exception as problem:
        raise ScanError("damaged", name, f"cannot be decoded ({problem}); copy it again") from None


def nifti_extent(path: Path, *, name: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape (D, H, W) and spacing in mm that a file's volume will have, from its header alone.

    Raises:
        ScanError: as `read_nifti`.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            if head[:2] == b"\x1f\x8b":
                file.seek(0)
                head = gzip.GzipFile(fileobj=file).read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None
    header, _ = _header(head, name)
    return upright_extent(_sides(header), _affine(header)[0])


def _header(head: bytes, name: str) -> tuple[Any, Any]:
    """The header, and nibabel's class for its kind of file."""
    import nibabel

    if not is_nifti(head):
        raise ScanError("damaged", name, "starts like NIfTI, but its header cannot be read; copy it again")
    image_class = nibabel.Nifti1Image if head[344:348] == b"n+1\x00" else nibabel.Nifti2Image
    try:
        header = image_class.header_class(head[: 348 if image_class is nibabel.Nifti1Image else 540])
        shape, kind = header.get_data_shape(), header.get_data_dtype()
        header.get_xyzt_units(), header.get_zooms()
        usable = bool(np.isfinite(_affine(header)[0]).all()) and abs(np.linalg.det(_affine(header)[0])) > 1e-9
    except Exception as problem:  # nibabel has its own exception for each field
        raise ScanError("damaged", name, f"its header cannot be read ({problem}); copy it again") from None
    size = " x ".join(str(side) for side in shape)
    if len(shape) < 2 or min(shape) < 1:
        raise ScanError("damaged", name, f"holds {size or 'no'} voxels; copy it again")
    if any(side > 1 for side in shape[3:]):
        raise ScanError("several_volumes", name, f"holds several volumes ({size}); save one of them as its own file")
    if sum(side > 1 for side in shape) < 2:
        raise ScanError("not_an_image", name, f"holds a line of {size} voxels")
    if kind.fields is not None or kind.kind == "c":
        raise ScanError("unsupported_format", name, "holds colour or complex values; save it as grey values")
    if not usable:
        raise ScanError("damaged", name, "its affine puts voxels nowhere; save it with a valid affine")
    return header, image_class


def _sides(header: Any) -> tuple[int, int, int]:
    i, j, k = (*header.get_data_shape(), 1)[:3]
    return int(i), int(j), int(k)


def _affine(header: Any) -> tuple[Affine, str]:
    """From voxels to mm, RAS: the sform, else the qform, else the voxel sizes alone."""
    affine = np.array(header.get_best_affine(), np.float64)
    affine[:3] *= _MM.get(header.get_xyzt_units()[0], 1.0)
    if int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0:
        return affine, "oriented by the affine"
    return affine, "without orientation, taken as right, front, head"


def _slice(values: npt.NDArray[np.float32], affine: Affine, step: str, *, name: str, sha256: str) -> Scan:
    """One slice on the screen: head or front up, the patient's right on the left."""
    turned, spacing, _ = upright(values, affine)
    through = min(range(3), key=lambda axis: (turned.shape[axis], axis))
    # Axes grow towards head, front and right; on screen they run down and to the patient's left.
    shown = np.take(turned, 0, axis=through)[::-1, ::-1]
    rows, columns = (spacing[axis] for axis in range(3) if axis != through)
    pixels, said = spread(shown)
    return Scan(
        pixels=pixels,
        spacing_mm=(rows, columns),
        header=Header(),
        source=name,
        sha256=sha256,
        steps=(step, said),
    )


def _start(data: bytes, name: str) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _HEADER_BYTES)
    except zlib.error as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None
