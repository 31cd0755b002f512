"""A small task that learns in seconds: squares of noise, some with a bright spot, several images a patient."""

import csv
import os

# Small networks gain nothing from a second thread, and a busy machine punishes it.
os.environ["OMP_NUM_THREADS"] = "1"

import tempfile
from pathlib import Path

# Pseudonyms of tests are nobody's business.
os.environ["MEDTL_SALT_FILE"] = str(Path(tempfile.mkdtemp(prefix="medtl-test-")) / "salt")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import medtl
from medtl.data.dataset import Dataset

# The suite must also pass where the checkout cannot be written to, and on a machine that is busy.
settings.register_profile("medtl", database=None, deadline=None)
settings.load_profile("medtl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIDE = 40
PARTS = ["train", "train", "test", "test", "val", "val", "train", "train", "train", "train"]


def picture(seed: int, *, spot: bool) -> np.ndarray:
    """(H, W) uint8 noise, with or without a bright spot somewhere in the middle."""
    rng = np.random.default_rng(seed)
    image = rng.normal(90, 12, (SIDE, SIDE))
    if spot:
        row, column = rng.integers(12, SIDE - 12, 2)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        image += 90 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)
    return np.clip(image, 0, 255).astype(np.uint8)


def write_scans(folder: Path, *, patients: int = 60, images: int = 2) -> Path:
    """PNGs `pNN_M.png` of `patients` patients, every second with a spot, and `labels.csv` beside them."""
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient_id", "split", "spot"])
        for patient in range(patients):
            for image in range(images):
                name = f"images/p{patient:02d}_{image}.png"
                Image.fromarray(picture(100 * patient + image, spot=patient % 2 == 1)).save(folder / name)
                table.writerow([name, f"p{patient:02d}", PARTS[patient % 10], patient % 2])
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("source") / "scans")


@pytest.fixture(scope="session")
def dataset(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("dataset") / "dataset"
    return medtl.ingest(scans, labels=scans / "labels.csv", out=out, size_px=SIDE)


@pytest.fixture(scope="session")
def bundle(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    return medtl.finetune(dataset.folder, out=out, settings=["steps=150", "input_px=32"])
