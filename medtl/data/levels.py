"""The values that pixels can have: what is done to each pixel of an image is done once to each value."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLED = 997
"""Every so manieth pixel is a sample; prime, so that it is no column of usual sides."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The values of an image.

    Args:
        stored: (N,) the values.
        index: (H, W) which value each pixel has, or None where each pixel is a value of its own, row by row.
        shape: of the image.
    """

    stored: npt.NDArray[Any]
    index: npt.NDArray[np.intp] | None
    shape: tuple[int, ...]

    @cached_property
    def counts(self) -> npt.NDArray[np.intp]:
        """(N,) how many pixels have each; may be 0. Takes as long as all else that is done to an image's values."""
        if self.index is None:
            return np.ones(len(self.stored), np.intp)
        return np.bincount(self.index.ravel(), minlength=len(self.stored))

    def sample(self, of: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was made of each value, (N,), of a few pixels that are spread over the image."""
        return of[::_SAMPLED] if self.index is None else of[self.index.ravel()[::_SAMPLED]]

    def image(self, mapped: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was made of each value, (N,), as an image (H, W)."""
        return mapped.reshape(self.shape) if self.index is None else mapped.take(self.index)


def levels_of(raw: npt.NDArray[Any]) -> Levels:
    """The values of an image (H, W): all that its type can hold, or from 0 to the largest one, unless that is more than
    it has pixels."""
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    bits = 8 * raw.dtype.itemsize
    count = int(raw.max()) + 1 if raw.dtype.kind == "u" else 2**bits
    if raw.dtype.kind not in "iu" or bits > 16 or raw.size < count:
        return Levels(stored=raw.ravel(), index=None, shape=raw.shape)
    unsigned = np.dtype(f"u{raw.dtype.itemsize}")
    stored = np.arange(count).astype(unsigned).view(raw.dtype)  # a value stands where its bits say
    index = np.ascontiguousarray(raw).view(unsigned).astype(np.intp)
    return Levels(stored=stored, index=index, shape=raw.shape)
