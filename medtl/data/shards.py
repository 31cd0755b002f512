"""Stored blocks on disk: NumPy files of at most about 256 MB, written as a stream, read through memory maps."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from medtl.data.scan import by_sides
from medtl.errors import DatasetError

SHARD_BYTES = 256 * 2**20
Blocks = npt.NDArray[np.uint8]


def _name(index: int) -> str:
    return f"pixels-{index:05d}.npy"


class ShardWriter:
    """Appends blocks (C, S, S) or (C, S, S, S) uint8 to `pixels-00000.npy`, `pixels-00001.npy`, ... in a folder.

    Args:
        folder: where the shards are.
        shape: of one block.
        count: how many blocks of an interrupted writer count; what lies behind them is cut off.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, ...], count: int = 0) -> None:
        self.folder, self.shape, self.count = folder, shape, count
        self.per_shard = max(1, SHARD_BYTES // math.prod(shape))
        self._file: IO[bytes] | None = None
        full, rest = divmod(count, self.per_shard)
        for path in folder.glob("pixels-*.npy"):
            if path.name >= _name(full if not rest else full + 1):
                path.unlink()
        if rest:
            self._file = (folder / _name(full)).open("r+b")
            self._file.truncate(len(self._header(0)) + rest * math.prod(shape))
            self._file.seek(0, 2)

    def __enter__(self) -> "ShardWriter":
        return self

    def append(self, block: Blocks) -> None:
        """Write one block."""
        if self.count % self.per_shard == 0:
            self._finish()
            self._file = (self.folder / _name(self.count // self.per_shard)).open("wb")
            self._file.write(self._header(0))
        assert self._file is not None
        self._file.write(block.tobytes())
        self.count += 1

    def flush(self) -> None:
        """Hand everything to the operating system, so that it outlives this process."""
        if self._file is not None:
            self._file.flush()

    def _header(self, count: int) -> bytes:
        # NumPy pads headers so that the first axis can grow without moving the data (numpy.lib.format).
        file = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue()

    def _finish(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._file.write(self._header(self.count - (self.count - 1) // self.per_shard * self.per_shard))
            self._file.close()
            self._file = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()


class ShardReader:
    """All blocks of a dataset folder, read where and when they are asked for."""

    def __init__(self, folder: Path, *, count: int, shape: tuple[int, ...]) -> None:
        """Open the shards.

        Raises:
            DatasetError: they do not hold `count` blocks of `shape`.
        """
        paths = sorted(folder.glob("pixels-*.npy"))
        try:
            self._shards: Sequence[Any] = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        except (OSError, ValueError) as problem:
            raise DatasetError(f"{folder}: its pixels cannot be read ({problem}); ingest the scans again") from None
        shapes = {(shard.shape[1:], shard.dtype) for shard in self._shards}
        held = sum(len(shard) for shard in self._shards)
        if held != count or shapes != {(shape, np.dtype(np.uint8))}:
            raise DatasetError(
                f"{folder}: its pixel files hold {held:,} scans, dataset.json says {count:,} of {by_sides(shape[1:])}; "
                "the folder is damaged: ingest the scans again"
            )
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self.shape = shape

    def read(self, rows: npt.NDArray[np.int64]) -> Blocks:
        """Blocks (B, *shape) of rows (B,), in their order."""
        blocks = np.empty((len(rows), *self.shape), np.uint8)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(shard_of):
            here = shard_of == index
            blocks[here] = self._shards[index][rows[here] - self._starts[index]]
        return blocks
