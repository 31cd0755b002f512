"""Colour from the first file to the last probability: a task of which only hue tells."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.sources import read_scan
from medtl.data.values import LUMINANCE
from medtl.errors import DatasetError, EncoderError
from tests.conftest import PARTS, SIDE, SMALL
from tests.data.conftest import dicom_bytes

RED, BLUE = (np.array(colour) for colour in ((190.0, 60, 60), (60.0, 95, 190)))
BLUE *= (RED @ LUMINANCE) / (BLUE @ LUMINANCE)
SHORT = ["steps=4", *SMALL[1:3]]


def spotted(seed: int, *, red: bool) -> np.ndarray:
    """(H, W, 3) uint8 grey noise with a spot of one brightness, red or blue, at any place."""
    rng = np.random.default_rng(seed)
    image = rng.normal(140, 12, (SIDE, SIDE, 1)).repeat(3, axis=2)
    row, column = rng.integers(10, SIDE - 10, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    share = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 60)[..., None]
    return np.clip(image * (1 - share) + (RED if red else BLUE) * share, 0, 255).astype(np.uint8)


def write(folder: Path, patients: int = 60) -> Path:
    """PNGs of as many patients, every second with a red spot, and `labels.csv` beside them."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient_id", "split", "red"])
        for patient in range(patients):
            Image.fromarray(spotted(patient, red=patient % 2 == 1)).save(folder / f"p{patient:02d}.png")
            table.writerow([f"p{patient:02d}.png", f"p{patient:02d}", PARTS[patient % 10], patient % 2])
    return folder


@pytest.fixture(scope="module")
def skin(once: Callable[..., Path]) -> Path:
    return once("skin", write)


@pytest.fixture(scope="module")
def kept(skin: Path, once: Callable[..., Path]) -> Dataset:
    """In colour, which nobody asked for."""
    labels = skin / "labels.csv"
    return open_dataset(once("skin-colour", lambda out: medtl.ingest(skin, labels=labels, out=out, size_px=SIDE)))


@pytest.fixture(scope="module")
def detector(kept: Dataset, once: Callable[..., Path]) -> Path:
    return once("skin-bundle", lambda out: medtl.finetune(kept.folder, out=out, settings=SMALL))


def auroc(bundle: Path, data: Dataset, out: Path) -> float:
    report = json.loads((medtl.evaluate(bundle, data.folder, out=out) / "report.json").read_text())
    return float(report["findings"]["red"]["auroc"]["value"])


def test_what_only_hue_tells_is_learned_in_colour_and_not_in_grey(
    skin: Path, kept: Dataset, detector: Path, tmp_path: Path
) -> None:
    grey = medtl.ingest(skin, labels=skin / "labels.csv", out=tmp_path / "grey", size_px=SIDE, colour=False)
    blind = medtl.finetune(grey.folder, out=tmp_path / "blind", settings=SMALL)
    assert auroc(detector, kept, tmp_path / "a") > 0.95
    assert auroc(blind, grey, tmp_path / "b") < 0.9, "twelve scans, of which nothing tells"


