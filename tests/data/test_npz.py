"""MedMNIST-style files against the arrays that were saved."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from medtl.data.sources import ScanInFile, find_files, read_scans
from medtl.errors import ScanError

RNG = np.random.default_rng(0)
IMAGES = {"train_images": np.zeros((3, 8, 8), np.uint8)}
OCT = ["choroidal_neovascularization", "diabetic_macular_edema", "drusen", "normal"]


def save(
    path: Path, labels: dict[str, np.ndarray], shape: tuple[int, ...] = (28, 28), n: int = 6
) -> dict[str, np.ndarray]:
    images = {f"{part}_images": RNG.integers(0, 256, (n, *shape), np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(path, **images, **{f"{part}_labels": values for part, values in labels.items()})
    return images


def read(path: Path) -> list[ScanInFile]:
    return list(read_scans(find_files([path])[0]))


def parts(values: np.ndarray) -> dict[str, np.ndarray]:
    return dict.fromkeys(("train", "val", "test"), values)


def test_images_parts_and_places(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    images = save(path, {})
    scans = read(path)
    assert [scan.name for scan in scans[5:8]] == ["x.npz#train/5", "x.npz#val/0", "x.npz#val/1"]
    assert [scan.split for scan in scans] == ["train"] * 6 + ["val"] * 6 + ["test"] * 6
    assert scans[7].scan.pixels == pytest.approx(images["val_images"][1] / 255, abs=1e-6)
    assert scans[7].scan.source == f"{path}#val/1" and scans[7].labels is None
    assert len({scan.scan.sha256 for scan in scans}) == 18


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    images = save(tmp_path / "x.npz", {}, shape=(9, 7, 3))
    expected = images["train_images"][0] @ [0.299, 0.587, 0.114] / 255
    assert read(tmp_path / "x.npz")[0].scan.pixels == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "labels", "findings", "first"),
    [
        ("pneumoniamnist.npz", [[1], [0]] * 3, ["pneumonia"], [1]),
        ("pneumoniamnist_128.npz", [[1], [0]] * 3, ["pneumonia"], [1]),
        ("breastmnist.npz", [[0], [1]] * 3, ["malignant"], [1]),
        ("ours.npz", [[1], [0]] * 3, ["ours"], [1]),
        ("ours.npz", [1, 0] * 3, ["ours"], [1]),
        ("ours.npz", [[2], [0], [1]] * 2, ["class_0", "class_1", "class_2"], [0, 0, 1]),
        ("octmnist.npz", [[2]] * 6, OCT, [0, 0, 1, 0]),
        ("ours.npz", [[1, 0, 1]] * 6, ["label_0", "label_1", "label_2"], [1, 0, 1]),
    ],
)  # fmt: skip
def test_labels_become_findings(
    tmp_path: Path, name: str, labels: list[object], findings: list[str], first: list[int]
) -> None:
    save(tmp_path / name, parts(np.array(labels, np.uint8)))
    assert read(tmp_path / name)[0].labels == dict(zip(findings, first, strict=True))


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"x": np.zeros((3, 4, 4), np.uint8)}, "not_an_image", "holds the arrays x; expected train_images"),
        ({"train_images": np.zeros((3, 8, 8, 8), np.uint8)}, "volume", "holds volumes; use --as volumes (8 x 8 x 8)"),
        ({"train_images": np.zeros((3, 8, 8), np.float32)}, "unsupported_format", "expected unsigned integers"),
        ({"train_images": np.array([[[None]]])}, "not_an_image", "Python objects, which medtl never loads"),
        (IMAGES | {"train_labels": np.zeros((2, 1), np.uint8)}, "bad_labels", "3 images and 2 labels"),
        (IMAGES | {"train_labels": np.full((3, 2), 7, np.uint8)}, "bad_labels", "neither classes"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], code: str, words: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ScanError, match=re.escape(words)) as caught:
        read(tmp_path / "x.npz")
    assert caught.value.code == code


def test_cut_and_damaged_files_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", parts(np.array([[1], [0]] * 3)))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ScanError, match="copy it again"):
        read(tmp_path / "cut.npz")
    spoiled = bytearray(data)
    spoiled[2000:2100] = bytes(100)
    (tmp_path / "spoiled.npz").write_bytes(spoiled)
    with pytest.raises(ScanError, match="copy it again"):
        read(tmp_path / "spoiled.npz")


def test_images_are_streamed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", train_images=np.zeros((4000, 128, 128), np.uint8))  # 65 MB
    tracemalloc.start()
    count = sum(1 for _ in read_scans(find_files([tmp_path / "x.npz"])[0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000 and peak < 5e6


def test_the_real_file(shared: Path) -> None:
    scans = read(shared / "pneumoniamnist.npz")
    arrays = np.load(shared / "pneumoniamnist.npz")
    assert len(scans) == 5856
    assert [s.labels["pneumonia"] for s in scans if s.labels and s.split == "test"] == arrays["test_labels"][
        :, 0
    ].tolist()
