"""What can be read on the page, and where it stands."""

import re

import pytest
from playwright.sync_api import Page


@pytest.fixture
def page(reader: Page, url: str) -> Page:
    reader.goto(url)
    reader.wait_for_selector("#upload")
    return reader


def contrast(page: Page, selector: str, pseudo: str = "") -> float:
    """The ratio of WCAG 2.2 (1.4.3) between an element's text and its ground."""
    colours = page.evaluate(
        "([selector, pseudo]) => { const element = document.querySelector(selector);"
        " return [getComputedStyle(element, pseudo || null).color, getComputedStyle(element).backgroundColor]; }",
        [selector, pseudo],
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_buttons_under_the_mouse_and_days_to_be_typed_are_readable(page: Page) -> None:
    for button in ("#upload", "#refresh", "#next-case"):
        before = contrast(page, button)
        page.hover(button)
        page.wait_for_timeout(400)  # its colours fade
        assert contrast(page, button) > 0.7 * before > 2.5, button
    days = page.locator("#filters .day input")
    assert [days.nth(i).get_attribute("placeholder") for i in range(2)] == ["YYYY-MM-DD"] * 2
    assert contrast(page, "#filters .day input", "::placeholder") >= 4.5


@pytest.mark.parametrize("height", [768, 420])
def test_the_keys_are_in_the_middle(page: Page, height: int) -> None:
    page.set_viewport_size({"width": 1366, "height": height})
    page.keyboard.press("?")
    keys = page.locator("#keys")
    keys.wait_for()
    box = keys.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] / 2 == pytest.approx(1366 / 2, abs=1)
    assert box["y"] + box["height"] / 2 == pytest.approx(height / 2, abs=1)
    assert box["height"] <= 0.9 * height + 1, "higher than the window, it scrolls"
