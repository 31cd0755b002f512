"""NIfTI values that look like a CT are Hounsfield units, all others are not; windows then see them."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medtl.data.hounsfield import hounsfield_units
from medtl.data.ingest import ingest
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.sources import read_bytes, read_scan

SIDE = 32
RNG = np.random.default_rng


def body(seed: int = 0) -> np.ndarray:
    """(S, S, S) HU: air, a body of fat and an organ, noise, a few voxels of metal."""
    z, y, x = np.mgrid[:SIDE, :SIDE, :SIDE] - SIDE / 2
    values = np.full((SIDE,) * 3, -1000.0)
    values[y**2 + x**2 < 180] = -100
    values[z**2 + y**2 + (x - 3) ** 2 < 60] = 55
    values[0, 0, :3] = 3000
    return (values + RNG(seed).normal(0, 12, values.shape)).round()


def nifti(values: np.ndarray) -> bytes:
    return nibabel.Nifti1Image(values, np.eye(4)).to_bytes()


def read(values: np.ndarray, dims: int = 3) -> Scan:
    return read_bytes(nifti(values), name="x.nii", dims=dims)


def test_a_ct_keeps_its_units_and_is_shown_as_one() -> None:
    values = body().astype(np.int16)
    values[:, :, -1] = -3024  # outside of the field of view
    scan = read(values)
    expected = np.maximum(values.transpose(2, 1, 0), -1000)
    assert scan.hu is not None and np.array_equal(scan.hu, expected)
    assert scan.pixels == pytest.approx(np.clip((expected + 1000) / 2000, 0, 1), abs=1e-6)
    assert scan.header.modality == "CT"
    assert scan.steps[-2:] == ("values like Hounsfield units: taken as CT", "-1000 to 1000 HU")


def test_a_slice_and_what_was_interpolated_are_ct_too() -> None:
    values = body().astype(np.float32) + 0.25
    values[3, 3, 3] = np.nan
    scan = read(values)
    assert scan.hu is not None and scan.hu[3, 3, 3] == -1000
    flat = read(body()[:, :, SIDE // 2, None].astype(np.int16), dims=2)
    assert flat.hu is not None and flat.hu.shape == flat.pixels.shape == (SIDE, SIDE)


NO_CT: dict[str, Callable[[], np.ndarray]] = {
    "magnitudes": lambda: RNG(1).gamma(2, 200, (SIDE,) * 3),
    "a CT from 0": lambda: body() + 1024,
    "a CT in a window": lambda: np.clip(body(), -160, 240),
    "phases": lambda: RNG(1).uniform(-4096, 4095, (SIDE,) * 3),
    "phases in thousandths": lambda: RNG(1).uniform(-3142, 3142, (SIDE,) * 3),
    "a field map": lambda: RNG(1).normal(0, 150, (SIDE,) * 3),
    "a wide field map": lambda: RNG(1).normal(0, 250, (SIDE,) * 3),
    "a map with long tails": lambda: RNG(1).laplace(0, 150, (SIDE,) * 3),
    "z values": lambda: RNG(1).normal(0, 1, (SIDE,) * 3),
    "a ramp": lambda: np.linspace(-1000, 5, SIDE**3).reshape((SIDE,) * 3),
    "air alone": lambda: RNG(1).normal(-1000, 12, (SIDE,) * 3),
    "one value": lambda: np.full((SIDE,) * 3, -1000.0),
    "nothing": lambda: np.full((SIDE,) * 3, np.nan),
}


@pytest.mark.parametrize("values", NO_CT.values(), ids=NO_CT)
def test_others_are_spread_between_percentiles(values: Callable[[], np.ndarray]) -> None:
    assert hounsfield_units(values()) is None
    scan = read(values().astype(np.float32))
    assert scan.hu is None and scan.header.modality is None and "HU" not in scan.steps[-1]


def test_real_mr_is_no_ct(shared: Path) -> None:
    for path in sorted((shared / "hippocampus_mr/volumes").glob("*.nii.gz"))[:20]:
        assert read_scan(path, dims=3).hu is None


def test_windows_see_a_nifti_ct_the_same_way_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        (tmp_path / f"in/{seed}.nii").write_bytes(nifti(body(seed).astype(np.int16)))
    plain = ingest(tmp_path / "in", out=tmp_path / "plain")
    assert plain.manifest["modality"].tolist() == ["CT"] * 3
    assert (
        "note: 3 scans taken as CT and shown from -1000 to 1000 HU; a window shows a tissue better, such as "
        "--window abdomen, or several for channels: lung, " in capsys.readouterr().err
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more/3.nii").write_bytes(nifti(body(3).astype(np.int16)))
    assert len(ingest(tmp_path / "more", out=tmp_path / "plain", add=True)) == 4
    assert "--window" not in capsys.readouterr().err, "a dataset that is added to keeps its window"
    data = ingest(tmp_path / "in", out=tmp_path / "ds", window=["abdomen", "lung"])
    assert "taken as CT" not in capsys.readouterr().err
    assert isinstance(data.spec, PreprocessSpec) and data.spec.channels == 2 and data.spec.size_px == SIDE
    block = data.pixels(np.array([1]))[0]
    hu = np.maximum(body(1).transpose(2, 1, 0), -1000)
    for channel, (low, high) in zip(block, ((-150, 250), (-1350, 150)), strict=True):
        assert np.abs(channel - 255 * np.clip((hu - low) / (high - low), 0, 1)).max() <= 1.5
    assert np.array_equal(data.spec.stored(read_scan(tmp_path / "in/1.nii", dims=3)), block)  # as score and page do
