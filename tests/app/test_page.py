"""The page as a reader meets it: headless Chromium against a real server."""

import itertools
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from medtl.inference.runtime import Detector, load
from medtl.review.store import ReviewStore
from medtl.review.verify import verify_reviews
from tests.app.acting import add_cases
from tests.app.conftest import PATIENCE_MS, served_here
from tests.app.people import PASSWORD, log_in

HOSTILE = "<img src=x onerror=window.hacked=1> ${7*7} {{value}}"
NEVER = itertools.count()


@pytest.fixture
def page(reader: Page, url: str) -> Iterator[Page]:
    """The page at the smallest screen; at its end, nobody else was asked for anything."""
    page = reader
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#upload")
    yield page
    assert [each for each in asked if not each.startswith((url, "data:", "blob:"))] == []
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("Object.values(localStorage).join().includes('chest.dcm')") is False


@pytest.fixture
def numbers(url: str, folder: Path, detector: Detector, tmp_path: Path) -> list[int]:
    """Five cases that nobody has read, more urgent than all before them."""
    return urgent_cases(folder / "r.db", tmp_path, detector)


def urgent_cases(reviews: Path, folder: Path, detector: Detector, **more: Any) -> list[int]:
    store, turn = ReviewStore(reviews), next(NEVER)
    received = f"{2019 - turn}-01-01"  # who waits longer is more urgent
    ids = add_cases(store, folder, detector.bundle.bundle_id, first_seed=1000 * turn, received_at=received, **more)
    store.close()
    return ids


def upload(page: Page, file: Any) -> None:
    page.set_input_files("#top input[type=file]", file)


def scored(page: Page) -> None:
    expect(page.locator(".finding.positive, .finding.negative")).to_have_count(2)


def shows(page: Page, *, width: int, height: int) -> None:
    """The scan's picture has these pixels."""
    expect(page.locator("#scan img")).to_have_js_property("naturalWidth", width)
    expect(page.locator("#scan img")).to_have_js_property("naturalHeight", height)


def is_open(page: Page, number: int) -> None:
    """This case is on the page, ready to be read."""
    expect(page.locator("#status")).to_contain_text(f"Case {number}")
    expect(page.locator("#status .busy")).to_have_count(0)
    expect(page.locator("#save")).to_be_enabled()


def stored(folder: Path) -> list[sqlite3.Row]:
    connection = sqlite3.connect(folder / "r.db")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT * FROM verdicts ORDER BY id").fetchall()
    connection.close()
    return rows


def inside(page: Page, *names: str, width: int) -> None:
    """All of these are seen whole, without scrolling."""
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    for name in names:
        box = page.locator(name).first.bounding_box()
        assert box is not None, name
        assert box["y"] >= 0 and box["y"] + box["height"] <= 768 and box["x"] >= 0, (name, box)
        assert box["x"] + box["width"] <= width, (name, box)
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_from_login_to_export(blank: Page, url: str, folder: Path, numbers: list[int]) -> None:
    page = blank
    page.goto(url)
    page.get_by_label("Name").fill("Dr A")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    first = page.get_by_role("button", name=f"Case {numbers[0]}", exact=True)
    expect(first).to_be_visible()
    expect(page.locator("#who")).to_contain_text("Dr A reader")
    expect(page.locator("#to-agreement")).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    is_open(page, numbers[1])
    before = len(stored(folder))
    page.keyboard.press("a")
    page.keyboard.press("2")
    page.keyboard.press("u")
    page.keyboard.press("n")
    is_open(page, numbers[0])
    expect(page.locator("#saved")).to_have_text(f"Saved case {numbers[1]} (verdicts {before + 1} to {before + 2})")
    assert [(row["finding"], row["verdict"], row["reader"]) for row in stored(folder)[before:]] == [
        ("pneumonia", "agree", "Dr A"),
        ("large_nodule", "unsure", "Dr A"),
    ]
    page.keyboard.press("w")
    expect(page.locator(f'[data-row="{numbers[1]}"]')).to_contain_text("read by you")
    expect(page.locator(f'[data-row="{numbers[0]}"]')).to_contain_text("you, until")

    page.context.clear_cookies()
    log_in(page, url, reviews=folder / "r.db", name="Dr L")
    page.goto(url)
    page.locator("#to-agreement").click()
    expect(page.locator("#report")).to_contain_text("Agreement with the detector")
    expect(page.locator("#report svg").first).to_be_visible()
    with page.expect_download() as download:
        page.locator("#export").click()
    assert download.value.suggested_filename == "labels.csv"
    text = Path(download.value.path()).read_text()
    assert text.startswith("scan_id,pneumonia,large_nodule\n") and ",1,\n" in text


