"""Values of interest: from modality values to 0..1 (DICOM PS3.3 C.11.2)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medtl.data.levels import Levels
from medtl.data.lut import Table, table_of
from medtl.data.values import Pixels, spread
from medtl.data.windows import FULL_HU, FUNCTIONS, windowed


def display(
    dataset: Dataset, values: npt.NDArray[Any], levels: Levels, inside: npt.NDArray[np.bool_]
) -> tuple[Pixels, str]:
    """Modality values (N,) to 0..1, and how, in words.

    A VOI LUT of the header counts first, then its first window, then a choice by modality: Hounsfield units have a
    fixed range, other values are spread between percentiles of what is no padding.

    Args:
        dataset: the header.
        values: after the modality LUT.
        levels: which pixels have them.
        inside: (N,) which values are no padding.
    """
    aside = ""
    if dataset.get("VOILUTSequence"):
        if (table := _table(dataset)) is None:
            aside = "VOI LUT of the header is damaged; "
        else:
            pixels = (np.minimum(table(values), table.white) / table.white).astype(np.float32)
            if _shows(pixels, values, levels, inside):
                return pixels, "VOI LUT"
            aside = "VOI LUT of the header shows nothing; "
    centre, width = first_number(dataset, "WindowCenter"), first_number(dataset, "WindowWidth")
    if centre is not None and width is not None:
        function = _function(dataset)
        if width > 0 and (width >= 1 or function != "LINEAR"):
            pixels = windowed(values, centre=centre, width=width, function=function)
            if _shows(pixels, values, levels, inside):
                return pixels, f"{aside}window {centre:g}/{width:g}{'' if function == 'LINEAR' else ' ' + function}"
        aside += f"window {centre:g}/{width:g} of the header shows nothing; "
    if dataset.get("Modality") == "CT":
        low, high = FULL_HU
        scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
        return scaled.astype(np.float32), f"{aside}{low:g} to {high:g} HU"
    pixels, step = spread(values, counts=np.where(inside, levels.counts, 0))
    return pixels, aside + step


def first_number(dataset: Dataset, key: str) -> float | None:
    """The first of what may be several values; None where there is none, or no finite number."""
    try:
        value = dataset.get(key)
        if isinstance(value, MultiValue):
            value = value[0] if len(value) else None
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _function(dataset: Dataset) -> str:
    """LINEAR is the default, and counts in whole steps, which real-valued pixels do not have."""
    stated = str(dataset.get("VOILUTFunction") or "").strip().upper()
    if stated in FUNCTIONS and stated != "LINEAR":
        return stated
    return "LINEAR" if "PixelData" in dataset else "LINEAR_EXACT"


def _table(dataset: Dataset) -> Table | None:
    rescaled_below_zero = min(first_number(dataset, key) or 0 for key in ("RescaleIntercept", "RescaleSlope")) < 0
    signed = dataset.get("PixelRepresentation") == 1 or rescaled_below_zero
    try:
        return table_of(dataset.VOILUTSequence[0], signed=signed, little=dataset.original_encoding[1] is not False)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None


def _shows(pixels: Pixels, values: npt.NDArray[Any], levels: Levels, inside: npt.NDArray[np.bool_]) -> bool:
    """Whether different values are still told apart, which mostly a few pixels prove."""
    few = levels.sample(pixels)[levels.sample(inside)]
    if few.size and np.ptp(few) > 0:
        return True
    seen = inside & (levels.counts > 0)
    return bool(seen.any()) and bool(np.ptp(pixels[seen]) > 0 or np.ptp(values[seen]) == 0)
