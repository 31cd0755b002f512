"""What an interrupted ingest leaves behind, so that the next call reads no finished file again.

Blocks go to the shards first, then a line to the journal says that they count. After a kill the journal's last whole
line is the truth: what the shards hold beyond it is cut off.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.shards import ShardWriter
from medtl.progress import say

JOURNAL = "journal.jsonl"
Row = Mapping[str, Any]


class Staging:
    """The rows and blocks of an ingest under way.

    Args:
        folder: kept from call to call.
        plan: everything that decides what is read and how; where an earlier call's plan differs, its work is dropped.
        shape: of a block.
        base: the dataset that is added to, and how many scans it holds.

    `taken` and `refused` hold the rows so far, `done` the units that are finished.
    """

    def __init__(self, folder: Path, *, plan: Row, shape: tuple[int, ...], base: tuple[Path, int] | None) -> None:
        self.taken: list[Row] = []
        self.refused: list[Row] = []
        self.done: set[str] = set()
        self._path = folder / JOURNAL
        self._pending: list[tuple[str, Row]] = []
        whole = self._replay(plan)
        self._journal = self._path.open("ab" if whole else "wb")
        if whole:
            self._journal.truncate(whole)
        else:
            for left in folder.glob("pixels-*.npy"):
                left.unlink()
            if base:
                _take_over(base[0], folder)
            self._write(plan)
        self._shards = ShardWriter(folder, shape=shape, count=(base[1] if base else 0) + len(self.taken))

    def _replay(self, plan: Row) -> int:
        """Take over the journal's finished units; how many of its bytes count."""
        if not self._path.is_file():
            return 0
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines):
                try:
                    content = json.loads(line)
                except ValueError:
                    break  # the line that was being written
                if number == 0:
                    if content != json.loads(json.dumps(plan)):
                        say("an earlier call was interrupted, but read other files or otherwise: starting anew")
                        return 0
                    whole += len(line)
                    continue
                for kind, row in content["rows"]:
                    (self.taken if kind == "taken" else self.refused).append(row)
                self.done.add(content["unit"])
                whole += len(line)
        return whole

    def __enter__(self) -> "Staging":
        self._shards.__enter__()
        return self

    def add_taken(self, row: Row, block: npt.NDArray[np.uint8]) -> None:
        """A scan of the unit under way."""
        self._shards.append(block)
        self.taken.append(row)
        self._pending.append(("taken", row))

    def add_refused(self, row: Row) -> None:
        """A file or image of the unit under way that is not used."""
        self.refused.append(row)
        self._pending.append(("refused", row))

    def finish(self, unit: str) -> None:
        """Everything added since the last call belongs to this unit, which is complete."""
        self._shards.flush()
        self._write({"unit": unit, "rows": self._pending})
        self.done.add(unit)
        self._pending = []

    def _write(self, content: Row) -> None:
        self._journal.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")
        self._journal.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._shards.__exit__(kind, error, trace)

    def forget(self) -> None:
        """Remove the journal, before the folder becomes the dataset."""
        self._path.unlink()


def _take_over(base: Path, folder: Path) -> None:
    """Bring a dataset's shards here: all but the last, which will be written to, without copying them."""
    *full, last = sorted(base.glob("pixels-*.npy"))
    for path in full:
        try:
            (folder / path.name).hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(last, folder / last.name)