def test_a_finding_is_marked_by_keys(blank: Page, url: str, folder: Path, numbers: list[int]) -> None:
    page = blank
    log_in(page, url, reviews=folder / "r.db", name="Dr L")
    page.goto(url)
    page.get_by_role("button", name=f"Case {numbers[0]}", exact=True).click()
    is_open(page, numbers[0])
    page.get_by_label("To teach").fill("Old  Device")
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(page.get_by_label("Present")).to_be_checked()
    page.keyboard.press("f")
    expect(page.get_by_label("Absent")).to_be_checked()
    inside(page, "#to-teach", "#marked", "#save", width=1366)
    page.keyboard.press("n")
    is_open(page, numbers[1])
    expect(page.get_by_label("Absent")).not_to_be_checked()
    expect(page.get_by_label("To teach")).to_have_value("Old  Device")
    row = stored(folder)[-1]
    assert (row["finding"], row["relabel"], row["bundle_id"]) == ("old_device", 0, "")
    page.locator("#to-agreement").click()
    expect(page.locator("#candidates")).to_contain_text("Old device")
    expect(page.locator("#candidates .needed").last).to_have_text("4 present and 3 absent more needed")
    expect(page.locator("#teach")).to_be_disabled()


def test_each_key(page: Page, folder: Path, numbers: list[int]) -> None:
    expect(page.locator("#next-case")).to_be_enabled()
    page.keyboard.press("n")
    is_open(page, numbers[0])

    def chosen(place: int) -> str:
        return page.locator(".choice").nth(place).locator("input:checked").get_attribute("value") or ""

    for key, word in (("a", "agree"), ("d", "disagree"), ("u", "unsure"), ("p", "unsure"), ("x", "unsure")):
        page.keyboard.press(key)
        expect(page.locator(".choice").nth(0).locator("input:checked")).to_have_value(word)
    page.keyboard.press("2")
    expect(page.locator(".one.current")).to_contain_text("Large nodule")
    expect(page.locator("#caption")).to_contain_text("large nodule")
    page.keyboard.press("d")
    expect(page.locator(".choice").nth(1).locator("input:checked")).to_have_value("disagree")
    assert chosen(0) == "unsure"

    page.keyboard.press("h")
    expect(page.locator("#heat")).to_be_hidden()
    page.keyboard.press("H")
    expect(page.locator("#heat")).to_be_visible()
    page.keyboard.press("i")
    expect(page.get_by_label("Invert")).to_be_checked()
    page.keyboard.press("b")
    expect(page.get_by_label("Bad image")).to_be_checked()
    page.keyboard.press("b")
    page.keyboard.press("r")
    expect(page.locator("#instead input")).to_be_focused()
    page.keyboard.press("Escape")

    page.keyboard.press("t")
    page.keyboard.type("and nothing else is done: 2 a d u n z ?")
    assert chosen(0) == "unsure" and chosen(1) == "disagree"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("d")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_hidden()
    assert chosen(1) == "disagree"

    before = len(stored(folder))
    page.keyboard.press("n")
    is_open(page, numbers[1])
    assert [row["note"] for row in stored(folder)[before:]] == ["and nothing else is done: 2 a d u n z ?"] * 2
    page.keyboard.press("s")
    is_open(page, numbers[2])
    page.keyboard.press("z")
    is_open(page, numbers[0])
    expect(page.locator("#saved")).to_have_text(f"Taken back: case {numbers[0]}")
    expect(page.locator("#note textarea")).to_have_value("and nothing else is done: 2 a d u n z ?")
    assert (chosen(0), chosen(1)) == ("unsure", "disagree")
    page.keyboard.press("w")
    expect(page.locator("#table")).to_be_visible()
    expect(page.locator("#case")).to_be_hidden()


