"""Scans that show the same picture: the same film exported twice, rescaled, re-encoded or windowed otherwise.

A perceptual hash finds candidates (pHash: Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions", sec. 3.2.1). Scans of one view resemble each other so much that their hashes can be close, too: a
candidate counts only where its fine structures correlate as well, beyond what the scans of the dataset have in common.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.ndimage import gaussian_filter

from medtl.data.resample import resized

HASH_BITS = 64
MOST_BITS_APART = 6
LEAST_CORRELATION = 0.9
OF_DIFFERENT_PATIENTS = 0.95
"""For scans that name different patients: they are copies only by mistake."""
SAMPLED = 256
"""So many scans, drawn evenly, say what all have in common."""
_SIDE = 32
_FINE = {2: (64, 3.0), 3: (32, 1.5)}
"""Side in pixels, and the width of the blur that is taken away, by dimensions."""
_BLOCK, _STEP, _CACHED = 4096, 256, 30_000
_COSINES = dct(np.eye(_SIDE), norm="ortho", axis=0)[:8]
"""(8, 32): the rows of the DCT-II (scipy.fft.dct) that the hash needs."""
Blocks = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]


def perceptual_hash(block: Blocks) -> str:
    """16 hex digits of a stored block (C, S, S) or (C, S, S, S); empty for one without structure.

    Of a volume the mean over its depth is hashed.
    """
    small = resized(_picture(block), (_SIDE, _SIDE))
    low = (_COSINES @ small @ _COSINES.T).ravel()
    if np.abs(low[1:]).max() < 1.0:
        return ""
    return np.packbits(low > np.median(low)).tobytes().hex()


def near_duplicates(
    hashes: list[str], pixels: Callable[[npt.NDArray[np.int64]], Blocks], *, patients: Sequence[str] = ()
) -> Pairs:
    """Pairs of rows (P, 2): each copy with the first row that shows the same picture.

    Args:
        hashes: (N,) of `perceptual_hash`.
        pixels: from rows (B,) to stored blocks (B, ...).
        patients: (N,) whose each is, empty where nobody says; by default nobody does.
    """
    likeness = _Likeness(hashes, pixels)

    def same(first: int, second: int) -> bool:
        different = bool(patients) and "" != patients[first] != patients[second] != ""
        return likeness.of(first, second) >= (OF_DIFFERENT_PATIENTS if different else LEAST_CORRELATION)

    return np.array(list(_copies(hashes, same)), np.int64).reshape(-1, 2)


class _Likeness:
    """How the fine structures of two scans correlate when what the others have in common is taken away from both.

    The edge of the margin around an image, the fan of an ultrasound probe or a head in its atlas is the same in all
    scans, and no sign of a copy.
    """

    def __init__(self, hashes: list[str], pixels: Callable[[npt.NDArray[np.int64]], Blocks]) -> None:
        rows = [row for row, text in enumerate(hashes) if text]
        places = np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED)).astype(np.int64)
        self.sample = {rows[place] for place in places}
        self.fine = lru_cache(_CACHED)(lambda row: fine_structure(pixels(np.array([row]))[0]).astype(np.float16))

    @cached_property
    def _total(self) -> npt.NDArray[np.float32]:
        structures = [self.fine(row) for row in sorted(self.sample)]
        return np.asarray(np.sum(structures, axis=0, dtype=np.float32), np.float32)

    def of(self, first: int, second: int) -> float:
        """From -1 to 1."""
        one, other = (self.fine(row).astype(np.float32) for row in (first, second))
        return likeness(one, other, self._total - (first in self.sample) * one - (second in self.sample) * other)


def likeness(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """How two fine structures correlate, -1 to 1, without what others, given as their sum, have in common."""
    if (length := float(np.linalg.norm(others))) > 0.1:  # else there are none
        common = others / length
        one, other = one - (one @ common) * common, other - (other @ common) * common
    return float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-6)


def _copies(hashes: list[str], same: Callable[[int, int], bool]) -> Iterator[tuple[int, int]]:
    """Compare each row with the originals before it, so that a picture with many copies costs no more than one.

    The dot product of +1/-1 vectors counts how many bits two hashes share.
    """
    rows = np.array([row for row, text in enumerate(hashes) if text], np.int64)
    if not len(rows):
        return
    packed = np.array([list(bytes.fromhex(hashes[row])) for row in rows], np.uint8).reshape(len(rows), -1)
    originals = np.zeros(len(rows), np.bool_)
    for top in range(0, len(rows), _BLOCK):
        here = slice(top, min(top + _BLOCK, len(rows)))
        before = np.concatenate([np.flatnonzero(originals[:top]), np.arange(here.start, here.stop)])
        for start in range(top, here.stop, _STEP):
            now = np.arange(start, min(start + _STEP, here.stop))
            close = _signs(packed[now]) @ _signs(packed[before]).T >= HASH_BITS - 2 * MOST_BITS_APART
            for place, row in enumerate(now):
                found = before[close[place] & (before < row) & (originals[before])]
                match = next((int(rows[each]) for each in found if same(int(rows[each]), int(rows[row]))), None)
                if match is None:
                    originals[row] = True
                else:
                    yield match, int(rows[row])


def _signs(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def _picture(block: Blocks) -> npt.NDArray[np.float32]:
    first: npt.NDArray[Any] = block[0]
    return np.asarray(first.mean(axis=0) if first.ndim == 3 else first, np.float32)


def fine_structure(block: Blocks) -> npt.NDArray[np.float32]:
    """A unit vector of what is left when the coarse shape of a block (C, S, S) or (C, S, S, S) is taken away."""
    first: npt.NDArray[Any] = block[0]
    side, sigma = _FINE[first.ndim]
    small = resized(np.asarray(first, np.float32), (side,) * first.ndim)
    fine = small - gaussian_filter(small, sigma)
    fine = fine.ravel() - fine.mean()
    return np.asarray(fine / max(float(np.linalg.norm(fine)), 1e-6), np.float32)
