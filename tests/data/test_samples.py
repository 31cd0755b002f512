"""The simulated radiographs: reproducible, valid DICOM, balanced; and the committed `sample_data/`."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medtl.data.samples import FINDINGS, PATTERNS, plan, simulate
from medtl.data.sources import read_scan
from medtl.errors import MedtlError

SAMPLES = Path(__file__).parents[2] / "sample_data"
Row = dict[str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with (SAMPLES / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples") / "out"
    simulate(out, n_patients=2, seed=7)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", n_patients=2, seed=7)
    assert contents(tmp_path / "again") == contents(small)
    assert len(contents(small)) >= 3


def test_another_seed_other_people(small: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "other", n_patients=1, seed=8)
    ours, theirs = (pydicom.dcmread(folder / "images/P000/1.dcm") for folder in (small, tmp_path / "other"))
    assert ours.SOPInstanceUID != theirs.SOPInstanceUID
    assert ours.StudyInstanceUID != theirs.StudyInstanceUID


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(MedtlError, match="exists and is not an empty folder; choose another"):
        simulate(tmp_path, n_patients=1)
    assert contents(tmp_path) == {"mine.txt": b"keep"}


def test_the_shell_command_says_how_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    command = [sys.executable, "-m", "medtl.data.samples"]
    assert "usage:" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    refused = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "not an empty folder" in refused.stderr and "Traceback" not in refused.stderr


def test_torch_is_not_loaded() -> None:
    code = "import sys, medtl.data.samples; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plan_has_the_promised_proportions() -> None:
    planned = plan(160, 0)
    assert sum(visits for _, visits in planned) == 240
    assert sum(not kinds for kinds, _ in planned) == 80
    assert Counter(kinds for kinds, _ in planned) == {kinds: PATTERNS.count(kinds) * 8 for kinds in set(PATTERNS)}
    assert plan(160, 0) == planned != plan(160, 1)


def test_sample_data_is_what_it_says(rows: list[Row]) -> None:
    assert len(rows) == 240
    assert len({row["patient_id"] for row in rows}) == 160
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 10e6
    on_disk = {str(path.relative_to(SAMPLES)) for path in (SAMPLES / "images").rglob("*.dcm")}
    assert {row["path"] for row in rows} == on_disk
    normal = sum(all(row[name] == "0" for name in FINDINGS) for row in rows)
    assert 0.45 < normal / len(rows) < 0.6
    for name in FINDINGS:
        assert 0.18 < sum(row[name] == "1" for row in rows) / len(rows) < 0.3
    assert sum(sum(row[name] == "1" for name in FINDINGS) > 1 for row in rows) > 20


def test_a_mask_for_each_finding_and_none_else(rows: list[Row]) -> None:
    expected = {}
    for row in rows:
        patient, number = row["patient_id"], Path(row["path"]).stem
        expected |= {f"{patient}-{number}-{name}.png": row["path"] for name in FINDINGS if row[name] == "1"}
    assert {path.name for path in (SAMPLES / "masks").iterdir()} == set(expected)
    for mask_name, path in expected.items():
        mask = np.asarray(Image.open(SAMPLES / "masks" / mask_name))
        ds = pydicom.dcmread(SAMPLES / path, stop_before_pixels=True)
        assert mask.dtype == bool and mask.shape == (ds.Rows, ds.Columns)
        assert mask.any(), f"{mask_name}: the label says that there is a finding, the mask is empty"


def test_scanner_view_and_encoding_say_nothing_about_the_findings(rows: list[Row]) -> None:
    headers = [pydicom.dcmread(SAMPLES / row["path"], stop_before_pixels=True) for row in rows]
    assert Counter(h.PhotometricInterpretation for h in headers).keys() == {"MONOCHROME1", "MONOCHROME2"}
    assert len({h.file_meta.TransferSyntaxUID for h in headers}) == 6
    assert len({h.SOPInstanceUID for h in headers}) == 240
    abnormal = np.array([any(row[name] == "1" for name in FINDINGS) for row in rows], float)
    for trait in (
        [h.Manufacturer == headers[0].Manufacturer for h in headers],
        [h.ViewPosition == "AP" for h in headers],
        [h.file_meta.TransferSyntaxUID == headers[0].file_meta.TransferSyntaxUID for h in headers],
    ):
        # By chance alone a correlation of 240 pairs exceeds 0.17 in one of a hundred.
        assert abs(np.corrcoef(abnormal, np.array(trait, float))[0, 1]) < 0.17
    first = headers[0]
    assert (first.BitsAllocated, first.BitsStored, first.HighBit) == (16, 12, 11)


def test_every_sample_reads_with_dense_tissue_bright(rows: list[Row]) -> None:
    for row in rows[::3]:
        scan = read_scan(SAMPLES / row["path"])
        height, width = scan.pixels.shape
        abdomen = scan.pixels[int(0.86 * height) : int(0.93 * height), int(0.4 * width) : int(0.6 * width)].mean()
        middle = scan.pixels[int(0.25 * height) : int(0.55 * height)]
        assert abdomen > 0.5 > np.percentile(middle, 10), row["path"]
        assert scan.header.patient_id == row["patient_id"]
        assert scan.header.sex in ("F", "M") and 18 <= (scan.header.age_years or 0) <= 95


def test_both_scanners_look_alike_when_read(rows: list[Row]) -> None:
    means: dict[str | None, list[float]] = {}
    for row in rows[::3]:
        scan = read_scan(SAMPLES / row["path"])
        means.setdefault(scan.header.manufacturer, []).append(float(scan.pixels[40:-40, 40:-40].mean()))
    one, other = (np.mean(values) for values in means.values())
    assert abs(one - other) < 0.12


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dciodvfy_finds_no_errors(rows: list[Row], tmp_path: Path) -> None:
    for row in rows:
        path = SAMPLES / row["path"]
        if pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            ds = pydicom.dcmread(path)  # dciodvfy does not inflate
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            path = tmp_path / "inflated.dcm"
            ds.save_as(path)
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert not errors, f"{row['path']}: {errors}"
