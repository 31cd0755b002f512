"""From files to the volumes of a dataset, of an upload, and of scores."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import medtl
from medtl.data.scan import Scan
from medtl.data.series import group_series
from medtl.data.slice_head import read_head
from medtl.data.sources import find_files, read_uploads
from medtl.data.units import looks_like_volumes, volume_units
from medtl.data.volume import read_series
from medtl.errors import ConfigError, DatasetError, ScanError
from tests.data.conftest import png_bytes
from tests.data.fake_series import CORONAL, fake_series

SHUFFLED = ["c", "a", "e", "b", "d"]


def volume(paths: list[Path]) -> Scan:
    (series,), _ = group_series([read_head(path, name=path.name) for path in paths])
    return read_series(series.paths, name=series.name)


def test_an_upload_of_slices_is_the_volume(tmp_path: Path) -> None:
    paths = fake_series(tmp_path / "in", names=SHUFFLED)
    files = [(path.name, path.read_bytes()) for path in paths]
    assert np.array_equal(read_uploads(files, dims=3).pixels, volume(paths).pixels)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "in")
    assert np.array_equal(
        read_uploads([("study.zip", Path(archive).read_bytes())], dims=3).pixels, volume(paths).pixels
    )
    with pytest.raises(ScanError, match="a volume needs at least 4"):
        read_uploads(files[:2], dims=3)
    with pytest.raises(ScanError, match="5 files; open one at a time"):
        read_uploads(files, dims=2)
    with pytest.raises(ScanError, match="cannot be unpacked"):
        read_uploads([("cut.zip", Path(archive).read_bytes()[:200])], dims=3)


def test_every_file_is_in_a_unit_or_left_out_with_a_reason(tmp_path: Path) -> None:
    fake_series(tmp_path / "a", names=SHUFFLED)
    fake_series(tmp_path / "a", names=[f"x{name}" for name in SHUFFLED], orientation=CORONAL)
    (tmp_path / "note.dcm").write_text("words")
    (tmp_path / "plain.png").write_bytes(png_bytes(1))
    files = find_files([tmp_path])
    units, left_out = volume_units(files)
    assert [unit.name for unit in units] == ["a/a", "a/xa", "plain.png"]
    assert [(file.name, problem.code) for file, problem in left_out] == [("note.dcm", "text")]
    assert sum(len(unit.files) for unit in units) + len(left_out) == len(files)
    assert not looks_like_volumes(files)


def test_volumes_ingest_and_labels_name_a_file_or_the_folder(tmp_path: Path) -> None:
    for index in range(5):
        fake_series(tmp_path / f"in/p{index}", PatientID=f"P{index}", SeriesInstanceUID=f"1.{index}")
    (tmp_path / "in/p0/picture.png").write_bytes(png_bytes(1))
    (tmp_path / "labels.csv").write_text("path,nodule\np0,1\np1/000.dcm,0\np2,1\n")
    data = medtl.ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv", as_="volumes")
    assert len(data) == 5 and data.spec.dims == 3 and data.spec.spacing_mm == 1.5 and data.spec.size_px == 16
    assert data.manifest["path"].tolist() == [f"p{i}/000.dcm" for i in range(5)]
    assert data.manifest["files"].tolist() == [5] * 5
    assert data.labels().values[:3, 0].tolist() == [1, 0, 1]
    assert data.pixels(np.arange(5)).shape == (5, 1, 16, 16, 16)
    rejects = (tmp_path / "ds/rejects.csv").read_text()
    assert "p0/picture.png,no_volume" in rejects


def test_named_windows_become_channels(tmp_path: Path) -> None:
    fake_series(tmp_path / "in", shape=(5, 40, 40))
    data = medtl.ingest(tmp_path / "in", out=tmp_path / "ds", size_px=40, window=["lung", "bone"])
    block, row = data.pixels(np.array([2]))[0], data.manifest.iloc[2]
    assert block.shape == (2, 40, 40) and row["modality"] == "CT"
    hu = np.arange(2 * 1600, 3 * 1600).reshape(40, 40) - 1000.0  # the third slice
    for channel, (centre, width) in zip(block, ((-600, 1500), (400, 1800)), strict=True):
        expected = np.clip((hu - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
        assert np.abs(channel - expected).max() <= 0.51  # rounding to whole numbers
    with pytest.raises(ConfigError, match=r"no window is called 'lungs'; did you mean 'lung'\?"):
        medtl.ingest(tmp_path / "in", out=tmp_path / "other", window=["lungs"])
    (tmp_path / "x.png").write_bytes(png_bytes(1))
    with pytest.raises(DatasetError, match="has no Hounsfield units to see through the window 'lung'"):
        medtl.ingest(tmp_path / "x.png", out=tmp_path / "other", window=["lung"])


def test_a_spacing_is_for_volumes(tmp_path: Path) -> None:
    fake_series(tmp_path / "in")
    data = medtl.ingest(tmp_path / "in", out=tmp_path / "ds", as_="volumes", spacing_mm=3.0, size_px=16)
    assert data.spec.spacing_mm == 3.0
    lit = data.pixels(np.array([0]))[0, 0] > 0
    assert [int(np.ptp(np.flatnonzero(lit.any(axis=axes))) + 1) for axes in ((1, 2), (0, 2), (0, 1))] == [7, 4, 4]
    with pytest.raises(ConfigError, match="spacing_mm is for volumes"):
        medtl.ingest(tmp_path / "in", out=tmp_path / "other", as_="images", spacing_mm=3.0)
    with pytest.raises(ConfigError, match="'slices' is none of auto, images, volumes"):
        medtl.ingest(tmp_path / "in", out=tmp_path / "other", as_="slices")