def test_files_squares_and_python_give_the_same_probability(
    skin: Path, kept: Dataset, detector: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(medtl.score(detector, skin, out=tmp_path / "s.csv")).set_index("scan_id")["probability"]
    loaded = medtl.load(detector)
    squares = loaded.predict_stored(kept.pixels(np.arange(len(kept))))[:, 0]
    assert table[kept.manifest["scan_id"]].to_numpy() == pytest.approx(squares, abs=1e-6)
    assert loaded.predict(skin / "p07.png")["red"].probability == pytest.approx(squares[7], abs=1e-6)


def test_heatmaps_and_doubts_of_a_scan_in_colour(skin: Path, detector: Path) -> None:
    loaded, scan = medtl.load(detector), read_scan(skin / "p03.png")
    for method in ("grad-cam", "occlusion"):
        heat = loaded.explain(scan, "red", method=method)
        assert heat.shape == scan.pixels.shape and 0 <= heat.min() <= heat.max() <= 1
    assert isinstance(loaded.doubts(loaded.predict(scan)), tuple)


def test_similar_cases_are_shown_in_colour(skin: Path, kept: Dataset, detector: Path) -> None:
    pictures = load_file(detector / "reference.safetensors")["thumbnails"]
    assert pictures.shape[1:] == (96, 96, 3)
    loaded = medtl.load(detector)
    row = int(np.flatnonzero(kept.manifest["scan_id"] == loaded.reference.scan_ids[0])[0])
    whole = Image.open(skin / kept.manifest["path"][row]).resize((96, 96), Image.Resampling.BILINEAR)
    assert np.abs(pictures[0].astype(int) - np.asarray(whole)).max() <= 1  # rounding
    found = loaded.similar(loaded.predict(skin / "p01.png"), 3)
    assert [each.thumbnail.shape for each in found] == [(96, 96, 3)] * 3


def test_pretraining_its_pictures_and_what_follows_are_in_colour(kept: Dataset, tmp_path: Path, drawn: None) -> None:
    settings = [*SHORT, "batch_size=8"]
    medtl.pretrain(kept.folder, out=tmp_path / "views.png", show_views=True, settings=["input_px=40"])
    with Image.open(tmp_path / "views.png") as sheet:
        assert sheet.mode == "RGB" and sheet.size == (7 * 124, 16 + 6 * 124)
        first = np.asarray(sheet)[16:136:3, :120:3]
    row = np.flatnonzero(kept.manifest["split"] != "test")[:1]
    assert np.array_equal(first, np.moveaxis(kept.pixels(row)[0], 0, -1)), "the first is the scan itself"
    run = medtl.pretrain(kept.folder, out=tmp_path / "run", method="genesis", settings=settings)
    assert np.asarray(Image.open(run / "health.png").convert("RGB")).size
    bundle = medtl.finetune(kept.folder, encoder=run, out=tmp_path / "bundle", settings=["steps=2"])
    assert medtl.load(bundle).bundle.spec.colour and "px, in colour |" in (bundle / "card.md").read_text()


def test_what_is_taught_later_keeps_its_pictures_in_colour(skin: Path, detector: Path, tmp_path: Path) -> None:
    examples = [(skin / f"p{patient:02d}.png", patient % 2) for patient in (2, 3, 12, 13, 22, 23, 32, 33)]
    taught = medtl.teach(detector, examples, finding="again", out=tmp_path / "taught")
    before, after = (load_file(each / "reference.safetensors")["thumbnails"] for each in (detector, taught))
    assert after.shape == (len(before) + 8, 96, 96, 3)
    assert medtl.load(taught).predict(skin / "p03.png")["again"].probability > 0.5


def npz_of(skin: Path, folder: Path) -> Path:
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(skin.glob("*.png"))])
    labels = (np.arange(len(images)) % 2)[:, None]
    parts = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 60)}
    arrays = {f"{part}_images": images[rows] for part, rows in parts.items()}
    np.savez(folder / "red.npz", **arrays, **{f"{part}_labels": labels[rows] for part, rows in parts.items()})
    return folder / "red.npz"


def dicoms_of(skin: Path, folder: Path) -> Path:
    for path in sorted(skin.glob("*.png")):
        (folder / f"{path.stem}.dcm").write_bytes(
            dicom_bytes(
                np.asarray(Image.open(path)),
                **{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": 0},
                PhotometricInterpretation="RGB",
                Modality="XC",
                PatientID=path.stem,
            )
        )
    lines = (skin / "labels.csv").read_text().replace(".png", ".dcm")
    (folder / "labels.csv").write_text(lines)
    return folder


@pytest.mark.parametrize("made", [npz_of, dicoms_of], ids=["npz", "dicom"])
def test_other_files_hold_the_same_squares_and_go_the_whole_way(
    made: Callable[[Path, Path], Path], skin: Path, kept: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    source = made(skin, tmp_path / "in")
    labels = source / "labels.csv" if source.is_dir() else None
    data = medtl.ingest(source, labels=labels, out=tmp_path / "ds", size_px=SIDE)
    assert data.spec.colour
    assert np.array_equal(data.pixels(np.arange(60)), kept.pixels(np.arange(60)))
    bundle = medtl.finetune(data.folder, out=tmp_path / "bundle", settings=[*SHORT, "strategy=full"])
    table = pd.read_csv(medtl.score(bundle, source, out=tmp_path / "s.csv"))
    squares = medtl.load(bundle).predict_stored(data.pixels(np.arange(60)))[:, 0]
    assert table["probability"].to_numpy() == pytest.approx(squares, abs=1e-6)


def test_the_other_number_of_channels_is_refused_with_what_to_do(
    skin: Path, kept: Dataset, detector: Path, dataset: Dataset, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"made for images of 40 px in colour; .* with --size-px 40 --colour"):
        dataset.check_storage(medtl.load(detector).bundle.spec)
    with pytest.raises(EncoderError, match=r"scans of 40 px, .* scans of 40 px in colour; .* --size-px 40 --no-colour"):
        medtl.finetune(kept.folder, encoder=bundle, out=tmp_path / "b")


def test_a_grey_scan_goes_through_a_detector_of_colour(scans: Path, detector: Path) -> None:
    assert 0 <= medtl.load(detector).predict(scans / "images/p00_0.png")["red"].probability <= 1
