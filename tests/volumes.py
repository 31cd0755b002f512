"""A small task in three dimensions that learns in seconds: cubes of noise, some with a bright blob."""

from pathlib import Path

import numpy as np

from medtl.data.dataset import Dataset, open_dataset
from medtl.data.manifest import COLUMNS, manifest_table
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.shards import ShardWriter
from medtl.files import write_json

SIDE = 20
SPEC = PreprocessSpec(dims=3, size_px=SIDE, spacing_mm=1.5)
PARTS = ["train", "train", "test", "test", "val", "val", "train", "train", "train", "train"]


def volume_scan(seed: int, *, blob: bool) -> tuple[Scan, tuple[int, int, int]]:
    """A scan of 20 voxels of 1.5 mm a side, and where its blob is, or would be."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.35, 0.05, (SIDE,) * 3)
    depth, row, column = (int(i) for i in rng.integers(5, SIDE - 5, 3))
    if blob:
        z, y, x = np.mgrid[:SIDE, :SIDE, :SIDE]
        values += 0.45 * np.exp(-((z - depth) ** 2 + (y - row) ** 2 + (x - column) ** 2) / 10)
    pixels = np.clip(values, 0, 1).astype(np.float32)
    scan = Scan(pixels=pixels, spacing_mm=(1.5, 1.5, 1.5), source=f"{seed}.nii", sha256=f"{seed:064d}"[::-1])
    return scan, (depth, row, column)


def write_volumes(folder: Path, *, count: int = 120) -> Dataset:
    """A dataset folder of `count` patients, every second with a blob, and its labels."""
    folder.mkdir(parents=True)
    rows, labels = [], ["scan_id,blob"]
    with ShardWriter(folder, shape=SPEC.stored_shape) as shards:
        for seed in range(count):
            scan, _ = volume_scan(seed, blob=seed % 2 == 1)
            shards.append(SPEC.stored(scan))
            part = PARTS[seed // 2 % 10]
            numbers = {name: 1 for name in COLUMNS if name.endswith(("_px", "_mm")) or name == "files"}
            names = {
                "source": "/scans",
                "scan_id": scan.scan_id,
                "path": scan.source,
                "patient_id": f"p{seed}",
                "split": part,
            }
            rows.append(dict.fromkeys(COLUMNS[1:]) | numbers | names | {"sha256": scan.sha256})
            labels.append(f"{scan.scan_id},{seed % 2}")
    manifest_table(rows).to_parquet(folder / "manifest.parquet")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    content = {"spec": SPEC.model_dump(mode="json"), "counts": {"scans": count}, "fingerprint": "cubes", "seed": 0}
    write_json(folder / "dataset.json", content)
    return open_dataset(folder)
