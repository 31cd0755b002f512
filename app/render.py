"""From pixels to PNG bytes, and nothing else: display window, inversion, heatmap. Knows nothing of the page."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from medtl.data.scan import Scan
from medtl.data.windows import NAMED_HU, windowed

Pixels = npt.NDArray[np.float32]

SHOWN_PX = 2048
"""The longer side that is sent to the browser at most: more than a 1920 x 1080 screen can show."""
HEAT_PX = 512
"""The longer side of the heatmap, which is smooth."""
COLD = 0.2
"""Below this the heatmap is transparent."""


def _percentiles(low: float, high: float) -> Callable[[Pixels], tuple[float, float]]:
    def limits(pixels: Pixels) -> tuple[float, float]:
        most = 512 if pixels.ndim == 2 else 64  # pixels along each axis that are looked at
        sample = pixels[tuple(slice(None, None, max(1, side // most)) for side in pixels.shape)]
        # Black borders and collimation say nothing about the range of the anatomy.
        inside = sample[sample > 0.01]
        bottom, top = np.percentile(inside if inside.size else sample, (low, high))
        return float(bottom), float(top)

    return limits


WINDOWS: dict[str, Callable[[Pixels], tuple[float, float]]] = {
    "As read": lambda pixels: (0.0, 1.0),
    "Full contrast": _percentiles(0.5, 99.5),
    "Lung (dark areas)": _percentiles(0.5, 60),
    "Bone (bright areas)": _percentiles(40, 99.8),
}
"""Display presets: from pixels of an image or a whole volume in 0..1 to the values shown black and white."""
HU_WINDOWS = {
    f"{name.capitalize()} ({centre:g} / {width:g} HU)": (centre, width) for name, (centre, width) in NAMED_HU.items()
}
"""CT presets: centre and width in Hounsfield units."""


def windows_of(scan: Scan) -> list[str]:
    """The presets that suit a scan."""
    return list(WINDOWS) if scan.hu is None else ["As read", *HU_WINDOWS]


def displayed(scan: Scan, window: str, cut: Callable[[Pixels], Pixels]) -> Pixels:
    """What is shown of a scan through a preset, 0..1.

    Args:
        window: a name of `windows_of`.
        cut: from the whole scan to the picture (H, W); windows of a volume are chosen by all of it, so that slices
            can be compared.
    """
    if scan.hu is not None and window in HU_WINDOWS:
        centre, width = HU_WINDOWS[window]
        return windowed(cut(scan.hu), centre=centre, width=width)
    low, high = WINDOWS.get(window, WINDOWS["As read"])(scan.pixels)
    return np.clip((cut(scan.pixels) - low) / max(high - low, 1e-6), 0, 1)


def scan_png(pixels: Pixels, *, invert: bool = False, spacing_mm: tuple[float, float] | None = None) -> bytes:
    """A scan as an 8-bit greyscale PNG in its true proportions.

    Args:
        pixels: (H, W) in 0..1.
        invert: show dense as dark.
        spacing_mm: row and column spacing; unequal ones stretch the picture to the body's proportions.
    """
    size = shown_size((pixels.shape[0], pixels.shape[1]), spacing_mm, longest=SHOWN_PX)
    grey = np.clip(_resized(pixels, size) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return _png(Image.fromarray(255 - grey if invert else grey))


def heat_png(heat: Pixels, *, spacing_mm: tuple[float, float] | None = None) -> bytes:
    """A heatmap as an RGBA PNG to lie over `scan_png` of the same scan: where it is cold it is transparent.

    Args:
        heat: (H, W) in 0..1.
        spacing_mm: as for the scan.
    """
    size = shown_size((heat.shape[0], heat.shape[1]), spacing_mm, longest=HEAT_PX)
    values = np.clip(_resized(heat, size), 0, 1)
    colours = _colours()[(values * 255).astype(np.uint8)]  # (h, w, 3)
    alpha = (np.clip((values - COLD) / (1 - COLD), 0, 1) ** 0.7 * 255).astype(np.uint8)
    return _png(Image.fromarray(np.dstack([colours, alpha])))


def shown_size(shape: tuple[int, int], spacing_mm: tuple[float, float] | None, *, longest: int) -> tuple[int, int]:
    """Width and height in the body's proportions, the longer side at most `longest`."""
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    unit = min(row_mm, column_mm)
    height, width = shape[0] * row_mm / unit, shape[1] * column_mm / unit
    scale = min(1.0, longest / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(values: Pixels, size: tuple[int, int]) -> Pixels:
    if values.shape == size[::-1]:
        return values
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR), np.float32)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@cache
def _colours() -> npt.NDArray[np.uint8]:
    # Inferno grows evenly in brightness, so a colour-blind reader sees the same order. Without its pale end, which
    # would look like bone.
    from matplotlib import colormaps

    table = np.asarray(colormaps["inferno"](np.linspace(0.3, 0.82, 256)))
    return (table[:, :3] * 255).astype(np.uint8)