def test_a_dicom_from_upload_to_verdict(page: Page, dicom_file: Path, folder: Path, bundle_folder: Path) -> None:
    page.locator("#to-case").click()
    places = {name: page.locator(name).bounding_box() for name in ("#viewer", "#note", "#save", "#footer", "#upload")}
    expect(page.locator("#save")).to_be_disabled()
    upload(page, dicom_file)
    scored(page)
    pneumonia = page.locator(".finding").first
    expect(pneumonia).to_contain_text("Pneumonia")
    expect(pneumonia).to_contain_text("positive: above the operating point (43.0 %)")
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
    expect(page.locator("#notice")).to_contain_text("Not saved: choose for at least one finding first")
    before = len(stored(folder))
    page.locator(".choice").nth(0).get_by_text("Disagree").click()
    page.locator("#note textarea").fill(HOSTILE)

    blocker = sqlite3.connect(folder / "r.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    page.locator("#save").click()
    expect(page.locator("#notice")).to_contain_text("another program holds it; close that program and save again")
    assert "Saved" not in page.locator("#saved").inner_text(), "said saved before it was"
    expect(page.locator(".choice").nth(0).locator("input:checked")).to_have_value("disagree")
    assert page.locator("#note textarea").input_value() == HOSTILE
    blocker.execute("ROLLBACK")
    page.locator("#save").dblclick()
    expect(page.locator("#saved")).to_contain_text("Saved case")
    expect(page.locator("#notice")).to_be_empty()
    rows = stored(folder)
    assert len(rows) == before + 1
    assert f"(verdict {rows[-1]['id']})" in page.locator("#saved").inner_text()
    assert (rows[-1]["finding"], rows[-1]["decision"], rows[-1]["verdict"]) == ("pneumonia", "positive", "disagree")
    assert (rows[-1]["note"], rows[-1]["reader"]) == (HOSTILE, "Dr A")
    # Another process and other threads: sums may be taken in another order.
    alone = load(bundle_folder).predict(dicom_file)["pneumonia"]
    assert rows[-1]["probability"] == pytest.approx(alone.probability, abs=1e-6)


def test_opacity_window_and_finding(page: Page, png_file: Path) -> None:
    upload(page, png_file)
    scored(page)
    shows(page, width=160, height=80)
    expect(page.locator("#header")).to_contain_text("not stated")
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
    expect(page.locator(".one.current")).to_contain_text("Large nodule")
    page.locator(".one").nth(0).click(position={"x": 60, "y": 12})
    expect(page.locator("#caption")).to_contain_text("pneumonia")


def test_why_a_file_was_refused(page: Page, dicom_file: Path, png_file: Path, folder: Path) -> None:
    upload(page, png_file)
    scored(page)
    upload(page, {"name": "half.dcm", "mimeType": "", "buffer": dicom_file.read_bytes()[:3000]})
    panel = page.locator(".refusal")
    expect(panel).to_contain_text("This file was refused")
    expect(panel).to_contain_text("half.dcm")
    assert "Traceback" not in page.content()
    expect(page.locator("#save")).to_be_disabled()
    expect(page.locator("#scan img, #heat img")).to_have_count(0)
    expect(page.locator(".finding.none")).to_have_count(2)
    turned_away(page)
    expect(panel).to_have_count(0)
    upload(page, dicom_file)
    scored(page)
    turned_away(page)
    expect(page.locator("#scan img")).to_have_count(1)
    kept = [path for path in (folder / "tmp").rglob("*") if path.is_file() and path.stat().st_size]
    assert [path for path in kept if "medtl-page" in str(path)] == [], "a scan stayed on disk"


def turned_away(page: Page) -> None:
    """Choose a file that does not get as far as the page."""
    with page.expect_file_chooser() as chooser:
        page.locator("#upload").click()
    with page.expect_response(lambda response: response.status == 415):
        chooser.value.set_files({"name": "r.db", "mimeType": "", "buffer": b"SQLite format 3\0" + bytes(4000)})


def test_another_reader_s_case(page: Page, url: str, folder: Path, numbers: list[int]) -> None:
    page.locator("#next-case").click()
    is_open(page, numbers[0])
    other = page.context.browser.new_context().new_page()
    other.set_default_timeout(PATIENCE_MS)
    log_in(other, url, reviews=folder / "r.db", name="Dr B")
    other.goto(url)
    row = other.locator(f'[data-row="{numbers[0]}"]')
    expect(row).to_contain_text("Dr A, until")
    row.click()
    expect(other.locator("#notice")).to_contain_text(f"Case {numbers[0]} is being read by Dr A until")
    expect(other.locator("#case")).to_be_hidden()
    other.evaluate(f"medtl.open({numbers[0]})")  # by its number
    other.wait_for_timeout(300)
    expect(other.locator("#scan img")).to_have_count(0)
    other.keyboard.press("n")
    is_open(other, numbers[1])
    other.close()


def test_a_case_that_is_clicked_while_another_opens_is_opened_next(page: Page, numbers: list[int]) -> None:
    page.evaluate(f"medtl.open({numbers[0]}); setTimeout(() => medtl.open({numbers[1]}), 20)")
    is_open(page, numbers[1])


def test_everything_has_a_name_for_a_screen_reader(page: Page, numbers: list[int]) -> None:
    page.get_by_role("button", name="Next case").click()
    is_open(page, numbers[0])
    for finding in ("Pneumonia", "Large nodule"):
        group = page.locator("fieldset, [role=radiogroup]").filter(has=page.get_by_role("radio"))
        expect(page.get_by_role("img", name=f"{finding}: ")).to_have_count(1)
        expect(group.filter(has_text="Agree").first).to_be_visible()
    for name in ("Save and next", "Skip", "Undo", "Worklist", "Case"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(1)
    for label in ("Note", "Bad image", "Invert", "It is instead", "Window"):
        expect(page.get_by_label(label, exact=True).first).to_be_visible()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("#case :is(button, input, textarea, img)")].filter((each) =>
          each.offsetParent !== null && !each.closest("label")
          && !(each.ariaLabel || each.alt || each.title || each.innerText || each.labels?.length)
        ).map((each) => each.outerHTML)"""
    )
    assert nameless == []


def test_the_essentials_fit(numbers: list[int], page: Page) -> None:
    for width in (1366, 1024):
        page.set_viewport_size({"width": width, "height": 768})
        expect(page.locator("#table")).to_be_visible()
        inside(page, "#filters", "#next-case", "#older", f'[data-row="{numbers[0]}"]', "#footer", width=width)
    page.locator("#next-case").click()
    is_open(page, numbers[0])
    for width in (1024, 1366):
        page.set_viewport_size({"width": width, "height": 768})
        inside(page, "#scan img", "#tools", "#invert", ".finding >> nth=1", ".choice >> nth=1", "#instead", "#bad",
               "#note", "#undo", "#skip", "#save", "#footer", width=width)  # fmt: skip
        picture, right = page.locator("#viewer").bounding_box(), page.locator("#right").bounding_box()
        assert picture and right and picture["x"] + picture["width"] <= right["x"] + 1 and picture["width"] > 600


def test_no_filter_s_choice_is_cut(page: Page) -> None:
    for width in (1366, 1024, 820):
        page.set_viewport_size({"width": width, "height": 768})
        expect(page.locator("#filters").get_by_label("Order")).to_have_value("Most urgent")
        cut = page.evaluate(
            """() => [...document.querySelectorAll("#filters input")].filter(
              (each) => each.scrollWidth > each.clientWidth).map((each) => each.value)"""
        )
        assert cut == [], width


COVERED = """(rows) => {
  const seen = (each) => each.checkVisibility({ visibilityProperty: true }) && each.getBoundingClientRect().width > 1;
  const wrong = [];
  for (const row of rows.map((name) => document.querySelector(name))) {
    const edge = row.getBoundingClientRect();
    const parts = [...row.querySelectorAll("button, textarea, output, .wrap-inner, label > span, input")].filter(
      (each) => seen(each) && !each.parentElement.closest("button, .wrap-inner") && getComputedStyle(each).opacity > 0);
    for (const [place, each] of parts.entries()) {
      const box = each.getBoundingClientRect();
      const name = `${row.id}: ${each.innerText || each.ariaLabel || each.className}`;
      if (box.left < edge.left - 1 || box.right > edge.right + 1) wrong.push(`${name} leaves its row`);
      if (each.scrollWidth > each.clientWidth + 1 && each.matches("button, .wrap-inner")) wrong.push(`${name} is cut`);
      for (const other of parts.slice(place + 1)) {
        const there = other.getBoundingClientRect();
        if (each.contains(other) || other.contains(each)) continue;
        if (Math.min(box.right, there.right) - Math.max(box.left, there.left) > 1
          && Math.min(box.bottom, there.bottom) - Math.max(box.top, there.top) > 1)
          wrong.push(`${name} covers ${other.innerText || other.ariaLabel || other.className}`);
      }
    }
  }
  return wrong;
}"""
"""What of these rows is cut, leaves its row, or covers something else."""


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1024, 768), (820, 1180)])
def test_nothing_is_cut_or_covered(
    width: int, height: int, verdict_first_url: str, blank: Page, second_store: Path, detector: Detector, tmp_path: Path
) -> None:
    page, number = blank, urgent_cases(second_store, tmp_path, detector)[0]
    page.set_viewport_size({"width": width, "height": height})
    log_in(page, verdict_first_url, reviews=second_store, name="Dr L")
    page.goto(verdict_first_url)
    expect(page.locator("#to-worklist")).to_have_attribute("aria-current", "page")
    row = page.locator(f'[data-row="{number}"]')
    expect(row).to_be_visible()
    assert page.evaluate(COVERED, ["#top", "#filters", "#takes"]) == []
    heights = [row.locator("td").nth(place).bounding_box()["height"] for place in (0, 2, 3, 4)]
    assert max(heights) < 45, "a cell is broken into several lines"
    page.locator(f'[data-case="{number}"]').click()
    is_open(page, number)
    expect(page.locator("#save")).to_have_text("Save and show answer")
    assert page.evaluate(COVERED, ["#tools", "#over", "#more", "#mark", "#sign"]) == []
    picture, right = page.locator("#viewer").bounding_box(), page.locator("#right").bounding_box()
    assert picture and right and min(picture["width"], picture["height"]) > 500
    assert right["y"] + right["height"] <= height and right["x"] + right["width"] <= width


@pytest.fixture
def second_store(tmp_path: Path) -> Path:
    return tmp_path / "second.db"


@pytest.fixture
def verdict_first_url(second_store: Path, bundle_folder: Path) -> Iterator[str]:
    with served_here(bundle_folder, second_store, readings=2, verdict_first=True) as url:
        yield url


def test_verdict_first_and_a_lead_decides(
    verdict_first_url: str, blank: Page, second_store: Path, detector: Detector, tmp_path: Path
) -> None:
    page, number = blank, urgent_cases(second_store, tmp_path, detector, readings_wanted=2)[0]
    heard: list[str] = []

    def listen(response: Any) -> None:
        if response.request.resource_type in ("fetch", "xhr", "eventsource", "document"):
            try:
                heard.append(response.text())
            except Exception:  # a stream that is open still, or a redirect
                heard.append("")

    for name, keys in (("Dr A", "p2x"), ("Dr B", "x2x")):
        page.context.clear_cookies()
        log_in(page, verdict_first_url, reviews=second_store, name=name)
        page.on("response", listen)
        page.goto(verdict_first_url)
        expect(page.locator(f'[data-row="{number}"]')).to_contain_text("hidden")
        page.locator(f'[data-case="{number}"]').click()
        is_open(page, number)
        expect(page.locator(".finding.none")).to_have_count(2)
        assert page.locator("#heat img").count() == 0 and "90.0 %" not in page.content()
        for key in keys:
            page.keyboard.press(key)
        page.remove_listener("response", listen)
        assert "90.0 %" not in "".join(heard) and "0.9," not in "".join(heard)
        page.keyboard.press("n")
        expect(page.locator(".finding.positive .number")).to_have_text("90.0 %")
        expect(page.locator("#heat img")).to_be_visible()
        expect(page.locator("#save")).to_have_text("Next case")
        page.locator("#save").click()
        expect(page.locator("#status")).not_to_contain_text(f"Case {number}")

    page.context.clear_cookies()
    log_in(page, verdict_first_url, reviews=second_store, name="Dr L")
    page.goto(verdict_first_url)
    page.locator("#next-to-decide").click()
    is_open(page, number)
    readers = page.locator(".readers").first
    expect(readers.locator(".reader").nth(0)).to_contain_text("Dr A present")
    expect(readers.locator(".reader").nth(1)).to_contain_text("Dr B absent")
    page.keyboard.press("p")
    page.keyboard.press("n")
    expect(page.locator("#saved")).to_contain_text(f"Saved case {number}")
    expect(page.locator("#notice")).to_contain_text("No case is left to decide here")
    assert verify_reviews(second_store).count == 5
