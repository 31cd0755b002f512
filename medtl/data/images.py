"""PNG, JPEG, TIFF and single NIfTI slices as display values."""

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from medtl.errors import ScanError

Pixels = npt.NDArray[np.float32]
LARGEST_PIXELS = 250_000_000
"""More than this would take a gigabyte as float32."""


def luminance(rgb: npt.NDArray[Any]) -> Pixels:
    """(H, W, 3) colour to (H, W) luma (ITU-R BT.601)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(rgb[..., :3].astype(np.float32) @ weights, np.float32)


def check_size(path: str, height: int, width: int, samples: int = 1) -> None:
    """Refuse an absurd size before anything is allocated.

    Raises:
        ScanError: `too_large`.
    """
    if height * width * samples > LARGEST_PIXELS:
        raise ScanError(
            "too_large",
            path,
            f"claims {width} x {height} pixels; the limit is {LARGEST_PIXELS:,}. Is the header damaged?",
        )


def stretch(values: npt.NDArray[Any], low: float, high: float) -> Pixels:
    """Linear from low..high to 0..1, cut off at both ends."""
    scaled = (values.astype(np.float32) - low) / max(high - low, 1e-12)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def percentile_window(values: npt.NDArray[Any]) -> tuple[float, float]:
    """The 0.5th and 99.5th percentile; widened where they are equal."""
    low, high = np.percentile(values, [0.5, 99.5])
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()) or 1.0)


def read_picture(data: bytes, path: str) -> tuple[Pixels, tuple[str, ...]]:
    """A PNG, JPEG or TIFF.

    Returns:
        (H, W) in 0..1 and what was done to get there.

    Raises:
        ScanError: damaged, too large, or more than one picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            check_size(path, image.height, image.width)
            if (pictures := int(getattr(image, "n_frames", 1))) > 1:
                raise ScanError("volume", path, f"holds {pictures} pictures; this version reads single images")
            kind = f"{image.format} {image.mode}"
            values = _gray(ImageOps.exif_transpose(image))
    except ScanError:
        raise
    except Exception as problem:  # Pillow raises many kinds on damaged files
        raise ScanError("damaged", path, f"cannot be decoded as a picture ({problem}); copy it again") from None
    return _scaled(values, kind)


def _gray(image: Image.Image) -> npt.NDArray[Any]:
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    return luminance(np.asarray(image.convert("RGB")))


def _scaled(values: npt.NDArray[Any], kind: str) -> tuple[Pixels, tuple[str, ...]]:
    top = float(values.max())
    if values.dtype == np.float32 and top <= 255.0 and not kind.endswith(" F"):
        return stretch(values, 0, 255), (kind, "colour to luminance")
    if values.dtype == np.uint8:
        return stretch(values, 0, 255), (kind,)
    if kind.endswith(" F"):
        low, high = percentile_window(values)
        return stretch(values, low, high), (kind, f"percentiles {low:g} to {high:g}")
    bits = next(bits for bits in (8, 10, 12, 16, 32) if top < 2**bits)
    return stretch(values, 0, 2**bits - 1), (kind, f"scaled by {bits} bits, the fewest that hold its values")


def read_nifti(data: bytes, path: str) -> tuple[Pixels, tuple[float, float] | None, tuple[str, ...]]:
    """A NIfTI file with a single slice.

    Returns:
        (H, W) in 0..1, row and column spacing in mm, and what was done.

    Raises:
        ScanError: damaged, or a volume.
    """
    import gzip

    import nibabel

    try:
        raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        image = nibabel.Nifti1Image.from_bytes(raw)
        shape = tuple(side for i, side in enumerate(image.shape) if side > 1 or i < 2)
        if len(shape) != 2:
            raise ScanError(
                "volume",
                path,
                f"holds a volume of {' x '.join(map(str, image.shape))}; this version reads single slices",
            )
        check_size(path, *shape)
        values = np.asarray(image.dataobj, np.float32).reshape(shape).T[::-1]  # first axis runs left to right
        zooms = image.header.get_zooms()
    except ScanError:
        raise
    except Exception as problem:  # nibabel, gzip and zlib raise many kinds on damaged files
        raise ScanError("damaged", path, f"cannot be read as NIfTI ({problem}); copy it again") from None
    low, high = percentile_window(values)
    spacing = (float(zooms[1]), float(zooms[0]))
    return stretch(values, low, high), spacing, ("NIfTI", f"percentiles {low:g} to {high:g}")
