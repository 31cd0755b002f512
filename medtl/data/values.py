"""From stored values to 0..1, for what has no unit and no window of its own."""

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
PERCENTILES = (0.5, 99.5)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, the weights of DICOM's and JPEG's Y."""
TO_LUMINANCE, IN_COLOUR = "colour to luminance", "in colour"
"""The step that makes `Scan.pixels` of colours, in words, and what it is called where colours are kept."""


def luminance(colour: npt.NDArray[Any]) -> Pixels:
    """(H, W, 3) red, green, blue as (H, W) float32 luminance, in the same unit."""
    return np.asarray(colour[..., :3] @ LUMINANCE, np.float32)


def coloured(colour: npt.NDArray[Any]) -> bool:
    """Whether red, green and blue (H, W, 3 or more) differ anywhere."""
    red, green, blue = (colour[..., channel] for channel in range(3))
    return bool((red != green).any() or (green != blue).any())


def spread(
    values: npt.NDArray[Any],
    *,
    counts: npt.NDArray[np.intp] | None = None,
) -> tuple[Pixels, str]:
    """Scale the range between two percentiles to 0..1, and say so.

    Args:
        values: (H, W) of any real type.
        counts: (H, W) how often each value counts; by default each finite one once.

    Returns:
        (H, W) float32 in 0..1, and the step in words. A constant image becomes black.
    """
    counted = np.isfinite(values)
    if counts is not None:
        counted &= counts > 0
    if not counted.any():
        return np.zeros(values.shape, np.float32), "no valid value: black"
    among = values[counted]
    low, high = _percentiles(among, None if counts is None else counts[counted])
    if high <= low:  # nearly all pixels equal
        low, high = float(among.min()), float(among.max())
    step = f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]} ({low:g} to {high:g}) to black and white"
    if high <= low:
        return np.zeros(values.shape, np.float32), "a single value: black"
    scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    return np.nan_to_num(scaled, nan=0.0).astype(np.float32), step


def _percentiles(values: npt.NDArray[Any], counts: npt.NDArray[np.intp] | None) -> tuple[float, float]:
    """Of (N,) values, each repeated as often as its count says, as numpy interpolates them."""
    if counts is None or int(counts.max()) == 1:
        low, high = np.percentile(values, PERCENTILES)
        return float(low), float(high)
    order = np.argsort(values)
    ends = np.cumsum(counts[order])  # of each value's copies among all pixels in order
    places = (int(ends[-1]) - 1) * np.asarray(PERCENTILES) / 100
    below, above = (
        values[order[np.searchsorted(ends, place, side="right")]].astype(np.float64)
        for place in (np.floor(places), np.ceil(places))
    )
    low, high = below + (above - below) * (places - np.floor(places))
    return float(low), float(high)


def full_range(values: npt.NDArray[Any]) -> tuple[Pixels, str]:
    """Scale unsigned integers by the range of their type, or by 8, 10 or 12 bits where 16-bit values use no more.

    Signed and floating values have no range of their own and are spread between percentiles.
    """
    if values.dtype == np.bool_:
        return values.astype(np.float32), ""
    if values.dtype not in (np.uint8, np.uint16):
        return spread(values)
    if values.dtype == np.uint8:
        return np.divide(values, np.float32(255), dtype=np.float32), ""
    top = int(values.max())
    bits = next(b for b in (8, 10, 12, 16) if top < 2**b)
    scaled = values.astype(np.float32) / np.float32(2**bits - 1)
    return scaled, f"16-bit values that use {bits} bits (largest {top}), scaled by {2**bits - 1}"
