"""A lead teaches a finding on the page: the last case marked, the button pressed, and what came of it seen."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from medtl.inference.runtime import load
from medtl.review import cases, verdicts
from medtl.review.records import Verdict
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import new_case
from tests.app.conftest import served_here
from tests.app.people import log_in
from tests.app.test_page import is_open
from tests.conftest import picture

LEAD = User(name="Dr L", role="lead")
SPOTS = 8
"""Cases, every second one with a bright spot: as few as can be taught."""


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle that another may come to lie beside."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundles" / "chest"))


@pytest.fixture
def last(folder: Path, tmp_path: Path) -> int:
    """The only case that is not marked yet."""
    store, bundle_id = ReviewStore(tmp_path / "r.db"), load(folder).bundle.bundle_id
    new = []
    for seed in range(SPOTS):
        path = tmp_path / f"spot{seed}.png"
        Image.fromarray(picture(seed, spot=seed % 2 == 0)).save(path)
        new.append(new_case(path, bundle_id, (0.9, 0.1)))
    *marked, left = cases.add(store, new)
    for place, number in enumerate(marked):
        said = Verdict(case_id=number, bundle_id="", finding="bright_spot", verdict="disagree", relabel=1 - place % 2)
        cases.claim(store, number, by=LEAD)
        verdicts.save(store, [said], by=LEAD, token=f"spot number {number:06d}")
    store.close()
    return left


@pytest.fixture
def url(folder: Path, last: int, tmp_path: Path) -> Iterator[str]:
    with served_here(folder, tmp_path / "r.db") as url:
        yield url


def test_from_the_last_mark_to_a_bundle(blank: Page, url: str, last: int, folder: Path, tmp_path: Path) -> None:
    page = blank
    log_in(page, url, reviews=tmp_path / "r.db", name=LEAD.name)
    page.goto(url)
    page.locator("#to-agreement").click()
    expect(page.locator("#candidates .needed")).to_have_text("1 absent more needed")
    expect(page.locator("#teach")).to_be_disabled()
    page.keyboard.press("w")
    page.locator(f'#table [data-case="{last}"]').click()
    is_open(page, last)
    page.get_by_label("To teach").fill("Bright spot")
    page.keyboard.press("Escape")
    page.locator("#marked").get_by_text("Absent").click()
    expect(page.get_by_label("Absent")).to_be_checked()
    page.keyboard.press("n")
    expect(page.locator("#saved")).to_contain_text(f"Saved case {last}")

    page.locator("#to-agreement").click()
    expect(page.locator("#candidates")).to_contain_text("can be taught")
    expect(page.locator("#teach-what input")).to_have_value("Bright spot")
    page.get_by_role("button", name="Teach", exact=True).click()
    lesson = page.locator("#lesson .lesson")
    expect(lesson.locator("h3")).to_contain_text("Bright spot was taught in")
    expect(lesson).to_contain_text("4 positive and 4 negative scans of 8 patients")
    expect(lesson).to_contain_text("AUROC out of fold")
    expect(lesson).to_have_role("status")
    expect(page.locator("#notice")).to_be_empty()
    expect(page.locator("#teach")).to_be_enabled()

    # The command that the page shows starts what was taught.
    _, _, bundle, _, reviews = lesson.locator("pre").inner_text().split()
    assert (bundle, reviews) == (str(folder.with_name("chest-bright_spot")), str(tmp_path / "r.db"))
    taught = load(bundle)
    assert taught.bundle.findings == ("pneumonia", "large_nodule", "bright_spot")
    p = [taught.predict(tmp_path / f"spot{seed}.png")["bright_spot"].probability for seed in range(SPOTS)]
    assert sum(p[0::2]) > sum(p[1::2]), "it tells its own examples apart"
    page.reload()
    page.locator("#to-agreement").click()
    expect(page.locator("#lesson h3")).to_contain_text("Bright spot was taught in")
