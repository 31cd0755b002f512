"""Exposure, noise and display processing: from line integrals of attenuation to the pixels a scanner stores."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from medtl.data.simulation.rays import Array

TOP = 4095  # 12 bits stored


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What makes one make of scanner's radiographs look like its own."""

    photons: float
    """Quanta absorbed per pixel behind the lungs."""
    scatter: float
    """Scattered quanta per primary one and per unit of attenuation, spread over a hand's breadth."""
    blur_px: float
    """Standard deviation of the point spread."""
    contrast: float
    """Slope of the tone curve in the middle, per unit of attenuation."""
    edge: float
    """How much of the fine detail is added once more."""
    latitude: float
    """How much of the coarse differences is taken away, 0 to 1, so that lungs and abdomen fit one picture."""
    stored_range: tuple[int, int]
    """Stored values of the darkest and the brightest display value; other than 0..4095, so that the window counts."""
    inverted: bool
    """Whether dense tissue has low stored values (MONOCHROME1)."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the radiographer and the software chose for one image; 1 and 0 are the scanner's usual."""

    dose: float
    contrast: float
    brightness: float
    """Shift of the tone curve, in units of attenuation."""


def expose(
    integral: Array, lung_mm: Array, detector: Detector, setting: Setting, *, pitch_mm: float, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Expose, add noise, take the logarithm and apply the scanner's tone curve.

    Args:
        integral: (H, W) line integrals of attenuation.
        lung_mm: (H, W) path length in lung; where the automatic exposure control measures.

    Returns:
        (H, W) stored values of 12 bits.
    """
    primary = gaussian_filter(np.exp(-integral), detector.blur_px)
    hand = 45.0 / pitch_mm
    scattered = detector.scatter * gaussian_filter(primary * integral, hand, mode="constant")
    fluence = primary + scattered
    measured = np.median(fluence[lung_mm > 0.5 * lung_mm.max()])
    photons = detector.photons * setting.dose
    quanta = rng.poisson(fluence / measured * photons)
    density = -np.log(np.maximum(quanta, 1) / photons)  # 0 in the lungs
    density = np.maximum(density, -3.2)
    coarse = gaussian_filter(density, 38.0 / pitch_mm, mode="nearest")
    fine = density - gaussian_filter(density, 4.5 / pitch_mm, mode="nearest")
    seen = density - detector.latitude * np.clip(coarse, -1.0, 3.0) + detector.edge * fine
    shown = 1 / (1 + np.exp(-detector.contrast * setting.contrast * (seen - 0.58 + setting.brightness)))
    low, high = detector.stored_range
    if detector.inverted:
        shown = 1 - shown
    stored: npt.NDArray[np.uint16] = np.clip(np.rint(low + (high - low) * shown), 0, TOP).astype(np.uint16)
    return stored
