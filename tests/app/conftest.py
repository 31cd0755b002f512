"""A tiny bundle, a server that shows it, and files that a hospital, or somebody hostile, might upload."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from app.server import private_files
from app.web import running
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.table import SMALL_ENCODER, build_encoder
from medtl.inference.bundle import Bundle, Classifier, write_bundle
from medtl.inference.runtime import Detector, load
from medtl.review.store import ReviewStore
from tests.app.acting import add_cases
from tests.app.door import Door
from tests.app.people import add_people, log_in

FINDINGS = ("pneumonia", "large_nodule")
VOLUMES = PreprocessSpec(dims=3, size_px=32, spacing_mm=2.0, input_px=16)
CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
"""The machine that runs the tests may be busy."""
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundle") / "chest", PreprocessSpec(size_px=64, input_px=32))


@pytest.fixture(scope="session")
def volume_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundle") / "volumes", VOLUMES)


def write_tiny(folder: Path, spec: PreprocessSpec) -> Path:
    torch.manual_seed(0)
    side = spec.input_px or spec.size_px
    classifier = Classifier(build_encoder(SMALL_ENCODER, input_px=side, dims=spec.dims), len(FINDINGS)).eval()
    with torch.no_grad():  # one clearly above its operating point, one clearly below
        classifier.head.bias.copy_(torch.tensor([2.0, -2.0]))
    bundle = Bundle(
        name="chest <test>",
        findings=FINDINGS,
        exclusive=False,
        thresholds={"pneumonia": 0.43, "large_nodule": 0.5},
        temperatures=dict.fromkeys(FINDINGS, 1.0),
        flip_average=False,
        spec=spec,
        network=SMALL_ENCODER,
        input_px=side,
        training={},
        calibration="none",
    )
    none = torch.zeros(0, classifier.encoder.embedding_dim)
    write_bundle(folder, bundle, classifier, embeddings=none, labels=torch.zeros(0, len(FINDINGS)), scan_ids=[])
    return folder


def chest(height: int = 120, width: int = 100) -> np.ndarray:
    """Two dark lungs in a bright body, and something bright in one of them."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.full((height, width), 0.7)
    for centre in (0.3, 0.7):
        image[((rows - 0.5) / 0.35) ** 2 + ((columns - centre) / 0.16) ** 2 < 1] = 0.2
    image[((rows - 0.6) / 0.08) ** 2 + ((columns - 0.7) / 0.08) ** 2 < 1] = 0.55
    return image


@pytest.fixture(scope="session")
def dicom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dicom") / "chest.dcm"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    scan.SOPClassUID, scan.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    scan.StudyInstanceUID, scan.SeriesInstanceUID = generate_uid(), generate_uid()
    scan.PatientName, scan.PatientID = "SECRET^Person", "HIDDEN-4711"
    scan.PatientAge, scan.PatientSex, scan.PatientBirthDate = "054Y", "F", "19700101"
    scan.Modality, scan.BodyPartExamined, scan.ViewPosition = "DX", "CHEST", "PA"
    scan.Manufacturer, scan.ManufacturerModelName = HOSTILE, "X1 ${7*7} {{value}}"
    scan.ImagerPixelSpacing = [1.5, 1.5]
    scan.Rows, scan.Columns = chest().shape
    scan.SamplesPerPixel, scan.PhotometricInterpretation, scan.PixelRepresentation = 1, "MONOCHROME2", 0
    scan.BitsAllocated, scan.BitsStored, scan.HighBit = 16, 12, 11
    scan.PixelData = (chest() * 4095).astype(np.uint16).tobytes()
    pydicom.dcmwrite(path, scan, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def png_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("png") / "other.png"
    Image.fromarray((chest(80, 160) * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs the Debian package chromium")
    expect.set_options(timeout=PATIENCE_MS)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for a file's tests, so that a browser loads the page's scripts once where it may keep them."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def blank(context: BrowserContext) -> Iterator[Page]:
    """A fresh session at the smallest screen."""
    page = context.new_page()
    yield page
    if page.url.startswith("http") and not page.is_closed():
        page.evaluate("localStorage.clear(), sessionStorage.clear()")
    page.close()
    context.clear_cookies()


@pytest.fixture(scope="module")
def door(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """With people, and no case."""
    door = Door(bundle_folder, tmp_path_factory.mktemp("door"))
    add_people(door.store)
    yield door
    door.store.close()


@pytest.fixture(scope="module")
def detector(bundle_folder: Path) -> Detector:
    return load(bundle_folder)


@pytest.fixture
def port() -> int:
    return free_port()


def free_port() -> int:
    """Below those that systems give away by themselves: a server takes seconds to start, and it must still be free."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server writes: the verdicts `r.db`, and temporary files in `tmp`."""
    path = tmp_path_factory.mktemp("served")
    (path / "tmp").mkdir()
    return path


@pytest.fixture(scope="session")
def url(bundle_folder: Path, folder: Path) -> Iterator[str]:
    """The address of a server, which must end politely and without a trace when it is asked to."""
    port = free_port()
    add_people_to(folder / "r.db")
    code = "import sys; from app.server import serve; serve(sys.argv[1], reviews=sys.argv[2], port=int(sys.argv[3]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle_folder), str(folder / "r.db"), str(port)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert list((folder / "tmp").glob("medtl-page-*")) == []


@pytest.fixture
def reader(blank: Page, url: str, folder: Path) -> Page:
    """The browser of Dr A, who is logged in at `url`."""
    log_in(blank, url, reviews=folder / "r.db")
    return blank


@contextlib.contextmanager
def served_here(bundle: Path, reviews: Path, **options: Any) -> Iterator[str]:
    """The address of a server in this process, which need not load everything anew."""
    port = free_port()
    add_people_to(reviews)
    store = ReviewStore(reviews)
    try:
        with private_files(), running(load(bundle), store, folder=bundle, host="127.0.0.1", port=port, **options):
            yield f"http://127.0.0.1:{port}"
    finally:
        store.close()


def add_people_to(reviews: Path) -> None:
    store = ReviewStore(reviews)
    add_people(store)
    store.close()


@pytest.fixture
def reviews(tmp_path: Path) -> Iterator[ReviewStore]:
    opened = ReviewStore(tmp_path / "r.db")
    yield opened
    opened.close()


@pytest.fixture
def numbers(reviews: ReviewStore, detector: Detector, tmp_path: Path) -> list[int]:
    return add_cases(reviews, tmp_path, detector.bundle.bundle_id)
