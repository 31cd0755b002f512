"""What a bundle keeps of its training scans: written, read, damaged, of earlier versions, without names."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from scipy.spatial.distance import cdist

import medtl
from medtl.data.dataset import Dataset
from medtl.data.sources import read_scan
from medtl.errors import BundleError
from medtl.inference.reference import NAME, Reference, read_reference, reference_of, thumbnail, write_reference
from tests.inference.conftest import DEGREES, on_circle, pictures


def test_written_and_read(reference: Reference) -> None:
    assert reference.scan_ids == tuple(f"scan{degrees}" for degrees in DEGREES) and len(reference) == 6
    assert reference.patients[1] == reference.patients[2] and len(set(reference.patients.tolist())) == 5
    assert np.array_equal(reference.thumbnails[3], pictures()[3])
    assert np.linalg.norm(reference.directions, axis=1) == pytest.approx(np.ones(6), abs=1e-6)


def test_the_nearest_labeled_scan(reference: Reference) -> None:
    asked = (10, 24, 26, 59, 61, 134, 136, 181, -1, 269, 271)
    nearest = ("10", "20", "30", "30", "90", "90", "180", "180", "0", "180", "0")
    scales = np.linspace(0.1, 9, len(asked), dtype=np.float32)[:, None]
    embeddings = scales * np.stack([on_circle(degrees) for degrees in asked])
    assert reference.nearest(embeddings) == [f"scan{degrees}" for degrees in nearest]
    nobody = reference_of(embeddings=np.zeros((0, 2)), labels=np.zeros((0, 1)), scan_ids=[])
    assert nobody.nearest(embeddings[:2]) == ["", ""]


def test_the_distance_from_the_labeled_scans() -> None:
    """By scipy's standardised distance; the second number has a thousand times the range of the first."""
    rng = np.random.default_rng(0)
    labeled, asked = (rng.normal(size=(n, 5)) * [1, 1000, 1, 1, 1] + 7 for n in (40, 9))
    kept = reference_of(
        embeddings=labeled.astype(np.float32), labels=np.zeros((40, 1)), scan_ids=[str(i) for i in range(40)]
    )
    kept_spread = [max(column.std(), 0.1 * labeled.std(axis=0).mean()) for column in labeled.T]
    expected = cdist(asked / kept_spread, labeled / kept_spread).min(axis=1) / np.sqrt(2 * 5)
    assert kept.distance(asked.astype(np.float32)) == pytest.approx(expected, rel=1e-3), "single precision"
    assert kept.distance(labeled[:3].astype(np.float32)) == pytest.approx(np.zeros(3), abs=2e-3), "they are labeled"
    every = np.concatenate([rng.normal(size=(9, 3)), asked], axis=1).astype(np.float32)
    assert np.array_equal(kept.distance(every), kept.distance(every[:, 3:])), "an earlier bundle keeps the last level"
    nobody = reference_of(embeddings=np.zeros((0, 2)), labels=np.zeros((0, 1)), scan_ids=[])
    assert np.isnan(nobody.distance(np.ones((2, 2)))).all()


def test_levels_count_alike_in_the_distance_and_the_last_alone_in_cosines(tmp_path: Path) -> None:
    """By the definition: the mean over levels of the mean over their numbers."""
    rng = np.random.default_rng(0)
    labeled = rng.normal(size=(50, 4)).astype(np.float32)
    labeled = 7 + 3 * (labeled - labeled.mean(axis=0)) / labeled.std(axis=0)
    kept = reference_of(
        embeddings=labeled, labels=np.zeros((50, 1)), scan_ids=[str(i) for i in range(50)], levels=(1, 3)
    )
    write_reference(tmp_path, kept)
    again = read_reference(tmp_path)
    assert again.levels == (1, 3)
    asked = labeled[:1] + np.float32([[3, 0, 0, 0]])
    # Every deviation is 3; two levels; twice the mean square difference from the mean is that of a pair.
    squares = (asked - labeled) ** 2 / 3**2 * [1, 1 / 3, 1 / 3, 1 / 3] / 2 / 2
    assert kept.distance(asked)[0] == pytest.approx(np.sqrt(squares.sum(axis=1).min()), rel=1e-3)
    assert again.nearest(labeled[:2, 1:]) == ["0", "1"], "the last three numbers"


def test_two_labeled_scans_are_1_apart_in_the_root_mean_square() -> None:
    """Of two scans each number's deviation is half of their difference; the mean is over all pairs, each with itself,
    too, half of which are 0."""
    ends = np.array([[0, 0, 5], [2, 30, 9]], np.float32)
    kept = reference_of(embeddings=ends, labels=np.zeros((2, 1)), scan_ids=["a", "b"], levels=(2, 1))
    assert kept.distance(ends.mean(axis=0)[None])[0] == pytest.approx(np.sqrt(2) / 2, rel=1e-5)


def test_patients_are_numbers_only(reference: Reference, tmp_path: Path) -> None:
    content = (tmp_path / NAME).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", "embeddings", "labels", "patients", "thumbnails"}
    assert set(header["__metadata__"]) == {"scan_ids", "levels"} and header["patients"]["dtype"] == "I64"


