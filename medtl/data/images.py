"""PNG, JPEG and TIFF to scans."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError

from medtl.data.kinds import check_size
from medtl.data.png import decode_grey
from medtl.data.quiet import quiet
from medtl.data.scan import Scan, by_sides
from medtl.data.values import TO_LUMINANCE, coloured, full_range, luminance
from medtl.errors import ScanError

_FORMATS = ("PNG", "JPEG", "MPO")
SEE_THROUGH = "transparency on black"
_ORIENTATION_TAG = 0x0112
# EXIF 2.32, 4.6.4 A: how the first row and column of the file lie in the picture.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read a PNG or JPEG: 1, 8 or 16 bits, palette, transparency (on black), colour (beside its luminance).

    Raises:
        ScanError: `truncated`, `damaged`, `too_large` or `volume` (an animation).
    """
    if (plain := decode_grey(data)) is not None:
        return _scan(plain, 1, name=name, sha256=sha256)
    try:
        with quiet("PIL"), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            check_size(name, image.width * image.height, what=f"{image.height} x {image.width} pixels")
            if image.format == "PNG" and (frames := int(getattr(image, "n_frames", 1))) > 1:
                raise _several(name, frames, "frames")
            image.load()
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
            values = _plain(image)
            hidden = image.info.get("transparency") if values.ndim == 2 else None
    except Image.DecompressionBombError:
        raise ScanError("too_large", name, "claims more pixels than a scan has; the header may be damaged") from None
    except ScanError:
        raise
    except Exception as problem:  # Pillow's decoders raise almost anything on damaged files
        raise _broken(name, problem) from None
    if hidden is None:
        return _scan(values, orientation, name=name, sha256=sha256)
    # The one grey value that is no picture (PNG 3rd edition, 11.3.1.1, tRNS).
    absent = values == (bool(hidden) if values.dtype == np.bool_ else hidden)
    seen = np.where(absent, values.dtype.type(0), values)
    return _scan(seen, orientation, name=name, sha256=sha256, steps=(SEE_THROUGH,))


def _plain(image: Image.Image) -> npt.NDArray[Any]:
    """(H, W) grey values in the file's own type, or (H, W, 3 or 4) uint8 colour, the last being opacity."""
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return values.astype(values.dtype.newbyteorder("="))
    seen_through = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if seen_through else "RGB"))


def read_tiff(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read a TIFF with one page: integers or floats, MinIsWhite inverted, colour beside its luminance.

    Raises:
        ScanError: `truncated`, `damaged`, `too_large` or `volume` (several pages).
    """
    try:
        with quiet("tifffile"), tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = [page for page in tiff.pages if not page.is_reduced]
            if len(pages) != 1:
                raise _several(name, len(pages), "pages")
            page = pages[0]
            size = by_sides(page.shape)
            check_size(name, int(np.prod(page.shape, dtype=object)), what=f"{size} pixels")
            orientation = int(getattr(page.tags.get(_ORIENTATION_TAG), "value", 1))
            photometric = page.photometric.name if page.photometric is not None else ""
            axes = page.axes
            palette = photometric == "PALETTE"
            values = _plain(Image.open(io.BytesIO(data))) if palette else _decoded(page, data)
    except ScanError:
        raise
    except Exception as problem:  # likewise tifffile's
        raise _broken(name, problem) from None
    if values.ndim == 3 and axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] <= 2:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] > 4):
        raise ScanError("volume", name, f"holds {size} values; this version of medtl reads single images")
    return _scan(values, orientation, name=name, sha256=sha256, inverted=photometric == "MINISWHITE")


def _decoded(page: Any, data: bytes) -> npt.NDArray[Any]:
    try:
        return np.asarray(page.asarray())
    except ValueError as problem:
        if "imagecodecs" not in str(problem):
            raise
    with Image.open(io.BytesIO(data)) as image:  # libtiff knows LZW and JPEG; of such files it reads 8-bit ones well
        values = np.asarray(image)
        # Pillow has already turned MinIsWhite round for 8 bits; give back what the file stores.
        return np.asarray(255 - values) if page.photometric.name == "MINISWHITE" and image.mode == "L" else values


def _scan(
    values: npt.NDArray[Any],
    orientation: int,
    *,
    name: str,
    sha256: str,
    inverted: bool = False,
    steps: tuple[str, ...] = (),
) -> Scan:
    pixels, step = full_range(values)
    done = [*steps, step] if step else [*steps]
    rgb = None
    if pixels.ndim == 3:
        opacity = pixels[..., 3] if pixels.shape[-1] == 4 else None
        if coloured(pixels):
            rgb = pixels[..., :3]
            done.append(TO_LUMINANCE)
        pixels = luminance(pixels)
        if opacity is not None and (opacity < 1).any():
            pixels = pixels * opacity
            rgb = None if rgb is None else rgb * opacity[..., None]
            done.append(SEE_THROUGH)
    if inverted:
        pixels = np.float32(1) - pixels
        rgb = None if rgb is None else np.float32(1) - rgb
        done.append("inverted (MinIsWhite)")
    if orientation in _UPRIGHT:
        pixels = _upright(pixels, orientation)
        rgb = None if rgb is None else np.dstack([_upright(rgb[..., channel], orientation) for channel in range(3)])
        done.append("turned upright as EXIF says")
    if done:  # else 0 to 1 as they are
        pixels = np.clip(pixels, 0, 1).astype(np.float32)
    rgb = None if rgb is None else np.clip(rgb, 0, 1).astype(np.float32)
    return Scan(pixels=pixels, rgb=rgb, source=name, sha256=sha256, steps=tuple(done))


def _upright(pixels: npt.NDArray[np.float32], orientation: int) -> npt.NDArray[np.float32]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).transpose(_UPRIGHT[orientation]))


def _several(name: str, count: int, what: str) -> ScanError:
    return ScanError("volume", name, f"holds {count} {what}; this version of medtl reads single images")


def _broken(name: str, problem: Exception) -> ScanError:
    said = " ".join(str(problem).split()) or type(problem).__name__
    if isinstance(problem, MemoryError):
        return ScanError("too_large", name, "needs more memory than there is")
    if isinstance(problem, UnidentifiedImageError):
        said = "its header cannot be read"
    if any(word in said.lower() for word in ("truncat", "not enough", "unexpected end", "buffer is too small")):
        return ScanError("truncated", name, f"ends before its pixels do ({said}); copy it again")
    return ScanError("damaged", name, f"cannot be decoded ({said}); copy it again")
