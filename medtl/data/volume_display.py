"""The values of a whole volume to 0..1 at once, so that its slices stay comparable."""

from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.values import PERCENTILES
from medtl.data.windows import FULL_HU

Values = npt.NDArray[np.float32]
SAMPLED = 2**22
"""Percentiles of larger volumes are those of so many voxels, drawn always alike."""


def drawn_from(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """All values (N,), or as many as are needed, drawn always alike."""
    flat = values.reshape(-1)
    return flat if flat.size <= SAMPLED else flat[np.random.default_rng(0).integers(0, flat.size, SAMPLED)]


def spread_volume(values: Values) -> tuple[Values, str]:
    """Scale the range between two percentiles to 0..1, and say so.

    Args:
        values: (D, H, W); what is not finite is unknown: it does not count and becomes black.

    Returns:
        (D, H, W) in 0..1, and the step in words. A constant volume becomes black.
    """
    flat, drawn = values.reshape(-1), drawn_from(values)
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return np.zeros_like(values), "no valid value: black"
    low, high = (float(value) for value in np.percentile(known.astype(np.float64), PERCENTILES))
    if high <= low:  # nearly all voxels equal
        finite = flat[np.isfinite(flat)]
        low, high = float(finite.min()), float(finite.max())
    if high <= low:
        return np.zeros_like(values), "a single value: black"
    step = f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]} of the volume ({low:g} to {high:g}) to black and white"
    return _scaled(values, low, high), step


def hounsfield_volume(hu: Values) -> tuple[Values, str]:
    """Show the whole range from air to dense bone."""
    low, high = FULL_HU
    return _scaled(hu, low, high), f"{low:g} to {high:g} HU"


def _scaled(values: Values, low: float, high: float) -> Values:
    with np.errstate(all="ignore"):
        pixels: Values = values - np.float32(low)
        pixels *= np.float32(1 / (high - low))
    np.clip(pixels, 0, 1, out=pixels)
    pixels[~np.isfinite(values) | np.isnan(pixels)] = 0
    return pixels
