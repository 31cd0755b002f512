"""What share of a training step goes into reading its batch from the memory map.

    python benchmarks/batches.py [--steps 30]

Pretrains and fine-tunes with the defaults, on 1,000 images of 256 px and on 200 volumes of 64 px, with a clock around
the reading of blocks and one around the whole loop; prints the share of both. The first steps, which touch pages for
the first time, are counted.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import medtl
from medtl.data.dataset import Dataset
from medtl.finetuning import finetune
from medtl.pretraining import pretrain


class Clock:
    """Seconds spent in the functions that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - began

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    steps = f"steps={parser.parse_args().steps}"
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for what, count, sides in (("images", 1000, (256, 256)), ("volumes", 200, (64, 64, 64))):
            here = Path(folder) / what
            data = medtl.ingest(_npz(here, count, sides), out=here / "data")
            pretraining = partial(medtl.pretrain, data.folder, out=here / "run", settings=[steps])
            labels = here / "data/labels.csv"
            finetuning = partial(medtl.finetune, data.folder, labels=labels, out=here / "bundle", settings=[steps])
            shares.append(_share(f"pretraining, {what}", pretrain, pretraining))
            shares.append(_share(f"fine-tuning, {what}", finetune, finetuning))
    for line in shares:
        print(line)


def _share(name: str, stage: Any, work: Callable[[], object]) -> str:
    reading, loop, done = Clock(), Clock(), []
    train = loop.around(stage.train)

    def timed(**given: Any) -> None:
        def batch_at(step: int, device: Any) -> Any:
            with mock.patch.object(Dataset, "pixels", reading.around(Dataset.pixels)):
                return given["batch_at"](step, device)

        done.append(given["pace"].steps)
        train(**given | {"batch_at": batch_at, "after_step": None})

    with mock.patch.object(stage, "train", timed):
        work()
    (steps,) = done
    return (
        f"{name}: {1000 * reading.seconds / steps:.2f} of {1000 * loop.seconds / steps:.0f} ms a step are reading, "
        f"{100 * reading.seconds / loop.seconds:.2f} %"
    )


def _npz(folder: Path, count: int, sides: tuple[int, ...]) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for part, number in (("train", count * 7 // 10), ("val", count // 10), ("test", count // 5)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (number, *sides), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(number) % 2)[:, None].astype(np.uint8)
    np.savez(folder / "scans.npz", **arrays)  # type: ignore[arg-type]
    return folder / "scans.npz"


if __name__ == "__main__":
    main()
