"""Oracles: phantoms whose voxels know their place, and dcm2niix on real series."""

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import medtl
from medtl.data.nifti import read_nifti
from medtl.data.scan import Scan
from medtl.data.series import Series, group_series, read_head, read_series
from medtl.data.sources import read_uploads
from medtl.errors import ScanError
from tests.data.phantoms import AXIAL, CORONAL, SAGITTAL, slice_file, write_series

OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def grouped(folder: Path) -> tuple[list[Series], list[ScanError]]:
    paths = sorted(folder.iterdir())
    return group_series([read_head(path, name=path.name) for path in paths])


def volume(folder: Path) -> Scan:
    (series,), problems = grouped(folder)
    assert not problems
    scan = read_series(series.paths, name=series.name)
    assert (scan.pixels.shape, scan.spacing_mm) == (series.shape, pytest.approx(series.spacing_mm))
    return scan


def expected(scan: Scan) -> np.ndarray:
    """What an upright volume of the phantom must hold: its axes run to head (+7), front (-5) and right (-3)."""
    assert scan.spacing_mm is not None
    d, h, w = np.mgrid[tuple(slice(side) for side in scan.pixels.shape)]
    mm = scan.spacing_mm
    return 7 * d * mm[0] - 5 * h * mm[1] - 3 * w * mm[2]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, tuple(-x for x in AXIAL), (0, 0, 1, 0, 1, 0)])
def test_any_orientation_becomes_head_front_right(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    write_series(tmp_path, orientation=orientation, order=[3, 0, 5, 1, 4, 2])
    scan = volume(tmp_path)
    assert scan.hu is not None
    found = scan.hu - scan.hu[0, 0, 0]
    assert np.abs(found - expected(scan)).max() <= 1  # stored as whole numbers
    assert sorted(scan.pixels.shape) == [6, 8, 10]


def test_names_and_numbers_say_nothing_about_places(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", order=[5, 4, 3, 2, 1, 0], InstanceNumber=1)
    assert np.array_equal(volume(tmp_path / "a").pixels, volume(tmp_path / "b").pixels)


@settings(max_examples=20)
@given(order=st.permutations(range(6)), reverse=st.booleans())
def test_order_of_files_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], reverse: bool
) -> None:
    folder = tmp_path_factory.mktemp("series")
    paths = write_series(folder, order=order)
    heads = [read_head(path, name=path.name) for path in (reversed(paths) if reverse else paths)]
    (series,), _ = group_series(heads)
    assert list(series.paths) == paths and series.name == "s000"


def test_oblique_slices_keep_their_own_grid(tmp_path: Path) -> None:
    write_series(tmp_path, orientation=OBLIQUE)
    scan = volume(tmp_path)
    assert scan.spacing_mm == pytest.approx((2.0, 1.5, 1.0))
    assert any("16 degrees oblique" in step for step in scan.steps)


def test_mixed_series_are_taken_apart(tmp_path: Path) -> None:
    write_series(tmp_path, prefix="ax")
    write_series(tmp_path, prefix="co", orientation=CORONAL)
    write_series(tmp_path, prefix="e2", EchoTime=80)
    write_series(tmp_path, prefix="lo", slices=2, orientation=SAGITTAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series, problems = grouped(tmp_path)
    assert sorted(each.name for each in series) == ["ax000", "co000", "e2000"]
    assert [(each.code, each.path) for each in problems] == [("no_volume", "lo000"), ("no_volume", "lo001")]
    assert "a series of 2 images of its kind; a volume needs 4 slices" in problems[0].message


def test_two_time_points_are_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path, prefix="a", AcquisitionNumber=1)
    write_series(tmp_path, prefix="b", AcquisitionNumber=2)
    series, problems = grouped(tmp_path)
    assert sorted(each.name for each in series) == ["a000", "b000"] and not problems


def test_what_makes_no_volume_is_refused_with_the_reason(tmp_path: Path) -> None:
    write_series(tmp_path / "gap", slices=9, missing=[4])
    write_series(tmp_path / "twice", prefix="a")
    write_series(tmp_path / "twice", prefix="b")
    for name, code, words in (
        ("gap", "missing_slices", "slices are 2 mm apart, but 4 mm between s003 and s005; export the series again"),
        ("twice", "ambiguous_positions", "a000 and b000 lie at one place"),
    ):
        series, problems = grouped(tmp_path / name)
        assert not series and {problem.code for problem in problems} == {code}
        assert words in problems[0].message and len(problems) == len(list((tmp_path / name).iterdir()))


