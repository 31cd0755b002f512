"""Scans that show the same picture: the same film exported twice, rescaled, re-encoded or windowed otherwise.

A perceptual hash finds candidates (pHash: Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions", sec. 3.2.1). Radiographs of one view resemble each other so much that their hashes can be close, too: a
candidate counts only where its fine structures correlate as well.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from medtl.data.resample import resized

HASH_BITS = 64
MOST_BITS_APART = 8
LEAST_CORRELATION = 0.9
"""Between different patients of 999 NIH radiographs it is at most 0.78; copies that were
re-encoded or rescaled have more than 0.95."""
_SIDE = 32
_FINE = {2: (64, 3.0), 3: (32, 1.5)}
"""Side in pixels, and the width of the blur that is taken away, by dimensions."""
_BLOCK = 2048
Blocks = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]


def perceptual_hash(block: Blocks) -> str:
    """16 hex digits of a stored block (C, S, S) or (C, S, S, S); empty for one without structure.

    Of a volume the mean over its depth is hashed.
    """
    small = resized(_picture(block), (_SIDE, _SIDE))
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    if np.abs(low[1:]).max() < 1.0:
        return ""
    return np.packbits(low > np.median(low)).tobytes().hex()


def near_duplicates(hashes: list[str], pixels: Callable[[npt.NDArray[np.int64]], Blocks]) -> Pairs:
    """Pairs of rows (P, 2) that show the same picture, the smaller row first.

    Args:
        hashes: (N,) of `perceptual_hash`.
        pixels: from rows (B,) to stored blocks (B, ...).
    """
    found: list[tuple[int, int]] = []
    cache: dict[int, npt.NDArray[np.float32]] = {}

    def fine(row: int) -> npt.NDArray[np.float32]:
        if row not in cache:
            cache[row] = _fine_structure(pixels(np.array([row]))[0])
        return cache[row]

    for first, second in _candidates(hashes):
        if float(fine(first) @ fine(second)) >= LEAST_CORRELATION:
            found.append((first, second))
    return np.array(found, np.int64).reshape(-1, 2)


def _candidates(hashes: list[str]) -> Iterator[tuple[int, int]]:
    """Pairs whose hashes differ in few bits: the dot product of +1/-1 vectors counts them."""
    rows = np.array([row for row, text in enumerate(hashes) if text], np.int64)
    if len(rows) < 2:
        return
    packed = np.array([list(bytes.fromhex(hashes[row])) for row in rows], np.uint8)
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    least = HASH_BITS - 2 * MOST_BITS_APART
    for top in range(0, len(rows), _BLOCK):
        for left in range(top, len(rows), _BLOCK):
            close = signs[top : top + _BLOCK] @ signs[left : left + _BLOCK].T >= least
            for i, j in np.argwhere(close):
                if top + i < left + j:
                    yield int(rows[top + i]), int(rows[left + j])


def _picture(block: Blocks) -> npt.NDArray[np.float32]:
    first: npt.NDArray[Any] = block[0]
    return np.asarray(first.mean(axis=0) if first.ndim == 3 else first, np.float32)


def _fine_structure(block: Blocks) -> npt.NDArray[np.float32]:
    """A unit vector of what is left when the coarse shape is taken away."""
    first: npt.NDArray[Any] = block[0]
    side, sigma = _FINE[first.ndim]
    small = resized(np.asarray(first, np.float32), (side,) * first.ndim)
    fine = small - gaussian_filter(small, sigma)
    fine = fine.ravel() - fine.mean()
    return np.asarray(fine / max(float(np.linalg.norm(fine)), 1e-6), np.float32)
