"""The path from a dataset of volumes to a detector: the same commands as for images."""

import json
from pathlib import Path

import numpy as np
import pytest

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.scan import Scan
from medtl.errors import MedtlError, ScanError
from tests.volumes import volume_scan, write_volumes

pytestmark = pytest.mark.slow

SMALL = "input_px=16"


@pytest.fixture(scope="module")
def volumes(once) -> Dataset:
    return open_dataset(once("volumes", write_volumes))


@pytest.fixture(scope="module")
def detector_folder(volumes: Dataset, once) -> Path:
    return once(
        "volumes-bundle",
        lambda out: medtl.finetune(volumes.folder, out=out, settings=["steps=80", "strategy=full", SMALL]),
    )


def test_a_blob_is_learned(volumes: Dataset, detector_folder: Path, tmp_path: Path) -> None:
    report = medtl.evaluate(detector_folder, volumes.folder, out=tmp_path / "report")
    found = json.loads((report / "report.json").read_text())["findings"]["blob"]
    assert found["n_positive"] == 12 and found["auroc"]["value"] > 0.9


def test_pretraining_leads_to_a_detector(volumes: Dataset, tmp_path: Path) -> None:
    run = medtl.pretrain(
        volumes.folder, out=tmp_path / "run", settings=["steps=5", "batch_size=8", SMALL, "precision=32"]
    )
    assert json.loads((run / "encoder.json").read_text())["network"] == "resnet10-half"
    bundle = medtl.finetune(volumes.folder, encoder=run, out=tmp_path / "bundle", settings=["steps=3"])
    detector = medtl.load(bundle)
    assert (detector.bundle.spec.dims, detector.bundle.spec.input_px) == (3, 16)


def test_a_file_gets_the_probability_of_the_dataset_s_copy(volumes: Dataset, detector_folder: Path) -> None:
    detector = medtl.load(detector_folder)
    rows = np.array([4, 5])
    stored = detector.predict_stored(volumes.pixels(rows))
    for row, expected in zip(rows, stored, strict=True):
        scan, _ = volume_scan(int(row), blob=bool(row % 2))
        assert detector.predict(scan)["blob"].probability == expected[0]


def test_the_heatmap_points_at_the_blob(detector_folder: Path) -> None:
    detector = medtl.load(detector_folder)
    errors, chance = [], []
    for seed in range(1001, 1021, 2):
        scan, place = volume_scan(seed, blob=True)
        heat = detector.explain(scan, "blob")
        assert heat.shape == scan.pixels.shape and heat.dtype == np.float32 and 0 <= heat.min() <= heat.max() <= 1
        hottest = np.unravel_index(heat.argmax(), heat.shape)
        errors.append(np.linalg.norm(np.subtract(hottest, place)))
        chance.append(np.linalg.norm(np.subtract([10, 10, 10], place)))
    assert np.median(errors) < np.median(chance)


def test_the_heatmap_lies_where_the_network_saw_the_volume(detector_folder: Path) -> None:
    """A volume longer than the cube: nothing is said about what was cut off, and the rest is not shifted."""
    detector = medtl.load(detector_folder)
    inner, _ = volume_scan(1001, blob=True)
    pixels = np.full((30, 20, 10), 0.35, np.float32)
    pixels[5:25] = inner.pixels[:, :, 5:15]
    long = Scan(pixels=pixels, spacing_mm=(1.5, 1.5, 1.5), source="long", sha256="0" * 64)
    heat = detector.explain(long, "blob")
    assert heat.shape == (30, 20, 10)
    assert not heat[:5].any() and not heat[25:].any()
    stored = detector.bundle.spec.stored(long)[0]
    assert np.array_equal(stored[:, :, 5:15], np.round(pixels[5:25] * 255))


def test_images_and_volumes_are_told_apart(
    volumes: Dataset, dataset: Dataset, bundle: Path, detector_folder: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text((volumes.folder / "labels.csv").read_text().replace("blob", "spot"))
    with pytest.raises(MedtlError, match="ingest the scans again") as told:
        medtl.evaluate(bundle, volumes.folder, out=tmp_path / "r", labels=labels)
    assert "\n" not in str(told.value)
    with pytest.raises(ScanError, match="is a volume; images are expected here"):
        medtl.load(bundle).predict(volume_scan(0, blob=False)[0])
    run = medtl.pretrain(
        volumes.folder, out=tmp_path / "run", settings=["steps=1", "batch_size=8", SMALL, "precision=32"]
    )
    with pytest.raises(MedtlError, match="learned from volumes, this dataset keeps images"):
        medtl.finetune(dataset.folder, encoder=run, out=tmp_path / "b")
