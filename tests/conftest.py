"""A small task that learns in seconds: squares of noise, some with a bright spot, several images a patient."""

import csv
import fcntl
import os

# Small networks gain nothing from a second thread, and few files nothing from a second process that reads them; a busy
# machine punishes both.
os.environ["OMP_NUM_THREADS"] = os.environ["LOKY_MAX_CPU_COUNT"] = "1"

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Pseudonyms of tests are nobody's business.
os.environ["MEDTL_SALT_FILE"] = str(Path(tempfile.mkdtemp(prefix="medtl-test-")) / "salt")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.pretraining.health import watch
from medtl.pretraining.health.picture import draw_health

# The suite must also pass where the checkout cannot be written to, and on a machine that is busy.
settings.register_profile("medtl", database=None, deadline=None)
settings.load_profile("medtl")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SIDE = 40
SMALL = ["steps=60", "input_px=32", "network=resnet10-half", "strategy=full"]
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a browser is slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """A `health.png` of one pixel, as drawing takes longer than a short run; `drawn` draws it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "draw_health", lambda path, *_, **__: Image.new("L", (1, 1)).save(path))
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """`health.png` as a user gets it."""
    monkeypatch.setattr(watch, "draw_health", draw_health)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`once(name, make)` -> a folder that the first process to ask for it makes, for all processes of this run."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = common / "once" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                make(begun := folder.with_suffix(".begun"))
                begun.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def scans(once) -> Path:
    return once("scans", write_scans)


@pytest.fixture(scope="session")
def dataset(scans: Path, once) -> Dataset:
    return open_dataset(
        once("dataset", lambda out: medtl.ingest(scans, labels=scans / "labels.csv", out=out, size_px=SIDE))
    )


@pytest.fixture(scope="session")
def bundle(dataset: Dataset, once) -> Path:
    return once("bundle", lambda out: medtl.finetune(dataset.folder, out=out, settings=SMALL))
