"""Whether scans are in colour, decided once for a dataset by looking at some of its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from medtl.data.parallel import ordered_map
from medtl.data.quiet import quiet
from medtl.data.scan import Scan
from medtl.data.sources import is_npz
from medtl.data.units import Unit, scans_in
from medtl.errors import ScanError
from medtl.progress import say

SAMPLE = 16
"""Scans that are looked at, evenly spread over the files."""
CHROMA = 0.08
"""How far apart the largest and the smallest of red, green and blue of a coloured pixel are, white being 1. Skin,
retina and stained tissue have more than 0.1; a grey film that was photographed as JPEG mostly less than 0.05."""
LEAST_PX = 512
"""Colours are never decoded at fewer pixels; a radiograph may be, which saves time."""
SHARE = 0.05
"""Of the pixels that a scan in colour has at least: more than callipers, a logo and a colour bar on an ultrasound
screen, less than the tissue of a nearly empty slide."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many scans were looked at, and how many of them are in colour."""

    looked_at: int
    coloured: int

    @property
    def in_colour(self) -> bool:
        """Whether most are."""
        return 2 * self.coloured > self.looked_at


def is_in_colour(scan: Scan) -> bool:
    """Whether colour is part of the picture, not a few marks on a grey one, or what JPEG leaves of grey."""
    if scan.rgb is None:
        return False
    chroma = scan.rgb.max(axis=-1) - scan.rgb.min(axis=-1)
    return bool(np.count_nonzero(chroma >= CHROMA) >= SHARE * chroma.size)


def keeps_colour(units: Sequence[Unit]) -> bool:
    """Whether most of some images are in colour; says so where any is."""
    found = sampled(units)
    if found.coloured:
        kept, other = ("in colour", "--no-colour") if found.in_colour else ("as luminance", "--colour")
        say(f"stored {kept}: {found.coloured} of {found.looked_at} images looked at are in colour ({other} to change)")
    return found.in_colour


def sampled(units: Sequence[Unit]) -> Sample:
    """What some of the images say; files that cannot be read say nothing."""
    places = np.unique(np.linspace(0, len(units) - 1, min(SAMPLE, len(units))).astype(np.int64))
    tasks = [(units[place], -(-SAMPLE // len(places))) for place in places]
    # An .npz needs no foreign decoder, so that no process has to be started for it.
    found = [each for task in tasks if is_npz(task[0].files[0]) for each in _look(task)]
    others = [task for task in tasks if not is_npz(task[0].files[0])]
    for _, said in ordered_map(_look, others):
        found += said or []
    return Sample(looked_at=len(found), coloured=sum(found))


def _look(task: tuple[Unit, int]) -> list[bool]:
    """Whether each of a file's first scans is in colour."""
    unit, count = task
    try:
        with quiet("PIL"), quiet("pydicom"), quiet("tifffile"), quiet("imagecodecs"):
            return [is_in_colour(each.scan) for each in islice(scans_in(unit, dims=2, least_px=LEAST_PX), count)]
    except (ScanError, MemoryError, OSError):
        return []
