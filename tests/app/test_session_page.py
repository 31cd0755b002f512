"""A session that ends while somebody reads, and uploads that are turned away, in headless Chromium."""

import struct
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medtl.review.schema import SESSIONS
from medtl.review.store import ReviewStore
from tests.app.people import PASSWORD
from tests.app.test_page import scored, stored, upload


@pytest.fixture
def page(reader: Page, url: str) -> Page:
    reader.goto(url)
    reader.wait_for_selector("#upload")
    return reader


def end_all_sessions(folder: Path) -> None:
    store = ReviewStore(folder / "r.db")
    with store.transaction() as connection:
        connection.execute(SESSIONS.delete())
    store.close()


def choose(page: Page) -> None:
    page.locator(".choice").nth(1).get_by_text("Disagree").click()
    expect(page.locator("#finding input")).to_have_value("Large nodule")  # the server has answered


def saved_once(folder: Path, before: int) -> None:
    """One act of saving; what this reader had said of the case earlier is chosen again, and saved with it."""
    said = [(row["finding"], row["verdict"]) for row in stored(folder)[before:]]
    assert ("large_nodule", "disagree") in said and len({finding for finding, _ in said}) == len(said)


def log_in_again(page: Page, name: str, password: str) -> None:
    page.locator("#again [name=name]").fill(name)
    page.locator("#again [name=password]").fill(password)
    page.locator("#again button").click()


def test_a_verdict_outlives_the_session(page: Page, dicom_file: Path, folder: Path) -> None:
    before = len(stored(folder))
    end_all_sessions(folder)
    upload(page, dicom_file)  # refused, asked for the password, sent again
    log_in_again(page, "Dr A", PASSWORD)
    scored(page)
    choose(page)
    end_all_sessions(folder)
    page.locator("#save").click()
    dialog = page.locator("#again dialog")
    expect(dialog).to_contain_text("Your session has ended")
    expect(page.locator("#again [name=name]")).to_have_value("Dr A")
    expect(page.locator("#again [name=password]")).to_be_focused()
    log_in_again(page, "Dr A", "wrong password")
    expect(dialog).to_contain_text("Name or password is wrong.")
    assert len(stored(folder)) == before, "nothing was saved meanwhile"
    log_in_again(page, "Dr A", PASSWORD)
    expect(page.locator("#saved")).to_contain_text("Saved case")
    expect(dialog).to_have_count(0)
    saved_once(folder, before)


def test_somebody_else_does_not_save_it(page: Page, dicom_file: Path, folder: Path) -> None:
    before = len(stored(folder))
    upload(page, dicom_file)
    scored(page)
    choose(page)
    end_all_sessions(folder)
    page.locator("#save").click()
    log_in_again(page, "Dr B", PASSWORD)
    expect(page.locator(".finding.none")).to_have_count(2)
    assert page.evaluate("window.gradio_config.username") == "Dr B"
    assert len(stored(folder)) == before


def test_a_program_is_turned_away_with_a_reason(page: Page, dicom_file: Path) -> None:
    upload(page, dicom_file)
    scored(page)
    upload(page, {"name": "setup.exe", "mimeType": "", "buffer": b"MZ\x90\x00" + bytes(5000)})
    expect(page.locator(".toast-wrap, .toast-body").first).to_contain_text("setup.exe is of no known image type")
    expect(page.locator(".finding.positive, .finding.negative")).to_have_count(2)  # the open scan stays
    upload(page, dicom_file)
    scored(page)


def test_a_bomb_does_not_go_off(page: Page, dicom_file: Path) -> None:
    """A PNG of a thousand bytes that claims to unpack to 3.6 GB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    upload(page, {"name": "bomb.png", "mimeType": "image/png", "buffer": bomb})
    expect(page.locator(".refusal")).to_contain_text("claims more pixels than a scan has")
    upload(page, dicom_file)
    scored(page)


def test_the_database_is_gone_for_a_while(page: Page, dicom_file: Path, folder: Path) -> None:
    before = len(stored(folder))
    upload(page, dicom_file)
    scored(page)
    choose(page)
    (folder / "r.db").rename(folder / "r.away")
    try:
        page.locator("#save").click()
        expect(page.locator(".toast-body").first).to_contain_text("the review store does not answer; nothing was saved")
        assert "Saved" not in page.locator("#saved").inner_text()
    finally:
        (folder / "r.away").rename(folder / "r.db")
    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text("Saved case")
    saved_once(folder, before)
