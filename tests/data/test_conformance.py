"""The public test files of pydicom: stored values beside dcmtk's and GDCM's, and damage of every kind."""

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread
from pydicom.pixels import pixel_array

from medtl.data.dicom import parse, read_dicom_frames
from medtl.data.dicom_pixels import decode
from medtl.data.kinds import LISTED
from medtl.data.scan import Scan
from medtl.errors import ScanError
from tests.data.conftest import DAMAGES

LONGEST_S, MOST_BYTES = 20.0, 2**30
"""Seconds of the processor, as the machine that runs the tests may be busy, and memory for one file."""
DCMTK = {
    "1.2.840.10008.1.2.5": "dcmdrle",
    "1.2.840.10008.1.2.4.50": "dcmdjpeg",
    "1.2.840.10008.1.2.4.51": "dcmdjpeg",
    "1.2.840.10008.1.2.4.57": "dcmdjpeg",
    "1.2.840.10008.1.2.4.70": "dcmdjpeg",
    "1.2.840.10008.1.2.4.80": "dcmdjpls",
    "1.2.840.10008.1.2.4.81": "dcmdjpls",
}


@pytest.fixture(scope="module")
def files(shared: Path) -> list[Path]:
    return sorted((shared / "dicom/conformance").iterdir())


def frames(data: bytes) -> Iterator[Scan]:
    return read_dicom_frames(data, name="x.dcm", sha256=hashlib.sha256(data).hexdigest())


def test_every_file_is_read_listed_or_refused(files: list[Path]) -> None:
    fate: dict[str, str] = {}
    for path in files:
        try:
            scans = list(frames(path.read_bytes()))
            fate[path.name] = "read"
            assert all(scan.pixels.min() >= 0 and scan.pixels.max() <= 1 for scan in scans)
            assert len(scans) == int(dcmread(path, stop_before_pixels=True, force=True).get("NumberOfFrames") or 1)
        except ScanError as problem:
            fate[path.name] = "listed" if problem.code in LISTED else problem.code
    assert fate.pop("emri_small_jpeg_2k_lossless_too_short.dcm") == "truncated"
    assert {name for name, said in fate.items() if said == "listed"} == {n for n in fate if n.startswith("liver")}
    assert set(fate.values()) == {"read", "listed"}, fate


def test_stored_values_are_those_of_dcmtk(files: list[Path], tmp_path: Path) -> None:
    compared = 0
    for path in files:
        meta = dcmread(path, stop_before_pixels=True, force=True).file_meta
        tool = DCMTK.get(str(meta.get("TransferSyntaxUID", "")))
        if tool is None:
            continue
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} (Debian package dcmtk)")
        out = tmp_path / path.name
        options = ["+cn"] if tool == "dcmdjpeg" else []  # keep the colours as they are stored
        if subprocess.run([tool, *options, str(path), str(out)], capture_output=True, timeout=60).returncode:
            continue  # dcmtk refuses a few of them
        dataset = parse(path.read_bytes(), path.name)
        try:
            ours = decode(dataset, path.name)[0]
        except ScanError:
            continue
        theirs = pixel_array(out, raw=True).reshape(ours.shape)
        if "YBR" in str(dataset.PhotometricInterpretation) or ours.ndim == 4:
            continue  # colour conversion differs by rounding; grey values are what detectors see
        lossy = str(meta.TransferSyntaxUID).endswith((".4.50", ".4.51", ".4.81"))
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (2 if lossy else 0), path.name
        compared += 1
    assert compared >= 6


def test_stored_values_are_those_of_gdcm(files: list[Path]) -> None:
    import gdcm

    compared = 0
    for path in files:
        dataset = parse(path.read_bytes(), path.name)
        if int(dataset.get("SamplesPerPixel") or 1) > 1 or dataset.get("BitsAllocated") not in (8, 16):
            continue
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            continue
        image = reader.GetImage()
        kind = {8: np.uint8, 16: np.uint16}[dataset.BitsAllocated]
        if int(dataset.PixelRepresentation):
            kind = {np.uint8: np.int8, np.uint16: np.int16}[kind]
        if (text := image.GetBuffer()) is None:  # GDCM reads the header and not the pixels of a few
            continue
        buffer = text.encode("utf-8", errors="surrogateescape")
        ours = decode(dataset, path.name)[0]
        spare = int(dataset.BitsAllocated) - int(
            dataset.BitsStored
        )  # GDCM leaves the sign where it stands (PS3.5 8.1.1)
        theirs = (np.frombuffer(buffer, kind) << spare) >> spare
        assert np.array_equal(ours.ravel(), theirs), path.name
        compared += 1
    assert compared >= 15


def damaged(data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for _ in range(DAMAGES):
        place, bit = int(rng.integers(len(data))), int(rng.integers(8))
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(flipped)
        place = int(rng.integers(128, min(len(data), 2000)))  # headers matter most
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(flipped)
        cut = int(rng.integers(len(data)))
        yield f"cut at {cut}", data[:cut]


@pytest.mark.slow
def test_no_damage_crashes_hangs_or_fills_the_memory(files: list[Path]) -> None:
    rng, process, tried = np.random.default_rng(0), psutil.Process(), 0
    least = process.memory_info().rss
    for path in files:
        if path.stat().st_size > 2_000_000:
            continue
        for what, data in damaged(path.read_bytes(), rng):
            began = time.process_time()
            try:
                for scan in frames(data):
                    assert np.isfinite(scan.pixels).all()
            except ScanError as problem:
                assert "\n" not in str(problem), (path.name, what)
            assert time.process_time() - began < LONGEST_S, (path.name, what)
            assert process.memory_info().rss - least < MOST_BYTES, (path.name, what)
            tried += 1
    assert tried > 100


def test_native_pixels_that_are_too_short_are_never_read(files: list[Path]) -> None:
    tried = 0
    for path in files:
        dataset = dcmread(path, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if (
            syntax is None
            or not syntax.is_transfer_syntax
            or syntax.is_compressed
            or "PixelData" not in dataset
            or path.name.startswith("liver")
        ):
            continue
        data = path.read_bytes()
        with pytest.raises(ScanError):
            list(frames(data[: len(data) - len(dataset.PixelData) // 2]))
        tried += 1
    assert tried >= 20
