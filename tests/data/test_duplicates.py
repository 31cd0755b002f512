"""Copies of one picture are found whatever was done to them; pictures of other patients are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medtl
from medtl.data.duplicates import near_duplicates, perceptual_hash
from medtl.data.resample import resized
from medtl.errors import DatasetError

SIDE = 128
Change = Callable[[np.ndarray], np.ndarray]


def anatomy(seed: int) -> np.ndarray:
    """(S, S) uint8: blobs and fine structure, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = resized(rng.normal(120, 40, (8, 8)).astype(np.float32), (SIDE, SIDE))
    fine = resized(rng.normal(0, 40, (48, 48)).astype(np.float32), (SIDE, SIDE))
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


CHANGES: dict[str, Change] = {
    "re-encoded": jpeg,
    "rescaled": lambda x: np.clip(resized(resized(x.astype(np.float32), (80, 80)), x.shape), 0, 255).astype(np.uint8),
    "windowed otherwise": lambda x: np.clip(x * 0.7 + 20, 0, 255).astype(np.uint8),
    "brighter in the middle": lambda x: (255 * (x / 255) ** 0.8).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_among_others(change: Change) -> None:
    images = [anatomy(seed) for seed in range(40)]
    blocks = np.stack([*images, change(images[7])])[:, None]
    hashes = [perceptual_hash(block) for block in blocks]
    assert near_duplicates(hashes, lambda rows: blocks[rows]).tolist() == [[7, 40]]


def test_a_volume_is_compared_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    volumes = [resized(rng.normal(120, 40, (12, 12, 12)).astype(np.float32), (24, 24, 24)) for _ in range(5)]
    volumes.append(volumes[2] * 0.8 + 10)
    volumes.append(volumes[3][::-1])  # the same seen along its depth, but another volume
    blocks = np.clip(np.stack(volumes), 0, 255).astype(np.uint8)[:, None]
    hashes = [perceptual_hash(block) for block in blocks]
    assert hashes[3] == hashes[6]
    assert near_duplicates(hashes, lambda rows: blocks[rows]).tolist() == [[2, 5]]


def test_empty_pictures_are_no_copies_of_each_other() -> None:
    blank = np.full((1, SIDE, SIDE), 7, np.uint8)
    assert perceptual_hash(blank) == ""
    assert len(near_duplicates(["", ""], lambda rows: np.stack([blank] * len(rows)))) == 0


def write(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


def test_patients_who_share_a_picture_share_a_part(tmp_path: Path) -> None:
    images = {f"{seed:02d}.png": anatomy(seed) for seed in range(30)}
    copies = {f"copy-{seed:02d}.png": jpeg(anatomy(seed)) for seed in range(12)}
    data = medtl.ingest(write(tmp_path / "in", images | copies), out=tmp_path / "ds", size_px=SIDE)
    part = dict(zip(data.manifest["path"], data.manifest["split"], strict=True))
    assert all(part[f"{seed:02d}.png"] == part[f"copy-{seed:02d}.png"] for seed in range(12))
    assert medtl.split_check(tmp_path / "ds").counts["scans"].sum() == 42
    report = (tmp_path / "ds/report.html").read_text()
    assert "12 pairs show the same picture" in report


def test_the_check_names_what_is_torn(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"a.png": anatomy(1), "b.png": jpeg(anatomy(1)), "c.png": anatomy(2)})
    (tmp_path / "labels.csv").write_text("path,split,x\na.png,train,1\nb.png,test,0\nc.png,val,1\n")
    medtl.ingest(source, out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=SIDE)
    with pytest.raises(DatasetError, match=r"its parts overlap: 1 near-duplicates \(a\.png and b\.png\)"):
        medtl.split_check(tmp_path / "ds")
