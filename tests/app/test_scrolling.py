"""Whatever is longer than the window can be reached: by the wheel, and by keys."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from app.worklist_view import ROWS
from medtl.inference.runtime import Detector
from medtl.review import cases
from medtl.review.records import NewCase, Score
from medtl.review.store import ReviewStore
from tests.app.acting import add_cases
from tests.app.conftest import served_here
from tests.app.people import log_in

UNCOVERED = """(each) => {
  const { left, width, top, bottom } = each.getBoundingClientRect();
  return [top + 2, bottom - 2].every((y) => each.contains(document.elementFromPoint(left + width / 2, y)));
}"""
"""Whether an element is on the screen, whole, and nothing lies over it."""


def uncovered(what: Locator) -> bool:
    what.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    return bool(what.evaluate(UNCOVERED))


def wheel(page: Page, over: str, down: int) -> None:
    page.hover(over, position={"x": 30, "y": 60})
    page.mouse.wheel(0, down)
    page.wait_for_timeout(600)  # it may glide


@pytest.fixture
def long_list(tmp_path: Path, detector: Detector) -> Path:
    """A store with a page of cases and a half; the first one has a scan."""
    store = ReviewStore(tmp_path / "r.db")
    add_cases(store, tmp_path, detector.bundle.bundle_id, received_at="2020-01-01")
    none = Score(finding="pneumonia", probability=0.1, threshold=0.5, decision="negative")
    cases.add(store, [
        NewCase(scan_id=f"s{number}", sha256=f"{number:064}", path=f"{number}.png",
                bundle_id=detector.bundle.bundle_id, scores=(none,))
        for number in range(ROWS + ROWS // 2)
    ])  # fmt: skip
    store.close()
    return tmp_path / "r.db"


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (820, 1180)])
def test_every_row_of_the_worklist_can_be_reached(
    width: int, height: int, long_list: Path, bundle_folder: Path, blank: Page
) -> None:
    page = blank
    page.set_viewport_size({"width": width, "height": height})
    with served_here(bundle_folder, long_list) as url:
        log_in(page, url, reviews=long_list)
        page.goto(url)
        rows = page.locator("#table [data-case]")
        expect(rows).to_have_count(ROWS)
        assert uncovered(rows.first) and not uncovered(rows.last)
        wheel(page, "#table", 10_000)
        assert uncovered(rows.last) and not uncovered(rows.first)
        expect(page.locator("#footer")).to_be_in_viewport(ratio=1)

        page.locator("#older").click()
        expect(page.locator("#position")).to_contain_text(f"Cases {ROWS + 1}")
        expect(rows.first).to_be_in_viewport()
        assert uncovered(rows.first), "the next page begins at its top"
        page.locator("#newer").click()
        expect(rows).to_have_count(ROWS)

        for _ in range(ROWS):
            page.keyboard.press("ArrowDown")
        expect(rows.last).to_be_focused()
        assert uncovered(rows.last)
        for _ in range(ROWS):
            page.keyboard.press("ArrowUp")
            assert uncovered(page.locator(":focus")), "not under the table's head"
        expect(rows.first).to_be_focused()


def test_the_case_and_the_report_scroll(long_list: Path, bundle_folder: Path, blank: Page) -> None:
    page = blank
    page.set_viewport_size({"width": 1366, "height": 480})
    with served_here(bundle_folder, long_list) as url:
        log_in(page, url, reviews=long_list, name="Dr L")
        page.goto(url)
        page.locator("#table [data-case]").first.click()
        expect(page.locator("#save")).to_be_enabled()
        last = page.locator("#header .header p").last
        assert not uncovered(last)
        wheel(page, "#facts", 10_000)
        assert uncovered(last)
        page.locator("#to-agreement").click()
        last = page.locator("#report section").last.locator("tr, p").last
        expect(last).to_be_attached()
        assert not uncovered(last)
        wheel(page, "#agreement", 20_000)
        assert uncovered(last)
