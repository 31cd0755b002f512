"""The page as a reader meets it: headless Chromium against a real server."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from medtl.inference.runtime import load

HOSTILE = "<img src=x onerror=window.hacked=1> ${7*7} {{value}}"


@pytest.fixture
def page(blank: Page, url: str) -> Iterator[Page]:
    """The page at the smallest screen; at its end, nobody else was asked for anything."""
    page = blank
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#upload")
    yield page
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("Object.values(localStorage).join().includes('chest.dcm')") is False


def upload(page: Page, file: Any) -> None:
    page.set_input_files("#top input[type=file]", file)


def scored(page: Page) -> None:
    expect(page.locator(".finding.positive, .finding.negative")).to_have_count(2)


def shows(page: Page, *, width: int, height: int) -> None:
    """The scan's picture has these pixels."""
    expect(page.locator("#scan img")).to_have_js_property("naturalWidth", width)
    expect(page.locator("#scan img")).to_have_js_property("naturalHeight", height)


def stored(folder: Path) -> list[sqlite3.Row]:
    connection = sqlite3.connect(folder / "r.db")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT * FROM verdicts ORDER BY id").fetchall()
    connection.close()
    return rows


def test_a_dicom_from_upload_to_verdict(page: Page, dicom_file: Path, folder: Path, bundle_folder: Path) -> None:
    places = {name: page.locator(name).bounding_box() for name in ("#viewer", "#note", "#save", "#footer", "#upload")}
    expect(page.locator("#save")).to_be_disabled()
    upload(page, dicom_file)
    scored(page)
    pneumonia = page.locator(".finding").first
    expect(pneumonia).to_contain_text("Pneumonia")
    expect(pneumonia).to_contain_text("positive: above the operating point (43.0 %)")
    expect(page.locator(".finding").nth(1)).to_contain_text("Large nodule")
    expect(page.locator(".finding").nth(1)).to_contain_text("negative: below the operating point (50.0 %)")
    shows(page, width=100, height=120)
    expect(page.locator("#heat img")).to_be_visible()
    expect(page.locator("#caption")).to_contain_text("Grad-CAM")

    text = page.content()
    assert not any(word in text for word in ("SECRET", "Person", "HIDDEN-4711", "19700101"))
    header = page.locator("#header")
    for word in ("hidden", "DX", "PA", "CHEST", "54 years, F", "100 × 120 px", "<img src=x", "${7*7} {{value}}"):
        expect(header).to_contain_text(word)
    expect(page.locator("#footer")).to_contain_text("Research use. Not a diagnostic viewer.")
    expect(page.locator("#footer")).to_contain_text("chest <test>")
    assert {name: page.locator(name).bounding_box() for name in places} == places, "the layout jumped"

    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text("Not saved: choose agree, disagree or unsure")
    before = len(stored(folder))
    page.locator(".choice").nth(0).get_by_text("Disagree").click()
    expect(page.locator("#saved")).to_have_text("")
    page.locator("#note textarea").fill(HOSTILE)
    page.locator("#reader input, #reader textarea").fill("Dr A")

    blocker = sqlite3.connect(folder / "r.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    page.locator("#save").click()
    page.wait_for_timeout(700)
    assert "Saved" not in page.locator("#saved").inner_text(), "said saved before it was"
    blocker.execute("ROLLBACK")
    expect(page.locator("#saved")).to_contain_text("Saved at")
    rows = stored(folder)
    assert len(rows) == before + 1
    assert f"(verdict {rows[-1]['id']})" in page.locator("#saved").inner_text()
    assert (rows[-1]["finding"], rows[-1]["decision"], rows[-1]["verdict"]) == ("pneumonia", "positive", "disagree")
    assert (rows[-1]["note"], rows[-1]["reader"]) == (HOSTILE, "Dr A")

    # Another process and other threads: sums may be taken in another order.
    alone = load(bundle_folder).predict(dicom_file)["pneumonia"]
    assert rows[-1]["probability"] == pytest.approx(alone.probability, abs=1e-6)

    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text(f"(verdict {rows[-1]['id'] + 1})")


def test_the_next_scan_starts_clean(page: Page, dicom_file: Path, png_file: Path) -> None:
    upload(page, dicom_file)
    scored(page)
    page.locator(".choice").nth(0).get_by_text("Agree", exact=True).click()
    page.locator("#reader input, #reader textarea").fill("Dr B")
    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text("Saved at")
    upload(page, png_file)
    expect(page.locator("#status")).to_have_text("other.png")
    scored(page)
    expect(page.locator("#saved")).to_have_text("")
    expect(page.locator(".choice input:checked")).to_have_count(0)
    assert page.locator("#reader input, #reader textarea").input_value() == "Dr B"
    shows(page, width=160, height=80)
    expect(page.locator("#header")).to_contain_text("not stated")


def test_slider_window_and_finding(page: Page, png_file: Path) -> None:
    upload(page, png_file)
    scored(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    slider = page.locator("#opacity")
    slider.fill("90")
    assert page.locator("#heat").evaluate("element => getComputedStyle(element).opacity") == "0.9"
    slider.fill("0")
    assert page.locator("#heat").evaluate("element => getComputedStyle(element).opacity") == "0"
    expect(page.locator("#opacity-shown")).to_have_text("0 %")
    page.get_by_label("Invert").check()
    expect(page.locator("#scan img")).to_have_css("filter", "invert(1)")
    page.keyboard.press("+")
    expect(page.locator("#scan img")).to_have_css("transform", re.compile(r"matrix\(1\.25,"))
    assert asked == [], "the browser does these alone"
    page.get_by_label("Window").click()
    page.get_by_role("option", name="Bone").click()
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, window Bone (bright areas)")
    page.locator("#finding input").click()
    page.get_by_role("option", name="Large nodule").click()
    expect(page.locator("#caption")).to_contain_text("large nodule")


def test_why_a_file_was_refused(page: Page, dicom_file: Path, png_file: Path, folder: Path) -> None:
    upload(page, png_file)
    scored(page)
    upload(page, {"name": "report.dcm", "mimeType": "application/dicom", "buffer": b"Dear colleague, " * 50})
    panel = page.locator(".refusal")
    expect(panel).to_contain_text("This file was refused")
    expect(panel).to_contain_text("report.dcm")
    assert "Traceback" not in page.content()
    expect(page.locator("#save")).to_be_disabled()
    expect(page.locator("#scan img, #heat img")).to_have_count(0)
    expect(page.locator(".finding.none")).to_have_count(2)
    upload(page, {"name": "empty.png", "mimeType": "image/png", "buffer": b""})
    expect(panel).to_contain_text("empty.png")
    upload(page, {"name": "<img src=x onerror=hacked=1>.png", "mimeType": "image/png", "buffer": b"<svg onload=1>"})
    expect(panel).to_contain_text("onerror")
    upload(page, {"name": "half.dcm", "mimeType": "", "buffer": dicom_file.read_bytes()[:3000]})
    expect(panel).to_contain_text("half.dcm")
    upload(page, dicom_file)
    scored(page)
    expect(panel).to_have_count(0)
    kept = [path for path in (folder / "tmp").rglob("*") if path.is_file() and path.stat().st_size]
    assert [path for path in kept if "medtl-page" in str(path)] == [], "a scan stayed on disk"


def test_the_essentials_fit_a_small_screen(page: Page, dicom_file: Path) -> None:
    upload(page, dicom_file)
    scored(page)
    for name in ("#scan img", ".finding >> nth=1", "#save", "#header", "#footer"):
        box = page.locator(name).bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 768, name
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
