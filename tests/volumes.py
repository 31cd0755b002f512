"""A small task in three dimensions that learns in seconds: cubes of noise, some with a bright blob."""

import numpy as np

from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan

SIDE = 20
SPEC = PreprocessSpec(dims=3, size_px=SIDE, spacing_mm=1.5)
PARTS = ["train", "train", "test", "test", "val", "val", "train", "train", "train", "train"]


def volume(seed: int, *, blob: bool) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(D, H, W) uint8 noise, and where the blob is, or would be."""
    rng = np.random.default_rng(seed)
    values = rng.normal(90, 12, (SIDE,) * 3)
    depth, row, column = (int(i) for i in rng.integers(5, SIDE - 5, 3))
    if blob:
        grid = np.mgrid[:SIDE, :SIDE, :SIDE]
        values += 110 * np.exp(-sum((g - c) ** 2 for g, c in zip(grid, (depth, row, column), strict=True)) / 10)
    return np.clip(values, 0, 255).astype(np.uint8), (depth, row, column)


def scan(seed: int, *, blob: bool) -> tuple[Scan, tuple[int, int, int]]:
    """The same as a scan of 1.5 mm."""
    values, place = volume(seed, blob=blob)
    pixels = (values / np.float32(255)).astype(np.float32)
    return Scan(pixels=pixels, spacing_mm=(1.5, 1.5, 1.5), source=f"{seed}.nii", sha256=f"{seed:064d}"), place


class Cubes:
    """Stored blocks in memory, in the place of a dataset's shards."""

    def __init__(self, blocks: np.ndarray) -> None:
        self.blocks = blocks

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.blocks[rows]

    read = __getitem__