def test_copies_of_an_instance_count_once(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    shutil.copy(paths[2], tmp_path / "z")
    (series,), problems = grouped(tmp_path)
    assert len(series.paths) == 6
    assert [(each.code, each.path) for each in problems] == [("duplicate", "z")]


def test_a_slice_without_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    slice_file(
        path, orientation=AXIAL, position=(0, 0, 0), rows=4, columns=4, spacing=(1, 1), ImagePositionPatient=None
    )
    with pytest.raises(ScanError, match="does not say where it lies in space") as caught:
        read_head(path, name="x")
    assert caught.value.code == "no_geometry"


def test_every_head_ends_up_once(tmp_path: Path) -> None:
    write_series(tmp_path, prefix="a")
    write_series(tmp_path, prefix="b", slices=3, series="9")
    series, problems = grouped(tmp_path)
    named = [path.name for each in series for path in each.paths] + [each.path for each in problems]
    assert sorted(named) == sorted(path.name for path in tmp_path.iterdir())


def test_an_upload_of_slices_is_the_volume(tmp_path: Path) -> None:
    paths = write_series(tmp_path, order=[3, 0, 5, 1, 4, 2])
    files = [(path.name, path.read_bytes()) for path in paths]
    assert np.array_equal(read_uploads(files, dims=3).pixels, volume(tmp_path).pixels)
    archive = shutil.make_archive(str(tmp_path.parent / f"{tmp_path.name}-zip"), "zip", tmp_path)
    zipped = [("study.zip", Path(archive).read_bytes())]
    assert np.array_equal(read_uploads(zipped, dims=3).pixels, volume(tmp_path).pixels)
    with pytest.raises(ScanError, match="a volume needs 4 slices"):
        read_uploads(files[:2], dims=3)
    with pytest.raises(ScanError, match="6 files; open one at a time"):
        read_uploads(files, dims=2)


def test_real_series_agree_with_dcm2niix(shared: Path, tmp_path: Path) -> None:
    if not shutil.which("dcm2niix"):
        pytest.skip("needs dcm2niix (Debian package dcm2niix)")
    compared = 0
    for study in sorted((shared / "dicom/brain_mr").iterdir()):
        files = sorted(path for path in study.rglob("*") if path.is_file())
        series, problems = group_series([read_head(path, name=str(path)) for path in files])
        assert not problems
        for index, each in enumerate(series):
            source, out = tmp_path / f"{study.name}-{index}", tmp_path / f"{study.name}-{index}-nii"
            source.mkdir()
            out.mkdir()
            for path in each.paths:
                (source / path.name).symlink_to(path.resolve())
            command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "v", "-o", str(out), str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            (nifti,) = out.glob("*.nii")
            ours = read_series(each.paths, name="v")
            other = read_nifti(nifti.read_bytes(), name="v", sha256="")
            assert ours.pixels.shape == other.pixels.shape
            assert ours.spacing_mm == pytest.approx(other.spacing_mm, rel=1e-3)
            assert np.abs(ours.pixels - other.pixels).max() < 1e-3  # rounding of slope and intercept
            compared += 1
    assert compared == 9


def test_values_agree_with_dcm2niix_to_rounding(tmp_path: Path) -> None:
    if not shutil.which("dcm2niix"):
        pytest.skip("needs dcm2niix (Debian package dcm2niix)")
    write_series(tmp_path / "in", orientation=SAGITTAL, slices=7, order=[3, 0, 5, 1, 4, 2, 6])
    (tmp_path / "out").mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "v", "-o", str(tmp_path / "out"), str(tmp_path / "in")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (nifti,) = (tmp_path / "out").glob("*.nii")
    theirs = nibabel.as_closest_canonical(nibabel.load(nifti)).get_fdata().transpose(2, 1, 0)
    ours = volume(tmp_path / "in").hu
    assert ours is not None and np.array_equal(np.clip(theirs, -1000, None), ours)


def test_volumes_ingest_and_are_named_in_labels(tmp_path: Path) -> None:
    for index in range(5):
        write_series(tmp_path / f"in/p{index}", PatientID=f"P{index}", series=f"1.{index}", WindowCenter=index + 1)
    lines = ["path,nodule", "p0,1", "p1/s000,0", "p2,1"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = medtl.ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv", as_="volumes")
    assert len(data) == 5 and data.spec.dims == 3 and data.spec.spacing_mm == 1.0 and data.spec.size_px == 16
    assert data.manifest["path"].tolist() == [f"p{i}/s000" for i in range(5)]
    assert data.manifest["files"].tolist() == [6] * 5
    assert data.labels().values[:3, 0].tolist() == [1, 0, 1]
    assert data.pixels(np.arange(5)).shape == (5, 1, 16, 16, 16)
