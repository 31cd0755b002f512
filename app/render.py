"""From pixels to PNG bytes: proportions, grey values, colours, heatmaps. Knows nothing of the page."""

import struct
import zlib
from functools import cache

import numpy as np
import numpy.typing as npt
from imagecodecs import zlib_encode
from PIL import Image

Pixels = npt.NDArray[np.float32]

SHOWN_PX = 2048
"""The longer side that is sent to the browser at most: more than a 1920 x 1080 screen can show."""
HEAT_PX = 512
"""The longer side of the heatmap, which is smooth."""
COLD = 0.2
"""Below this the heatmap is transparent."""


def scan_png(pixels: Pixels, *, spacing_mm: tuple[float, float] | None = None) -> bytes:
    """A scan as a PNG of 8 bits, in grey or in colour, in its true proportions.

    Args:
        pixels: (H, W), or (H, W, 3) red, green and blue, in 0..1.
        spacing_mm: row and column spacing; unequal ones stretch the picture to the body's proportions.
    """
    shown = in_proportion(pixels, spacing_mm, longest=SHOWN_PX) * np.float32(255)
    shown += np.float32(0.5)
    return _png(np.clip(shown, 0, 255, out=shown).astype(np.uint8))


def heat_png(heat: Pixels, *, spacing_mm: tuple[float, float] | None = None) -> bytes:
    """A heatmap as an RGBA PNG to lie over `scan_png` of the same scan: where it is cold it is transparent.

    Args:
        heat: (H, W) in 0..1.
        spacing_mm: as for the scan.
    """
    values = np.clip(in_proportion(heat, spacing_mm, longest=HEAT_PX), 0, 1)
    colours = _colours()[(values * 255).astype(np.uint8)]  # (h, w, 3)
    alpha = (np.clip((values - COLD) / (1 - COLD), 0, 1) ** 0.7 * 255).astype(np.uint8)
    return _png(np.dstack([colours, alpha]))


def in_proportion(values: Pixels, spacing_mm: tuple[float, float] | None, *, longest: int) -> Pixels:
    """Values (H, W) or (H, W, 3) resampled to `shown_size`."""
    size = shown_size((values.shape[0], values.shape[1]), spacing_mm, longest=longest)
    if values.shape[:2] == size[::-1]:
        return values
    if values.ndim == 3:
        return np.dstack([in_proportion(values[..., colour], spacing_mm, longest=longest) for colour in range(3)])
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, Image.Resampling.BILINEAR), np.float32)


def shown_size(shape: tuple[int, int], spacing_mm: tuple[float, float] | None, *, longest: int) -> tuple[int, int]:
    """Width and height in the body's proportions, the longer side at most `longest`."""
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    unit = min(row_mm, column_mm)
    height, width = shape[0] * row_mm / unit, shape[1] * column_mm / unit
    scale = min(1.0, longest / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _png(values: npt.NDArray[np.uint8]) -> bytes:
    """A PNG (3rd edition) of values (H, W) in grey, (H, W, 3) in RGB or (H, W, 4) in RGBA.

    Each row is stored as its difference to the row above (filter 2, 9.2), for the whole picture at once, and compressed
    by libdeflate: what libpng does row by row takes several times as long.
    """
    rows, columns = values.shape[:2]
    flat = values.reshape(rows, -1)
    lines = np.empty((rows, flat.shape[1] + 1), np.uint8)
    lines[:, 0] = 2
    lines[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=lines[1:, 1:])
    kind = {1: 0, 3: 2, 4: 6}[flat.shape[1] // columns]
    header = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    data = bytes(zlib_encode(lines.tobytes(), level=1))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@cache
def _colours() -> npt.NDArray[np.uint8]:
    # Inferno grows evenly in brightness, so a colour-blind reader sees the same order. Without its pale end, which
    # would look like bone.
    from matplotlib import colormaps

    table = np.asarray(colormaps["inferno"](np.linspace(0.3, 0.82, 256)))
    return (table[:, :3] * 255).astype(np.uint8)
