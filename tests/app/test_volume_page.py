"""The page for volumes: slices, orientations and several files at once, in headless Chromium."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.app.conftest import served_here
from tests.app.people import log_in
from tests.app.test_page import scored, shows


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes") / "r.db"


@pytest.fixture(scope="module")
def url(volume_bundle: Path, reviews: Path) -> Iterator[str]:
    with served_here(volume_bundle, reviews) as url:
        yield url


@pytest.fixture
def page(blank: Page, url: str, reviews: Path) -> Page:
    log_in(blank, url, reviews=reviews)
    blank.goto(url)
    blank.wait_for_selector("#upload")
    return blank


@pytest.fixture(scope="module")
def nifti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 x 40 x 20 voxels to right, front and head, of 1 x 1 x 3 mm."""
    path = tmp_path_factory.mktemp("nifti") / "head.nii.gz"
    values = np.random.default_rng(0).normal(100, 20, (30, 40, 20)).astype(np.float32)
    values[20:25, 25:30, 12:15] += 300
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return path


def shown(page: Page) -> str:
    return page.locator("#scan img").get_attribute("src") or ""


def test_slices_and_orientations(page: Page, nifti: Path) -> None:
    page.locator("#to-case").click()
    slider = page.locator("#slice input[type=range]")
    expect(slider).to_be_disabled()
    page.set_input_files("#top input[type=file]", nifti)
    scored(page)
    expect(slider).to_have_attribute("max", "20")
    expect(page.locator("#header")).to_contain_text("30 × 40 × 20 voxels")
    shows(page, width=30, height=40)
    expect(page.locator(".edge")).to_have_text(["R", "L", "A", "P"])

    before = shown(page)
    number = 3 if slider.input_value() != "3" else 4
    slider.fill(str(number))
    expect(page.locator("#scan img")).not_to_have_attribute("src", before)
    expect(page.locator("#scan img")).to_have_attribute("alt", f"Axial slice {number} of 20, window As read")

    page.locator("#plane").get_by_text("Coronal").click()
    expect(slider).to_have_attribute("max", "40")
    shows(page, width=30, height=60)  # slices of 3 mm are shown three times as high
    expect(page.locator(".edge")).to_have_text(["R", "L", "H", "F"])
    page.locator("#plane").get_by_text("Axial").click()
    expect(page.locator("#scan img")).to_have_attribute("alt", f"Axial slice {number} of 20, window As read")

    for name in ("#scan img", "#slice input[type=range]", "#plane", "#save", "#header", "#footer"):
        box = page.locator(name).bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 768, name
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1366, name
    track, right = slider.bounding_box(), page.locator("#right").bounding_box()
    assert track and right and track["width"] > 200 and track["x"] + track["width"] < right["x"], "the slider is seen"
    tools, turn = page.locator("#tools").bounding_box(), page.locator("#plane").bounding_box()
    assert tools and turn and tools["y"] + tools["height"] <= turn["y"], "one row of controls below the other"


def test_several_files_that_are_no_series_are_refused(page: Page, nifti: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.dcm"
    other.write_bytes(b"Dear colleague, " * 50)
    page.set_input_files("#top input[type=file]", [other, nifti])
    expect(page.locator(".refusal")).to_contain_text("refused")
    expect(page.locator("#save")).to_be_disabled()
