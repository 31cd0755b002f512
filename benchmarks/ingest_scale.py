"""Memory of a large ingest: many files that differ in their bytes, made of a few radiographs.

    python benchmarks/ingest_scale.py [--files 100000]

Prints how long it took and the most memory that the program and its reading processes held together.
"""

import argparse
import struct
import tempfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import medtl

PICTURES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "in", count)
        most, done = [0], threading.Event()
        watch = threading.Thread(target=_watch, args=(most, done))
        watch.start()
        began = time.monotonic()
        data = medtl.ingest(Path(folder) / "in", out=Path(folder) / "out", size_px=64)
        done.set()
        watch.join()
        took = time.monotonic() - began
        print(f"{len(data):,} files in {took:.0f} s; at most {most[0] / 1e9:.2f} GB resident in all processes")


def _watch(most: list[int], done: threading.Event) -> None:
    """Sum of the proportional sizes, so that shared pages count once."""
    me = psutil.Process()
    while not done.wait(0.5):
        total = 0
        for process in [me, *me.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        most[0] = max(most[0], total)


def _write(folder: Path, count: int) -> None:
    """The same pictures again and again, each file with a text of its own."""
    rng = np.random.default_rng(0)
    pictures = []
    for index in range(PICTURES):
        path = folder.parent / f"{index}.png"
        small = Image.fromarray(rng.normal(120, 40, (12, 12)).clip(0, 255).astype(np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(path)
        pictures.append(path.read_bytes())
    for index in range(count):
        if index % 1000 == 0:
            here = folder / f"{index // 1000:03d}"
            here.mkdir(parents=True)
        text = b"number\x00" + str(index).encode()
        chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
        picture = pictures[index % PICTURES]
        (here / f"{index:06d}.png").write_bytes(picture[:33] + chunk + picture[33:])  # after the header's chunk


if __name__ == "__main__":
    main()
