"""Values of interest: from modality values to 0..1 (DICOM PS3.3 C.11.2)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_voi

from medtl.data.values import Pixels, spread
from medtl.data.windows import FULL_HU, windowed


def display(dataset: Dataset, values: npt.NDArray[Any], inside: npt.NDArray[np.bool_]) -> tuple[Pixels, str]:
    """Modality values (H, W) to 0..1, and how, in words.

    A VOI LUT of the header counts first, then its first window, then a choice by modality: Hounsfield units have a
    fixed range, other values are spread between percentiles of what is no padding.
    """
    table = dataset.get("VOILUTSequence")
    if table and np.array_equal(values, np.rint(values)):
        entries = np.asarray(apply_voi(np.rint(values).astype(np.int64), dataset))
        # Some writers state 16 bits for tables of fewer; the largest entry is white then.
        top = max(int(np.max(_entries(table[0]))), 1)
        bits = int(table[0].LUTDescriptor[2])
        white = 2**bits - 1 if top >= 2 ** (bits - 1) else 2 ** top.bit_length() - 1
        return np.clip(entries / white, 0, 1).astype(np.float32), "VOI LUT"
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    # LINEAR counts in whole steps, which real-valued pixels do not have.
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper() if "PixelData" in dataset else "LINEAR_EXACT"
    aside = ""
    if centre is not None and width is not None:
        if width > 0 and (width >= 1 or function != "LINEAR"):
            pixels = windowed(values, centre=centre, width=width, function=function)
            if np.ptp(pixels[inside]) > 0 or np.ptp(values[inside]) == 0:
                return pixels, f"window {centre:g}/{width:g}{'' if function == 'LINEAR' else ' ' + function}"
        aside = f"window {centre:g}/{width:g} of the header shows nothing; "
    if dataset.get("Modality") == "CT":
        low, high = FULL_HU
        scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
        return scaled.astype(np.float32), f"{aside}{low:g} to {high:g} HU"
    pixels, step = spread(values, known=inside)
    return pixels, aside + step


def _first(dataset: Dataset, key: str) -> float | None:
    """The first of what may be several values."""
    value = dataset.get(key)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _entries(table: Dataset) -> npt.NDArray[Any]:
    data = table.LUTData
    return np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
