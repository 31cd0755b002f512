"""Copies of one picture are found whatever was done to them; pictures of other patients are not."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medtl
from medtl.data.duplicates import (
    LEAST_CORRELATION,
    OF_DIFFERENT_PATIENTS,
    fine_structure,
    near_duplicates,
    perceptual_hash,
)
from medtl.data.resample import resized
from medtl.data.split import part_at, place_of
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


def in_a_frame(image: np.ndarray) -> np.ndarray:
    """The same below a bright ring that all scans have, in a black margin."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ring = np.abs(np.hypot(rows - SIDE / 2, columns - SIDE / 2) - 40) < 3
    framed = np.where(ring, 255, image * 0.6 + 60).astype(np.uint8)
    framed[:20] = framed[-20:] = 0
    return framed


def test_what_all_scans_share_makes_no_copies() -> None:
    blocks = np.stack([in_a_frame(anatomy(seed)) for seed in range(40)])[:, None]
    structures = np.stack([fine_structure(block) for block in blocks])
    plain = (structures @ structures.T)[np.triu_indices(40, 1)]
    assert (plain > LEAST_CORRELATION).sum() > 100  # what a correlation alone takes for the same picture
    hashes = ["0" * 16] * 40
    assert len(near_duplicates(hashes, lambda rows: blocks[rows])) == 0
    for change in CHANGES.values():
        more = np.concatenate([blocks, change(blocks[7, 0])[None, None]])
        found = near_duplicates([*hashes, hashes[0]], lambda rows, more=more: more[rows])
        assert found.tolist() == [[7, 40]]


def test_scans_of_two_who_are_named_must_be_more_alike() -> None:
    """A copy with so much noise that its likeness is between the two bounds."""
    rng = np.random.default_rng(1)
    images = [anatomy(seed) for seed in range(10)]
    noisy = images[3] + resized(rng.normal(0, 19, (48, 48)).astype(np.float32), (SIDE, SIDE))
    blocks = np.stack([*images, np.clip(noisy, 0, 255).astype(np.uint8)])[:, None]
    one, other = (fine_structure(blocks[row]) for row in (3, 10))
    assert LEAST_CORRELATION + 0.01 < one @ other < OF_DIFFERENT_PATIENTS - 0.01
    hashes = ["0" * 16] * 11
    people = [f"p{row}" for row in range(11)]

    def found(patients: list[str]) -> list[list[int]]:
        return near_duplicates(hashes, lambda rows: blocks[rows], patients=patients).tolist()

    assert found(people) == []
    assert found([*people[:10], "p3"]) == found([*people[:10], ""]) == found([]) == [[3, 10]]


def test_empty_pictures_are_no_copies_of_each_other() -> None:
    blank = np.full((1, SIDE, SIDE), 7, np.uint8)
    assert perceptual_hash(blank) == ""
    assert len(near_duplicates(["", ""], lambda rows: np.stack([blank] * len(rows)))) == 0


def write(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


def test_patients_who_share_a_picture_share_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = {f"{seed:02d}.png": anatomy(seed) for seed in range(30)}
    changes = list(CHANGES.values())
    copies = {f"copy-{seed:02d}.png": changes[seed % 4](anatomy(seed)) for seed in range(12)}
    people = "".join(f"{name},{name},1\n" for name in [*images, *copies])
    (tmp_path / "labels.csv").write_text(f"path,patient_id,x\n{people}")
    source = write(tmp_path / "in", images | copies)
    data = medtl.ingest(source, out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=SIDE)
    said = capsys.readouterr().err
    assert "note: 12 pairs of scans of different patients look alike and share a part: see report.html" in said
    part = dict(zip(data.manifest["path"], data.manifest["split"], strict=True))
    assert all(part[f"{seed:02d}.png"] == part[f"copy-{seed:02d}.png"] for seed in range(12))
    assert medtl.split_check(tmp_path / "ds").counts["scans"].sum() == 42
    report = (tmp_path / "ds/report.html").read_text()
    assert "12 pairs show the same picture" in report


def test_real_volumes_of_different_patients_are_no_copies(shared: Path, tmp_path: Path) -> None:
    volumes = sorted((shared / "hippocampus_mr/volumes").glob("*.nii.gz"))[:60]
    data = medtl.ingest(volumes, out=tmp_path / "ds")
    blocks = data.pixels(np.arange(60))
    brighter = np.clip(blocks[5].astype(np.int64) + 40, 0, 255).astype(np.uint8)
    coarser = resized(resized(blocks[9, 0].astype(np.float32), (40,) * 3), blocks[9, 0].shape).astype(np.uint8)[None]
    more = np.concatenate([blocks, brighter[None], coarser[None]])
    hashes = [perceptual_hash(block) for block in more]
    assert near_duplicates(hashes, lambda rows: more[rows]).tolist() == [[5, 60], [9, 61]]


def test_it_says_why_a_part_has_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which of the three it is: copies, parts that are given, or too few patients."""

    def said(images: dict[str, np.ndarray], labels: str = "") -> list[str]:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        (tmp_path / "labels.csv").write_text(labels)
        medtl.ingest(
            write(tmp_path / "in", images),
            out=tmp_path / "ds",
            labels=tmp_path / "labels.csv" if labels else None,
            size_px=SIDE,
        )
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: no patient")]

    nobody = "note: no patient is in the part"
    varied = {f"{place:02d}.png": np.clip(anatomy(1) + 1.0 * place, 0, 255).astype(np.uint8) for place in range(30)}
    val = sum(part_at(place_of(name, 0)) == "val" for name in varied)
    assert val > 0
    assert said(varied)[0] == (
        f"{nobody} 'val'; the {val} who would be share a picture or a study with patients of another part. Where they "
        "only look alike, name parts in the column 'split' of --labels"
    )
    three = {name: anatomy(place) for place, name in enumerate(("a.png", "b.png", "c.png"))}
    given = "path,split,x\na.png,train,1\nb.png,test,0\nc.png,train,1\n"
    assert said(three, given) == [f"{nobody} 'val'; the parts that are given name none for it"]
    few = {name: image for name, image in three.items() if part_at(place_of(name, 0)) == "train"}
    assert few
    assert f"{nobody} 'test'; with so few, name parts in the column 'split' of --labels" in said(few)


def test_the_check_names_what_is_torn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in", {"a.png": anatomy(1), "b.png": jpeg(anatomy(1)), "c.png": anatomy(2)})
    (tmp_path / "labels.csv").write_text("path,split,x\na.png,train,1\nb.png,test,0\nc.png,val,1\n")
    medtl.ingest(source, out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=SIDE)
    said = capsys.readouterr().err
    assert "1 group of patients share a picture or a study, but the parts that were given put them apart" in said
    assert "look alike" not in said  # they share no part
    with pytest.raises(DatasetError, match=r"its parts overlap: 1 near-duplicates \(a\.png and b\.png\)"):
        medtl.split_check(tmp_path / "ds")
