"""--show-views through the command line: a picture beside the run, and no run."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import medtl
from medtl.data.dataset import Dataset
from medtl.errors import RunError
from medtl.pretraining import plan
from medtl.pretraining.plan import Size
from medtl.pretraining.show import SCANS, VIEWS, _cell, _sheet, views_path
from tests.test_cli import refused, run


def test_the_picture_shows_scans_and_views_and_starts_nothing(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "deep/run"
    done = run(
        "pretrain", dataset.folder, "--show-views", "--out", out, "--set", "views.preset=ct", "--set", "input_px=40"
    )
    assert done.returncode == 0, done.stderr
    assert "NAME (radiograph, mammography, ct, mr, ultrasound, microscopy) or a field" in done.stderr
    assert "preset ct" in done.stderr and f"{out}-views.png" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["run-views.png"]
    with Image.open(f"{out}-views.png") as picture:
        pixels = np.asarray(picture)
    cell = 120 + 4  # 40 px, three times as large
    assert pixels.shape == (16 + SCANS * cell, (1 + VIEWS) * cell)
    cells = pixels[16:, :].reshape(SCANS, cell, 1 + VIEWS, cell)[:, :120, :, :120].swapaxes(1, 2)
    assert (cells.std(axis=(2, 3)) > 5).all(), "nothing is empty"
    flat = cells.reshape(SCANS * (1 + VIEWS), -1)
    assert len(np.unique(flat, axis=0)) == len(flat), "no two are the same"
    # The first column is the scan itself.
    rows = np.flatnonzero(dataset.manifest["split"] != "test")
    stored = dataset.pixels(rows[:1])[0, 0]
    assert np.array_equal(cells[0, 0, ::3, ::3], stored)


def test_views_are_drawn_at_the_side_that_the_run_would_choose(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, float] = {}

    def measured(*_: object, seconds: float, **__: object) -> list[Size]:
        asked["seconds"] = seconds
        return [Size(network="resnet18-half", input_px=56, scans_per_s=1e9)]

    monkeypatch.setattr(plan, "measured", measured)
    medtl.pretrain(dataset.folder, out=tmp_path / "v.png", minutes=3, from_="random", show_views=True)
    with Image.open(tmp_path / "v.png") as picture:
        assert picture.width == 7 * (2 * 56 + 4), "56 px, twice as large"
    said = capsys.readouterr().err
    assert asked == {"seconds": 180} and "plan for 3 min 00 s: resnet18-half at 56 px" in said
    assert "scans as the network sees them at 56 px" in said


def test_a_method_with_crops_shows_them(dataset: Dataset, tmp_path: Path) -> None:
    medtl.pretrain(dataset.folder, out=tmp_path / "v.png", method="dino", show_views=True, settings=["input_px=40"])
    with Image.open(tmp_path / "v.png") as picture:
        assert picture.width == 7 * 124 + 3 * (6 * 20 + 4)


def test_without_out_it_bears_the_dataset_s_name(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert views_path(Path("data"), None) == Path("data-views.png")
    assert views_path(Path("data"), Path("a/run")) == Path("a/run-views.png")
    assert views_path(Path("data"), Path("a/b.PNG")) == Path("a/b.PNG")
    with pytest.raises(RunError, match="name one with --out RUN"):
        medtl.pretrain(dataset.folder)


def test_an_unknown_method_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    line = refused(run("pretrain", dataset.folder, "--show-views", "--out", tmp_path / "r", "--method", "simclrr"))
    assert "did you mean 'simclr'" in line and not list(tmp_path.iterdir())


def test_a_volume_is_three_slices_turned_as_radiologists_see_them() -> None:
    volume = -torch.ones(1, 48, 48, 48)
    volume[0, 40, 24, 24] = 1.0  # near the head
    volume[0, 24, 24, 44] = 1.0  # on the patient's right
    cell = _cell(volume)
    assert cell.shape == (96, 3 * 96)
    axial, coronal, sagittal = (cell[:, i * 96 : (i + 1) * 96][::2, ::2] for i in range(3))
    assert axial[47 - 24, 47 - 44] == 255, "right is on the left"
    assert coronal[47 - 40, 47 - 24] == 255 and sagittal[47 - 40, 47 - 24] == 255, "the head is up"


def test_a_run_keeps_its_views_complete_and_resumes_with_them(dataset: Dataset, tmp_path: Path) -> None:
    small = ["steps=2", "batch_size=8", "input_px=16", "network=resnet10-half", "precision=32"]
    settings = [*small, "views.preset=ct", "views.noise=0.01"]
    folder = medtl.pretrain(dataset.folder, out=tmp_path / "run", settings=settings)
    views = yaml.safe_load((folder / "config.yaml").read_text())["views"]
    assert (views["preset"], views["noise"], views["window"], views["flip"]) == ("ct", 0.01, 0.2, 0.0)
    assert None not in views.values()
    medtl.pretrain(dataset.folder, out=folder, resume=True)
    medtl.pretrain(dataset.folder, out=folder, resume=True, settings=["views.preset=ct", "views.noise=0.01"])
    with pytest.raises(RunError, match="was started with views"):
        medtl.pretrain(dataset.folder, out=folder, resume=True, settings=["views.preset=mr"])


def test_colours_are_shown_in_colour() -> None:
    scan = torch.tensor([1.0, 0.0, -1.0]).reshape(3, 1, 1).expand(3, 64, 64)
    assert (_cell(scan, colour=True) == [255, 128, 0]).all()
    assert _cell(scan, colour=True).shape == (128, 128, 3) and _cell(scan, colour=False).shape == (384, 128)
    sheet = _sheet({"scan": scan[None]}, colour=True)
    assert sheet.getpixel((50, 50)) == (255, 128, 0)
