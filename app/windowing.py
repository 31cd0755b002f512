"""Display windows: which values of a scan are shown black and white. Presets, and a centre and width set by hand.

A scan in colour has none: it is shown as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtl.data.scan import Scan
from medtl.data.windows import FULL_HU, NAMED_HU, windowed

Pixels = npt.NDArray[np.float32]

AS_READ, BY_HAND = "As read", "By hand"
PERCENTILES = {
    "Full contrast": (0.5, 99.5),
    "Soft (wide)": (0.0, 100.0),
    "Lung (dark areas)": (0.5, 60.0),
    "Bone (bright areas)": (40.0, 99.8),
}
"""Presets of scans without Hounsfield units: the percentiles of the anatomy that become black and white."""
WIDER = {"Soft (wide)": 1.4}
"""Presets whose window is so many times as wide as their percentiles, which softens the contrast."""
HU_WINDOWS = {f"{name.capitalize()} ({centre:g} / {width:g} HU)": (centre, width)
              for name, (centre, width) in NAMED_HU.items()}  # fmt: skip
"""CT presets: centre and width in Hounsfield units."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What centre and width are counted in.

    Args:
        name: "HU", or "%" of the range as it was read.
        centres, widths: the least and the largest that can be set.
        step: the smallest change.
    """

    name: str
    centres: tuple[float, float]
    widths: tuple[float, float]
    step: float


HU = Unit(name="HU", centres=(-1024, 3071), widths=(1, 4096), step=1)
PERCENT = Unit(name="%", centres=(0, 100), widths=(1, 150), step=0.1)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window on one scan.

    Args:
        name: the preset, or `BY_HAND`.
        centre, width: in the scan's `unit_of`.
    """

    name: str
    centre: float
    width: float


def unit_of(scan: Scan) -> Unit:
    """Hounsfield units where the scan has them."""
    return PERCENT if scan.hu is None else HU


def windows_of(scan: Scan) -> list[str]:
    """The presets that suit a scan, the window set by hand last; of a scan in colour the first alone."""
    if scan.rgb is not None:
        return [AS_READ]
    return [AS_READ, *(PERCENTILES if scan.hu is None else HU_WINDOWS), BY_HAND]


def preset(scan: Scan, name: str) -> Window:
    """A preset's centre and width on a scan; as it was read where the preset does not suit it.

    The percentiles of a volume are those of all of it, so that slices can be compared.
    """
    if scan.hu is not None and name in HU_WINDOWS:
        centre, width = HU_WINDOWS[name]
    elif scan.hu is None and scan.rgb is None and name in PERCENTILES:
        low, high = _percentiles(scan.pixels, *PERCENTILES[name])
        centre, width = 50 * (low + high), 100 * (high - low) * WIDER.get(name, 1.0)
    else:
        name = AS_READ
        centre, width = (50.0, 100.0) if scan.hu is None else _as_read_hu(scan, scan.hu)
    unit = unit_of(scan)
    return Window(name=name, centre=_within(centre, unit.centres, unit), width=_within(width, unit.widths, unit))


def displayed(scan: Scan, window: Window, cut: Callable[[Pixels], Pixels]) -> Pixels:
    """What is shown of a scan through a window: (H, W) in 0..1, or (H, W, 3) of one in colour, whatever the window.

    Args:
        cut: from the whole scan to the picture (H, W).
    """
    if scan.rgb is not None:
        return scan.rgb
    if window.name == AS_READ:
        return cut(scan.pixels)
    if scan.hu is not None:
        return windowed(cut(scan.hu), centre=window.centre, width=window.width)
    low = np.float32((window.centre - window.width / 2) / 100)
    shown: Pixels = (cut(scan.pixels) - low) * np.float32(100 / window.width)
    return np.clip(shown, 0, 1, out=shown)


def _percentiles(pixels: Pixels, low: float, high: float) -> tuple[float, float]:
    inside = _sample(pixels)
    # Black borders and collimation say nothing about the range of the anatomy.
    inside = inside[inside > 0.01] if (inside > 0.01).any() else inside
    bottom, top = np.percentile(inside, (low, high))
    return float(bottom), float(top)


def _as_read_hu(scan: Scan, hu: Pixels) -> tuple[float, float]:
    """The linear window that is nearest to the display values of a CT; the whole range where they are flat."""
    values, units = _sample(scan.pixels), _sample(hu)
    grey = (values > 0.01) & (values < 0.99)
    if not grey.any() or np.ptp(values[grey]) == 0:
        return sum(FULL_HU) / 2, FULL_HU[1] - FULL_HU[0]
    slope, black = np.polyfit(values[grey].astype(np.float64), units[grey].astype(np.float64), 1)
    return black + slope / 2 + 0.5, slope + 1  # PS3.3 C.11.2.1.2.1, solved for centre and width


def _sample(pixels: Pixels) -> Pixels:
    most = 512 if pixels.ndim == 2 else 64  # along each axis
    return pixels[tuple(slice(None, None, max(1, side // most)) for side in pixels.shape)].ravel()


def _within(value: float, limits: tuple[float, float], unit: Unit) -> float:
    low, high = limits
    return round(min(max(round(value / unit.step) * unit.step, low), high), 1)
