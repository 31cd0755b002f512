"""NIfTI with a single slice to a scan."""

import numpy as np

from medtl.data.kinds import check_size, is_nifti, unzipped
from medtl.data.scan import Header, Scan
from medtl.data.values import spread
from medtl.errors import ScanError

_HEADER_BYTES = 544
_LARGEST_EXTENSION_BYTES = 2**24


def read_nifti(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read one slice, shown as radiologists do: head or front up, the patient's right on the left.

    NIfTI carries no unit and no window, so values are spread between percentiles.

    Raises:
        ScanError: `volume`, `truncated`, `damaged`, `too_large` or `unsupported_format`.
    """
    import nibabel

    zipped = data[:2] == b"\x1f\x8b"
    head = _start(data, name) if zipped else data[:_HEADER_BYTES]
    if not is_nifti(head):
        raise ScanError("damaged", name, "starts like NIfTI, but its header cannot be read; copy it again")
    image_class = nibabel.Nifti1Image if head[344:348] == b"n+1\x00" else nibabel.Nifti2Image
    try:
        header = image_class.header_class(head[: 348 if image_class is nibabel.Nifti1Image else 540])
        shape, item_bytes = header.get_data_shape(), header.get_data_dtype().itemsize
        colour = header.get_data_dtype().fields is not None or header.get_data_dtype().kind == "c"
    except Exception as problem:  # nibabel has its own exception for each field
        raise ScanError("damaged", name, f"its header cannot be read ({problem}); copy it again") from None
    size = " x ".join(str(side) for side in shape)
    if len(shape) < 2 or sum(side > 1 for side in shape) > 2:
        raise ScanError("volume", name, f"holds {size} voxels; this version of medtl reads single images")
    if colour:
        raise ScanError("unsupported_format", name, "holds colour or complex values; save it as grey values")
    count = int(np.prod(shape, dtype=object))
    check_size(name, count, what=f"{size} pixels")
    content = unzipped(data, name=name, most=count * item_bytes + _LARGEST_EXTENSION_BYTES) if zipped else data
    if len(content) < header.get_data_offset() + count * item_bytes:
        raise ScanError("truncated", name, f"ends before its {size} pixels do; copy it again")
    try:
        image = image_class.from_bytes(content)
        values = image.get_fdata(dtype=np.float64)
        flat = nibabel.Nifti1Image(values.reshape([*shape, 1, 1][:3]), image.affine)
        flat.header.set_zooms([*header.get_zooms(), 1.0, 1.0][:3])
        upright = nibabel.as_closest_canonical(flat)
        grid, zooms = np.asarray(upright.dataobj), upright.header.get_zooms()
    except Exception as problem:
        raise ScanError("damaged", name, f"cannot be decoded ({problem}); copy it again") from None
    across, down = _plane(grid.shape)
    # Axes now run right, front, up; on screen they run left, back, down.
    shown = grid.reshape(grid.shape[across], grid.shape[down]).T[::-1, ::-1]
    pixels, step = spread(shown)
    return Scan(
        pixels=pixels,
        spacing_mm=(float(zooms[down]), float(zooms[across])),
        header=Header(),
        source=name,
        sha256=sha256,
        steps=("oriented by the affine", step),
    )


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two axes of a slice: all but the thinnest, the last of equals."""
    through = max(range(3), key=lambda axis: (-shape[axis], axis))
    across, down = (axis for axis in range(3) if axis != through)
    return across, down


def _start(data: bytes, name: str) -> bytes:
    import zlib

    try:
        return zlib.decompressobj(wbits=31).decompress(data, _HEADER_BYTES)
    except zlib.error as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None
