"""What inputs mean, and what files are, whatever their names say."""

import gzip
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl.data.sources import FoundFile, find_files, read_bytes, read_scan, read_scans
from medtl.errors import DatasetError, ScanError

MakePng = Callable[[int], bytes]


@pytest.fixture
def folder(tmp_path: Path, make_png: MakePng) -> Path:
    """Two scans, one deep down, between what is no scan."""
    root = tmp_path / "in"
    (root / "a/b").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("2.png", "a/b/1", ".hidden.png", ".git/3.png"):
        (root / name).write_bytes(make_png(1))
    for name in ("labels.csv", "README", "a/readme.txt", "LICENSE", "DICOMDIR", "a/index.html"):
        (root / name).write_text("words")
    return root


def names(files: list[FoundFile]) -> list[str]:
    return [file.name for file in files]


def test_a_folder_means_its_scans_at_any_depth(folder: Path) -> None:
    assert names(find_files([folder])) == ["2.png", "DICOMDIR", "a/b/1"]


def test_a_named_file_is_always_kept(folder: Path) -> None:
    assert names(find_files([folder / "labels.csv", folder / ".hidden.png"])) == ["labels.csv", ".hidden.png"]


def test_globs_and_repeats(folder: Path) -> None:
    assert names(find_files([f"{folder}/**/*", folder])) == ["2.png", "DICOMDIR", "a/b/1"]
    assert names(find_files([f"{folder}/a/*"])) == ["b/1"]


def test_links_are_followed_once(folder: Path) -> None:
    (folder / "a/back").symlink_to(folder, target_is_directory=True)
    assert names(find_files([folder])) == ["2.png", "DICOMDIR", "a/b/1"]


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such file or folder"):
        find_files([tmp_path / "nowhere"])
    with pytest.raises(DatasetError, match="no file matches"):
        find_files([f"{folder}/*.tif"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no scans found; expected DICOM, PNG, JPEG, TIFF, NIfTI"):
        find_files([tmp_path / "empty"])


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, train_images=np.zeros((2, 4, 4), np.uint8))
    return file.getvalue()


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "words")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty", "the file is empty (0 bytes)"),
        (b"just some words, called .dcm by mistake\n", "text", "is text, not a scan"),
        ("Übergröße\n".encode() * 1000, "text", "is text"),
        ("Größe der Läsion\n".encode("latin-1") * 5, "text", "is text"),
        (b"%PDF-1.7\n%\xe2\xe3", "pdf", "is a PDF document"),
        (b"\x00" * 5000, "not_an_image", "is of no known image type"),
        (bytes(range(256)) * 8, "not_an_image", "is of no known image type"),
        (b"GIF89a" + bytes(40), "unsupported_format", "save it as PNG"),
        (zip_bytes(), "archive", "unpack it"),
        (gzip.compress(b"words", mtime=0), "archive", "unpack it"),
        (npz_bytes(), "many_images", "use medtl ingest or medtl score"),
    ],
)
def test_what_is_no_scan_is_refused_by_its_content(data: bytes, code: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.dcm"
    path.write_bytes(data)
    for read in (lambda: read_scan(path), lambda: read_bytes(data, name=str(path))):
        with pytest.raises(ScanError) as caught:
            read()
        assert caught.value.code == code
        assert words in caught.value.message and str(caught.value).startswith(f"{path}: ")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no such file"):
        read_scan(tmp_path / "gone.png")
    with pytest.raises(ScanError, match="is a folder"):
        read_scan(tmp_path)


def test_a_file_too_large_to_be_an_image_is_not_read(tmp_path: Path, make_png: MakePng) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(make_png(1))
    os.truncate(path, 2**31 + 1)  # sparse: takes no space
    with pytest.raises(ScanError, match=r"is a file of 2\.1 GB") as caught:
        read_scan(path)
    assert caught.value.code == "too_large"


def test_memory_and_file_give_the_same_scan(
    tmp_path: Path, make_png: MakePng, make_dicom: Callable[..., bytes]
) -> None:
    for i, data in enumerate([make_png(1), make_dicom(np.arange(400, dtype=np.uint16).reshape(20, 20))]):
        path = tmp_path / f"{i}.wrong-ending"
        path.write_bytes(data)
        one, other = read_scan(path), read_bytes(data, name="upload")
        assert np.array_equal(one.pixels, other.pixels)
        assert (one.sha256, one.header, one.steps) == (other.sha256, other.header, other.steps)
        assert (one.source, other.source) == (str(path), "upload")
        [inside] = read_scans(find_files([path])[0])
        assert np.array_equal(inside.scan.pixels, one.pixels) and inside.name == path.name


@given(st.binary(max_size=600))
def test_no_bytes_get_past_as_another_exception(data: bytes) -> None:
    try:
        read_bytes(data, name="x")
    except ScanError as problem:
        assert "\n" not in str(problem)
