"""What a person should look at before trusting a scan, told from its stored block."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.data.scan import Scan

BLANK, CLIPPED, COLLIMATED, TEXT = "blank", "clipped", "collimated", "burned-in text"
_BLACK, _WHITE = 8, 250
_CLIPPED_SHARE, _COLLIMATED_SHARE = 0.15, 0.25
_GLYPHS, _LOWEST_PX = 4, 4


def warnings_of(scan: Scan, inside: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """The warnings that apply.

    Args:
        scan: as it was read.
        inside: its first stored channel without the margins, (h, w) or (d, h, w).
    """
    counts = np.bincount(inside[..., ::4, ::4].ravel(), minlength=256)
    if _variance(counts) < 2**2 or _percentile(counts, 99) - _percentile(counts, 1) < 4:
        return (BLANK,)
    found = []
    if np.count_nonzero(inside >= _WHITE) > _CLIPPED_SHARE * inside.size:
        found.append(CLIPPED)
    if scan.dims == 2 and _dark_border_share(inside) > _COLLIMATED_SHARE:
        found.append(COLLIMATED)
    if scan.header.burned_in or (scan.dims == 2 and scan.header.burned_in is None and has_text(inside)):
        found.append(TEXT)
    return tuple(found)


def with_odd_body_parts(manifest: pd.DataFrame) -> "pd.Series[str]":
    """The column of warnings, with one for each scan of another body part than nine of ten scans that state one."""
    stated = manifest["body_part"].dropna()
    shares = stated.value_counts(normalize=True)
    if not len(shares) or shares.iloc[0] < 0.9:
        return manifest["warnings"]
    usual = str(shares.index[0])
    odd = manifest["body_part"].notna() & (manifest["body_part"] != usual)
    said = manifest["body_part"].map(lambda part: f"body part {part}, most are {usual}", na_action="ignore")
    both = (manifest["warnings"] + "; " + said).str.removeprefix("; ")
    new = odd & ~manifest["warnings"].str.contains("body part", regex=False)
    return manifest["warnings"].where(~new, both).astype("string")


def _variance(counts: npt.NDArray[np.intp]) -> float:
    """Of the values 0 to 255 that are there so many times, from sums of integers."""
    values, number = np.arange(256), int(counts.sum())
    return (number * int(counts @ values**2) - int(counts @ values) ** 2) / number**2


def _percentile(counts: npt.NDArray[np.intp], percent: int) -> float:
    """Of the same, as numpy interpolates it; sorting the values would take ten times as long."""
    ends = np.cumsum(counts)  # of each value's copies among all in order
    last = int(ends[-1]) - 1
    below, share = divmod(last * percent, 100)
    low, high = (int(value) for value in np.searchsorted(ends, [below, min(below + 1, last)], side="right"))
    return low + (high - low) * share / 100


def _dark_border_share(image: npt.NDArray[np.uint8]) -> float:
    """The share of the image in rows and columns at its border that are all black."""
    lit = (image > _BLACK).view(np.uint8)
    in_rows, in_columns = (lit.sum(axis=axis, dtype=np.uint16) for axis in (1, 0))  # of at most 2048 each
    rows, columns = np.flatnonzero(in_rows > 0.02 * lit.shape[1]), np.flatnonzero(in_columns > 0.02 * lit.shape[0])
    if not len(rows) or not len(columns):
        return 1.0
    kept = int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1)
    return 1 - kept / image.size


def has_text(image: npt.NDArray[np.uint8]) -> bool:
    """Whether several small white marks of like height stand side by side, as letters do and anatomy does not.

    Args:
        image: (h, w) of 256 pixels or so; letters of 4 to 20 pixels are seen.
    """
    from scipy.ndimage import find_objects, label

    white = image >= _WHITE
    across, down = np.flatnonzero(white.any(axis=0)), np.flatnonzero(white.any(axis=1))
    if len(across) < _GLYPHS or len(down) < _LOWEST_PX:
        return False
    marks, _ = label(white[down[0] : down[-1] + 1, across[0] : across[-1] + 1])
    boxes: list[tuple[float, int, int, int]] = []  # middle row, height, first and last column
    for place, box in enumerate(find_objects(marks), start=1):
        height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
        if _LOWEST_PX <= height <= 20 and 1 <= width <= 20 and _is_stroke(marks[box] == place):
            boxes.append(((box[0].start + box[0].stop) / 2, height, box[1].start, box[1].stop))
    return any(_in_line_with(boxes, each) >= _GLYPHS for each in boxes)


def _is_stroke(mark: npt.NDArray[Any]) -> bool:
    """Letters are drawn with lines: they do not fill their box."""
    return mark.shape[1] <= 3 or bool(mark.mean() < 0.8)


def _in_line_with(boxes: list[tuple[float, int, int, int]], one: tuple[float, int, int, int]) -> int:
    """How many marks follow each other to the right of `one` (itself included) with gaps smaller than a letter."""
    middle, height, _, end = one
    count = 1
    for other, tall, start, stop in sorted(boxes, key=lambda box: box[2]):
        follows = start >= end and start - end <= height and abs(other - middle) <= 0.25 * height + 0.5
        if follows and abs(tall - height) <= 0.35 * height + 1:
            count, end = count + 1, stop
    return count
