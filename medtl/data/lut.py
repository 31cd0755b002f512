"""Lookup tables of the header: modality LUT (DICOM PS3.3 C.11.1.1) and VOI LUT (C.11.2.1.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Table:
    """A lookup table.

    Args:
        first: the value that the first entry stands for; may be negative.
        entries: (N,) what values become; those below and above the table become its first and last entry.
        bits: how many bits the header says that an entry has.
    """

    first: int
    entries: npt.NDArray[np.uint16]
    bits: int

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        """Values of any real type and shape through the table; NaN becomes the first entry."""
        place = np.nan_to_num(np.rint(values.astype(np.float64)), nan=-np.inf) - self.first
        return np.asarray(self.entries[np.clip(place, 0, len(self.entries) - 1).astype(np.intp)])

    @property
    def white(self) -> int:
        """The brightest entry there can be. Some writers state 16 bits for tables of fewer; the largest counts then."""
        top = max(int(self.entries.max()), 1)
        return int(2**self.bits - 1 if top >= 2 ** (self.bits - 1) else 2 ** top.bit_length() - 1)


def table_of(item: Dataset, *, signed: bool, little: bool) -> Table:
    """The table in an item of a LUT sequence.

    Args:
        item: LUT Descriptor (number of entries, 0 for 65,536; first value; bits) and LUT Data, whose entries have 8
            bits, packed or one a word, or up to 16.
        signed: whether values that enter the table may be negative; decides between 65,000 and -536, as which a
            descriptor of the wrong value representation may have been read.
        little: the byte order of the file.

    Raises:
        ValueError: the descriptor makes no sense, or there are fewer entries than it says.
    """
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count, first = count % 2**16 or 2**16, first % 2**16
    if not 1 <= bits <= 16:
        raise ValueError(f"a lookup table of {bits} bits; expected 1 to 16")
    words = _words(item.LUTData, little=little)
    packed = bits <= 8 and words.size < count <= 2 * words.size
    entries = words.view(np.uint8).astype(np.uint16) if packed else words
    if entries.size < count:
        raise ValueError(f"a lookup table of {entries.size} entries; its descriptor says {count}")
    return Table(first=first - 2**16 if signed and first >= 2**15 else first, entries=entries[:count], bits=bits)


def _words(data: Any, *, little: bool) -> npt.NDArray[np.uint16]:
    """LUT Data as 16-bit words: the header may call them bytes (OW) or numbers (US, SS)."""
    if isinstance(data, bytes):
        return np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2").astype("<u2")
    return (np.atleast_1d(np.asarray(data, np.int64)) % 2**16).astype("<u2")
