"""From stored values to 0..1, for what has no unit and no window of its own."""

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
PERCENTILES = (0.5, 99.5)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, the weights of DICOM's and JPEG's Y."""


def luminance(colour: npt.NDArray[Any]) -> Pixels:
    """(H, W, 3) red, green, blue as (H, W) float32 luminance, in the same unit."""
    return np.asarray(colour[..., :3] @ LUMINANCE, np.float32)


def spread(values: npt.NDArray[Any], *, known: npt.NDArray[np.bool_] | None = None) -> tuple[Pixels, str]:
    """Scale the range between two percentiles to 0..1, and say so.

    Args:
        values: (H, W) of any real type.
        known: (H, W) which values count, all finite ones by default.

    Returns:
        (H, W) float32 in 0..1, and the step in words. A constant image becomes black.
    """
    counted = np.isfinite(values) if known is None else known & np.isfinite(values)
    if not counted.any():
        return np.zeros(values.shape, np.float32), "no valid value: black"
    low, high = (float(v) for v in np.percentile(values[counted], PERCENTILES))
    if high <= low:  # nearly all pixels equal
        low, high = float(values[counted].min()), float(values[counted].max())
    step = f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]} ({low:g} to {high:g}) to black and white"
    if high <= low:
        return np.zeros(values.shape, np.float32), "a single value: black"
    scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32), step


def full_range(values: npt.NDArray[Any]) -> tuple[Pixels, str]:
    """Scale unsigned integers by the range of their type, or by 8, 10 or 12 bits where 16-bit values use no more.

    Signed and floating values have no range of their own and are spread between percentiles.
    """
    if values.dtype == np.bool_:
        return values.astype(np.float32), ""
    if values.dtype not in (np.uint8, np.uint16):
        return spread(values)
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255), ""
    top = int(values.max())
    bits = next(b for b in (8, 10, 12, 16) if top < 2**b)
    scaled = values.astype(np.float32) / np.float32(2**bits - 1)
    return scaled, f"16-bit values that use {bits} bits (largest {top}), scaled by {2**bits - 1}"