def test_a_replaced_file_does_not_mix_its_pictures_in(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"\0" * 100)
    (tmp_path / "new").rename(tmp_path / NAME)
    assert np.array_equal(reference.thumbnails[5], pictures()[5])


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"embeddings": np.zeros((2, 3))}, {"scan_ids": '["a", "b"]'}, "cannot be read"),
        ({"embeddings": np.zeros((2, 3)), "labels": np.zeros((2, 1))}, {}, "cannot be read"),
        ({"embeddings": np.zeros((2, 3)), "labels": np.zeros((1, 1))}, {"scan_ids": '["a", "b"]'}, "differ in length"),
    ],
)
def test_damage_is_said(tmp_path: Path, tensors: dict, metadata: dict, message: str) -> None:
    (tmp_path / NAME).write_bytes(save(tensors, metadata or None))
    with pytest.raises(BundleError, match=message):
        read_reference(tmp_path)


def test_a_picture_is_the_stored_block_smaller() -> None:
    block = np.zeros((1, 192, 192), np.uint8)
    block[0, :96] = 200
    small = thumbnail(block)
    assert small.shape == (96, 96) and small.dtype == np.uint8
    assert (small[:46] == 200).all() and (small[50:] == 0).all()


def test_of_a_volume_the_middle_slice_is_kept_front_up_and_right_on_the_left() -> None:
    block = np.zeros((1, 96, 96, 96), np.uint8)  # depth grows to the head, rows to the front, columns to the right
    block[0, 48, 80, 90] = 255
    row, column = np.unravel_index(thumbnail(block).argmax(), (96, 96))
    assert (row, column) == (95 - 80, 95 - 90)


def test_a_bundle_knows_its_training_scans(bundle: Path, dataset: Dataset, scans: Path) -> None:
    detector = medtl.load(bundle)
    train = dataset.manifest[dataset.manifest["split"] == "train"]
    reference = detector.reference
    assert set(reference.scan_ids) == set(train["scan_id"])
    assert len(set(reference.patients.tolist())) == train["patient_id"].nunique()
    row = int(np.flatnonzero(dataset.manifest["scan_id"] == reference.scan_ids[7])[0])
    assert np.array_equal(reference.thumbnails[7], thumbnail(dataset.pixels(np.array([row]))[0]))
    prediction = detector.predict(scans / dataset.manifest["path"][row])
    assert prediction.embedding == pytest.approx(reference.embeddings[7], abs=2e-3)  # kept as float16
    found = detector.similar(prediction, 4)
    assert len(found) == 4 and reference.scan_ids[7] not in {each.scan_id for each in found}
    assert found[0].similarity >= found[-1].similarity


def test_pictures_can_be_left_out(dataset: Dataset, scans: Path, tmp_path: Path) -> None:
    settings = ["steps=2", "input_px=16", "network=resnet10-half", "thumbnails=false"]
    out = medtl.finetune(dataset.folder, out=tmp_path / "b", settings=settings)
    detector = medtl.load(out)
    assert detector.reference.thumbnails is None
    assert "| pictures | none kept |" in (out / "card.md").read_text()
    assert all(each.thumbnail is None for each in detector.similar(detector.predict(scans / "images/p01_0.png")))


def aged(bundle: Path, copy: Path) -> Path:
    """The bundle as the version before wrote it."""
    shutil.copytree(bundle, copy)
    settings = json.loads((copy / "bundle.json").read_text())
    for key in ("bands", "observed", "population", "bundle_id"):
        settings.pop(key)
    signed = {key: value for key, value in settings.items() if key not in ("format", "medtl", "torch")}
    digest = hashlib.sha256((copy / "model.safetensors").read_bytes())
    digest.update(json.dumps(signed, sort_keys=True).encode())
    settings["bundle_id"] = digest.hexdigest()[:12]
    (copy / "bundle.json").write_text(json.dumps(settings))
    now = read_reference(bundle)
    tensors = {"embeddings": now.embeddings.astype(np.float16), "labels": now.labels}
    (copy / NAME).write_bytes(save(tensors, {"scan_ids": json.dumps(now.scan_ids)}))
    return copy


def test_a_bundle_of_an_earlier_version_decides_as_before(bundle: Path, scans: Path, tmp_path: Path) -> None:
    new, old = medtl.load(bundle), medtl.load(aged(bundle, tmp_path / "old"))
    assert old.bundle.bands == {} and new.bundle.bands.keys() == {"spot"}
    for path in sorted((scans / "images").iterdir())[:10]:
        before, now = old.predict(path)["spot"], new.predict(path)["spot"]
        assert before.probability == now.probability and before.band is None and before.observed is None
        assert before.decision == ("positive" if before.probability >= before.threshold else "negative")
    prediction = old.predict(read_scan(scans / "images/p05_0.png"))
    assert len(old.similar(prediction, 3)) == 3 and old.similar(prediction)[0].thumbnail is None
    assert {doubt.code for doubt in old.doubts(prediction)} <= {"seen", "unlike", "near", "quality_clipped"}
