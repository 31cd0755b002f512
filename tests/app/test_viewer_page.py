"""The viewer in headless Chromium, alone on a page: pictures and heatmaps whose every pixel is known."""

import base64
import datetime
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from app import viewer as viewer_module
from app.case import Case
from app.pictures import Pictures
from app.viewer import NO_HEAT, Viewer
from medtl.data.scan import Header, Scan
from medtl.errors import ScanError
from medtl.inference.prediction import Prediction
from tests.app.conftest import free_port


@dataclass
class Looked:
    """In place of a detector: its heatmap is a disc (a ball) that is hottest in the middle; for occlusion smaller."""

    dims: int
    asked: list[str] = field(default_factory=list)

    @property
    def bundle(self) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(dims=self.dims), findings=("pneumonia", "large_nodule"))

    def explain(self, scan: Scan, finding: str, method: str) -> np.ndarray:
        self.asked.append(finding)
        grid = np.indices(scan.pixels.shape, np.float32)
        middle = HOT[self.dims] if finding == "pneumonia" else [0] * self.dims
        far = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(grid, middle, strict=True)))
        reach = RADIUS if method == "occlusion" else 2 * RADIUS
        return np.clip(1 - far / reach, 0, 1).astype(np.float32)


STAGE = "<style>#stage { position: fixed !important; inset: 46px 400px 30px 0; display: block !important; }</style>"
"""The room that the page leaves to the picture."""
HOT = {2: [40, 70], 3: [6, 12, 20]}
RADIUS = 10


def image(seed: int, *, days: int, hu: bool = False) -> Scan:
    """120 x 100 pixels of 0.5 mm, darkest at the left."""
    values = np.tile(np.linspace(0, 1, 100, dtype=np.float32), (120, 1))
    values[:10, :10] = 0.5 + seed / 100
    return Scan(
        pixels=values,
        hu=(values * 400 - 160).astype(np.float32) if hu else None,
        spacing_mm=(0.5, 0.5),
        header=Header(acquired=datetime.date(2026, 1, 1) + datetime.timedelta(days=days)),
        source=f"{seed}.dcm",
        sha256=f"{seed:016d}{0:048d}",
    )


def volume(shape: tuple[int, int, int], seed: int) -> Scan:
    values = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    return Scan(pixels=values, spacing_mm=(3.0, 1.0, 1.0), source=f"{seed}.nii", sha256=f"{seed:016d}{0:048d}")


def noise(seed: int) -> Scan:
    """More than travels inside the page."""
    values = np.random.default_rng(seed).uniform(0, 1, (800, 800)).astype(np.float32)
    return Scan(pixels=values, source=f"{seed}.png", sha256=f"{seed:016d}{0:048d}")


def photograph(seed: int) -> Scan:
    """Red above, blue below, of nearly equal luminance."""
    rgb = np.zeros((120, 100, 3), np.float32)
    rgb[:60], rgb[60:] = (0.8, 0.2, 0.2), (0.2, 0.3, 1.0)
    pixels = (rgb @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    return Scan(pixels=pixels, rgb=rgb, source=f"{seed}.png", sha256=f"{seed:016d}{0:048d}")


CASES = {
    2: {
        "first": (image(1, days=100), image(2, days=39)),
        "second": (image(3, days=0), None),
        "ct": (image(4, days=0, hu=True), None),
        "lost": (image(5, days=0), None),
        "large": (noise(6), None),
        "other": (noise(7), None),
        "photo": (photograph(8), image(9, days=3)),
    },
    3: {"first": (volume((12, 30, 40), 1), volume((23, 30, 40), 2)), "second": (volume((9, 9, 9), 3), None)},
}


def lost() -> Scan:
    raise ScanError("gone", "/archive/SECRET.dcm", "its file is gone <b>")


def served(dims: int) -> Iterator[str]:
    """A page with the viewer, and a button for each case."""
    detector, port = Looked(dims), free_port()
    with gr.Blocks() as blocks:
        state = gr.State(None)
        with gr.Row():
            buttons = {name: gr.Button(name, elem_id=name, min_width=80) for name in [*CASES[dims], "blinded", "gone"]}
        with gr.Row(elem_id="stage"):
            viewer = Viewer(detector, state, Pictures())  # type: ignore[arg-type]

        def open_case(name: str, *chosen: Any) -> dict[Any, Any]:
            if name == "gone":
                return viewer.cleared("nothing here") | {state: None}
            scan, prior = CASES[dims]["first" if name == "blinded" else name]
            nothing = {"stored": np.zeros((1, 8, 8), np.uint8), "embedding": np.zeros(1, np.float32)}
            prediction = Prediction(scan=scan, scores=(), bundle_id="b", **nothing)
            brings = lost if name == "lost" else None if prior is None else lambda: prior
            case = Case(name=name, prediction=prediction, prior=brings)
            return viewer.show(case, *chosen, finding=NO_HEAT if name == "blinded" else "pneumonia") | {state: case}

        for button in buttons.values():
            button.click(open_case, [button, *viewer.controls], [state, *viewer.outputs])
    theme = Path(viewer_module.__file__).with_name("theme.css")
    head = STAGE + viewer_module.HEAD
    blocks.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False, css_paths=[theme], head=head
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def image_url() -> Iterator[str]:
    yield from served(2)


@pytest.fixture(scope="module")
def slices_url() -> Iterator[str]:
    yield from served(3)


@pytest.fixture
def page(blank: Page, image_url: str) -> Iterator[Page]:
    problems: list[str] = []
    blank.on("pageerror", lambda error: problems.append(str(error)))
    blank.on(
        "request", lambda request: request.url.startswith((image_url, "data:", "blob:")) or problems.append(request.url)
    )
    blank.goto(image_url)
    show(blank, "first")
    yield blank
    assert problems == []


@pytest.fixture
def slices(blank: Page, slices_url: str) -> Page:
    blank.goto(slices_url)
    show(blank, "first")
    return blank


def show(page: Page, name: str) -> None:
    page.locator(f"#{name}").click()
    if name == "gone":
        return expect(page.locator("#scan img")).to_have_count(0)
    seed = {"first": 1, "blinded": 1, "second": 3, "ct": 4, "lost": 5, "large": 6, "other": 7, "photo": 8}[name]
    expect(page.locator("#scan svg.place")).to_have_attribute("data-scan", f"{seed:016d}")


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None
    return dict(found)


def drawn(page: Page) -> tuple[float, float, float]:
    """Where the picture's upper left pixel is on the screen, and how large a pixel is."""
    layer = box(page.locator("#scan svg.place"))
    columns, rows = (
        float(side) for side in (page.locator("#scan svg.place").get_attribute("viewBox") or "").split()[2:]
    )
    scale = min(layer["width"] / columns, layer["height"] / rows)
    return (
        layer["x"] + (layer["width"] - columns * scale) / 2,
        layer["y"] + (layer["height"] - rows * scale) / 2,
        scale,
    )


def at(page: Page, column: float, row: float) -> tuple[float, float]:
    left, top, scale = drawn(page)
    return left + column * scale, top + row * scale


def pixels(page: Page, selector: str = "#scan img") -> np.ndarray:
    data = (page.locator(selector).get_attribute("src") or "").split(",")[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def on_screen(page: Page, column: float, row: float) -> int:
    """Red of the screen's pixel there."""
    x, y = at(page, column, row)
    return int(np.asarray(Image.open(io.BytesIO(page.screenshot())))[int(y), int(x), 0])


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def region(page: Page) -> list[float]:
    text = page.locator("#region textarea, #region input").input_value()
    return [float(part) for part in text.split(",")[:4]] if text else []


def test_the_wheel_zooms_about_the_pointer_and_a_double_click_fits(page: Page) -> None:
    fitted = drawn(page)
    spot = at(page, 20, 90)
    page.mouse.move(*spot)
    page.mouse.wheel(0, -500)
    expect(page.locator("html")).to_have_attribute("style", re.compile(r"--zoom: 2\.71"))
    assert drawn(page)[2] == pytest.approx(fitted[2] * np.e, rel=1e-3)
    assert at(page, 20, 90) == pytest.approx(spot, abs=1)  # the pointer is on a whole pixel, and half of one times e
    for name in ("#heat img", "#contour svg"):
        assert box(page.locator(name)) == pytest.approx(box(page.locator("#scan svg.place")), abs=0.5), name
    page.mouse.dblclick(*spot)
    assert drawn(page) == pytest.approx(fitted, abs=0.01)
    page.mouse.wheel(0, 500)
    assert drawn(page) == pytest.approx(fitted, abs=0.01), "never smaller than the pane"


def test_buttons_and_keys_zoom_and_pan(page: Page) -> None:
    fitted = drawn(page)
    page.get_by_role("button", name="Zoom in").click()
    page.keyboard.press("+")
    assert drawn(page)[2] == pytest.approx(fitted[2] * 1.25**2, rel=1e-3)
    page.locator("#viewer").focus()
    before = drawn(page)
    page.keyboard.press("ArrowLeft")
    assert drawn(page)[0] == pytest.approx(before[0] + 40, abs=0.1)
    page.get_by_role("button", name="Zoom out").click()
    page.keyboard.press("0")
    assert drawn(page) == pytest.approx(fitted, abs=0.01)
    page.locator("#width input[type=number]").focus()
    page.keyboard.press("+")
    assert drawn(page) == pytest.approx(fitted, abs=0.01), "not while typing"


def test_dragging_pans_as_far_as_the_picture_goes(page: Page) -> None:
    for _ in range(4):
        page.keyboard.press("+")
    before, middle = drawn(page), box(page.locator("#shown"))
    start = (middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2)
    drag(page, start, (start[0] - 60, start[1] + 25))
    assert drawn(page) == pytest.approx((before[0] - 60, before[1] + 25, before[2]), abs=0.1)
    drag(page, start, (start[0] - 9000, start[1]))
    layer = box(page.locator("#scan svg.place"))
    assert layer["x"] + layer["width"] >= middle["x"] + middle["width"] - 21, "it cannot be lost"
    show(page, "second")
    assert drawn(page)[2] < before[2], "the next case is fitted"


def test_invert_is_the_negative_on_the_screen(page: Page) -> None:
    page.locator("#opacity").fill("0")
    page.locator("#outlined input").uncheck()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    before = [on_screen(page, column, 110) for column in (15.5, 50.5, 85.5)]
    page.get_by_label("Invert").check()
    after = [on_screen(page, column, 110) for column in (15.5, 50.5, 85.5)]
    assert [value + other for value, other in zip(before, after, strict=True)] == pytest.approx([255] * 3, abs=1)
    assert before == pytest.approx([255 * column / 99 for column in (15, 50, 85)], abs=3)
    assert asked == [], "at once, without the server"


def test_heatmap_and_outline_are_where_the_disc_is(page: Page) -> None:
    expect(page.locator("#caption")).to_contain_text("Outline: half of the map's largest value")
    left, top, scale = drawn(page)
    ring = box(page.locator("#contour path.over"))
    found = [(ring["x"] - left) / scale, (ring["y"] - top) / scale, ring["width"] / scale, ring["height"] / scale]
    # Values stand in the middle of pixels: the disc is around (70.5, 40.5).
    assert found == pytest.approx([60.5, 30.5, 20, 20], abs=0.5)
    assert page.locator("#heat").evaluate("element => getComputedStyle(element).opacity") == "0.4"
    page.locator("#opacity").fill("75")
    assert page.locator("#heat").evaluate("element => getComputedStyle(element).opacity") == "0.75"
    expect(page.locator("#opacity-shown")).to_have_text("75 %")
    page.locator("#outlined input").uncheck()
    expect(page.locator("#contour path.over")).to_be_hidden()
    expect(page.locator("#heat img")).to_be_visible()
    page.locator("#finding input").click()
    page.get_by_role("option", name="No heatmap").click()
    expect(page.locator("#heat img")).to_have_count(0)
    expect(page.locator("#caption")).to_have_text("")


def test_sliders_and_presets(page: Page) -> None:
    width = page.locator("#width input[type=number]")
    expect(page.get_by_label("Window")).to_have_value("As read")
    width.fill("50")
    width.press("Enter")
    expect(page.get_by_label("Window")).to_have_value("By hand")
    ramp = np.linspace(0, 1, 100)
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, window centre 50, width 50 %")
    # centre 50, width 50: black at 25 %, white at 75 %
    assert np.allclose(pixels(page)[-1], np.clip((ramp - 0.25) / 0.5, 0, 1) * 255, atol=0.51)
    page.get_by_label("Window").click()
    page.get_by_role("option", name="Bone").click()
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, window Bone (bright areas)")
    expect(width).not_to_have_value("50")
    show(page, "ct")
    expect(page.get_by_label("Window")).to_have_value("As read")
    expect(page.locator("#width label")).to_have_text("Width, HU")
    expect(width).to_have_value("401")  # 400 HU from the first to the last grey value: PS3.3 C.11.2.1.2.1
    page.get_by_label("Window").click()
    page.get_by_role("option", name="Mediastinum (40 / 400 HU)").click()
    expect(page.locator("#centre input[type=number]")).to_have_value("40")
    page.locator("#centre input[type=range]").fill("100")
    expect(page.get_by_label("Window")).to_have_value("By hand")
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, window centre 100, width 400 HU")


def test_the_scale_bar_has_the_length_that_it_says(page: Page) -> None:
    for _ in range(3):
        bar, (*_, scale) = box(page.locator("#scan .scale")), drawn(page)
        mm = float(page.locator("#scan .scale span").inner_text().removesuffix(" mm"))
        assert mm in (1, 2, 5, 10, 20, 50)
        assert bar["width"] == pytest.approx(mm / 0.5 * scale, abs=1.1)
        assert bar["width"] <= box(page.locator("#shown"))["width"] / 4 + 1
        for _ in range(4):
            page.keyboard.press("+")


def test_the_prior_stands_beside_and_moves_along(page: Page) -> None:
    prior = page.locator("#beside input")
    expect(page.locator("#prior")).to_be_hidden()
    prior.check()
    expect(page.locator("#prior .which")).to_have_text("prior, 61 days before")
    expect(page.locator("#prior img")).to_have_attribute("alt", "prior, 61 days before: The scan, window As read")
    assert pixels(page, "#prior img")[0, 0] == round(0.52 * 255) and pixels(page)[0, 0] == round(0.51 * 255)
    panes = [box(page.locator(name)) for name in ("#shown", "#prior")]
    assert panes[0]["width"] == pytest.approx(panes[1]["width"], abs=1) and panes[0]["y"] == panes[1]["y"]
    page.mouse.move(panes[1]["x"] + 100, panes[1]["y"] + 100)
    page.mouse.wheel(0, -400)
    drag(page, (panes[1]["x"] + 200, panes[1]["y"] + 200), (panes[1]["x"] + 230, panes[1]["y"] + 190))
    ours, theirs = (box(page.locator(f"{name} svg.place")) for name in ("#scan", "#prior"))
    assert ours["width"] > panes[0]["width"] * 1.5
    for side, pane in (("x", "x"), ("y", "y")):
        assert ours[side] - panes[0][pane] == pytest.approx(theirs[side] - panes[1][pane], abs=1)
    show(page, "second")
    expect(page.locator("#prior img")).to_have_count(0)
    expect(page.locator("#beside input")).to_be_disabled()


def test_a_prior_that_cannot_be_read_is_said_in_its_place(page: Page) -> None:
    show(page, "lost")
    page.locator("#beside input").check()
    expect(page.locator("#prior")).to_contain_text("The prior cannot be shown")
    expect(page.locator("#prior")).to_contain_text("its file is gone <b>")
    expect(page.locator("#prior")).not_to_contain_text("SECRET")
    panes = [box(page.locator(name)) for name in ("#shown", "#prior")]
    assert panes[0]["width"] == pytest.approx(panes[1]["width"], abs=1)
    expect(page.locator("#scan .which")).to_have_text("this scan")


def test_a_large_picture_arrives_by_itself(page: Page) -> None:
    asked: list[Route] = []
    page.route("**/pictures/*", lambda route: asked.append(route))
    image, place = page.locator("#scan img"), page.locator("#scan svg.place")

    def arrives(grey: int) -> None:
        file = io.BytesIO()
        Image.new("L", (800, 800), grey).save(file, "PNG")
        [route] = asked
        asked.clear()
        route.fulfill(body=file.getvalue(), content_type="image/png")
        page.wait_for_function("document.querySelector('#scan img').complete")
        expect(image).to_be_visible()

    def seen() -> int:
        shot = np.asarray(Image.open(io.BytesIO(page.locator("#shown").screenshot())).convert("L"))
        return int(shot[shot.shape[0] // 2, shot.shape[1] // 3])  # beside the heatmap

    show(page, "large")
    expect(image).to_have_attribute("src", re.compile(r"^pictures/[\w-]{43}$"))
    expect(image).to_be_hidden()  # what is there still is another scan
    expect(place).to_be_hidden()
    assert seen() == 0
    arrives(60)
    assert seen() == 60
    page.get_by_label("Window").click()
    page.get_by_role("option", name="Full contrast").click()
    expect(image).to_have_attribute("alt", "The scan, window Full contrast")
    assert image.evaluate("each => each.complete") is False and seen() == 60, "the old one stays meanwhile"
    arrives(90)
    assert seen() == 90
    show(page, "other")
    expect(image).to_be_hidden()
    assert seen() == 0
    asked.pop().fulfill(status=404)
    expect(image).to_be_visible()  # with its words, as it is no longer there


def test_a_region_is_marked_by_dragging(page: Page) -> None:
    page.keyboard.press("m")
    expect(page.locator(".hint")).to_contain_text("Drag a rectangle")
    expect(page.get_by_role("button", name="Mark region")).to_have_attribute("aria-pressed", "true")
    drag(page, at(page, 60, 50), at(page, 20, 30))
    assert region(page) == pytest.approx([20, 30, 60, 50], abs=0.3)
    expect(page.locator(".hint")).to_have_text("")
    rectangle, start, end = box(page.locator("#scan rect.over")), at(page, 20, 30), at(page, 60, 50)
    assert (rectangle["x"], rectangle["y"]) == pytest.approx(start, abs=2)
    assert (rectangle["x"] + rectangle["width"], rectangle["y"] + rectangle["height"]) == pytest.approx(end, abs=3)
    before = region(page)
    page.keyboard.press("+")
    drag(page, at(page, 50, 60), at(page, 40, 60))
    assert region(page) == before, "without M a drag pans"
    page.keyboard.press("m")
    drag(page, at(page, -10, 60), at(page, 50, 125))
    assert region(page) == pytest.approx([0, 60, 50, 120], abs=0.3), "a mark ends where the picture does"
    page.get_by_role("button", name="Clear mark").click()
    assert region(page) == []
    expect(page.locator("#scan rect")).to_have_count(0)


def test_a_region_is_marked_by_keys(page: Page) -> None:
    page.get_by_role("button", name="Mark region").click()
    page.keyboard.press("ArrowRight")
    first = region(page)
    assert [(first[0] + first[2]) / 2, (first[1] + first[3]) / 2] == pytest.approx([50, 60], abs=0.3)
    page.keyboard.press("ArrowRight")
    moved = region(page)
    step = 5 / drawn(page)[2]
    assert moved == pytest.approx([first[0] + step, first[1], first[2] + step, first[3]], abs=0.11)
    page.keyboard.press("Shift+ArrowDown")
    assert region(page) == pytest.approx([moved[0], moved[1], moved[2], moved[3] + step], abs=0.11)
    page.keyboard.press("Enter")
    kept = region(page)
    page.keyboard.press("m")
    page.keyboard.press("ArrowUp")
    assert region(page) != kept
    page.keyboard.press("Escape")
    assert region(page) == kept, "Escape brings back what was there"
    expect(page.locator("#scan rect.over")).to_have_count(1)
    expect(page.locator("#scan svg.place")).to_have_attribute("aria-label", re.compile("Marked region: columns"))
    show(page, "second")
    expect(page.locator("#scan rect")).to_have_count(0)
    assert region(page) == [], "the mark was another scan's"


def test_before_the_reader_has_spoken_the_heatmap_is_not_on_the_page(page: Page) -> None:
    show(page, "gone")
    show(page, "blinded")
    expect(page.locator("#heat img, #contour svg")).to_have_count(0)
    page.get_by_label("Window").click()
    page.get_by_role("option", name="Bone").click()
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, window Bone (bright areas)")
    expect(page.locator("#heat img, #contour svg")).to_have_count(0)


def test_slices_turn_by_the_wheel_and_keep_zoom(slices: Page) -> None:
    picture = slices.locator("#scan img")
    expect(picture).to_have_attribute("alt", "Axial slice 7 of 12, window As read")
    expect(slices.locator(".edge")).to_have_text(["R", "L", "A", "P"])
    middle = box(slices.locator("#viewer"))
    slices.mouse.move(middle["x"] + 300, middle["y"] + 200)
    slices.keyboard.down("Control")
    slices.mouse.wheel(0, -400)
    slices.keyboard.up("Control")
    expect(picture).to_have_attribute("alt", "Axial slice 7 of 12, window As read")
    zoomed = drawn(slices)
    slices.mouse.wheel(0, -100)
    expect(picture).to_have_attribute("alt", "Axial slice 8 of 12, window As read")
    assert drawn(slices) == pytest.approx(zoomed, abs=0.01)
    slices.mouse.wheel(0, 100)
    expect(picture).to_have_attribute("alt", "Axial slice 7 of 12, window As read")


def test_where_the_outline_does_not_reach_the_caption_says_so(slices: Page) -> None:
    expect(slices.locator("#contour svg")).to_have_count(1)
    slices.locator("#plane").get_by_text("Sagittal").click()
    expect(slices.locator(".edge")).to_have_text(["A", "P", "H", "F"])
    slices.locator("#slice input[type=range]").fill("1")
    expect(slices.locator("#caption")).to_contain_text("It stays below that on this slice.")
    expect(slices.locator("#contour svg")).to_have_count(0)


def test_two_fingers_zoom(page: Page) -> None:
    before, pane = drawn(page), box(page.locator("#shown"))
    touch = page.context.new_cdp_session(page)
    middle = (pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2)
    for kind, apart in (("touchStart", 50), ("touchMove", 75), ("touchMove", 100), ("touchEnd", 0)):
        points = [{"x": middle[0] + side * apart, "y": middle[1], "id": at} for at, side in enumerate((-1, 1))]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if apart else []})
    assert drawn(page)[2] == pytest.approx(2 * before[2], rel=0.02), "twice as far apart, twice as large"


def test_a_mark_belongs_to_its_slice(slices: Page) -> None:
    slices.keyboard.press("m")
    drag(slices, at(slices, 5, 5), at(slices, 25, 15))
    field = slices.locator("#region textarea, #region input")
    assert field.input_value().endswith(",Axial,6") and region(slices) == pytest.approx([5, 5, 25, 15], abs=0.3)
    slices.locator("#slice input[type=range]").fill("9")
    expect(slices.locator("#scan img")).to_have_attribute("alt", re.compile("Axial slice 9 "))
    expect(slices.locator("#scan rect")).to_have_count(0)
    slices.locator("#slice input[type=range]").fill("7")
    expect(slices.locator("#scan rect.over")).to_have_count(1)


def test_the_prior_of_a_volume_shows_the_same_place(slices: Page) -> None:
    slices.locator("#beside input").check()
    expect(slices.locator("#prior img")).to_have_attribute("alt", "prior: Axial slice 13 of 23, window As read")
    slices.locator("#slice input[type=range]").fill("12")
    expect(slices.locator("#prior img")).to_have_attribute("alt", "prior: Axial slice 23 of 23, window As read")


def test_every_control_has_a_name_and_text_is_readable(page: Page) -> None:
    unnamed = page.evaluate("""() => [...document.querySelectorAll("#picture input, #picture button")].filter((each) =>
        each.offsetParent && !each.getAttribute("aria-label") && !each.textContent.trim() && !each.labels?.length
    ).map((each) => each.outerHTML)""")
    assert unnamed == []
    faint = page.evaluate("""() => {
        const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
        const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {
            const share = rgb[at] / 255;
            return sum + weight * (share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
        }, 0);
        const ground = (node) => { for (; node; node = node.parentElement) {
            const found = parts(getComputedStyle(node).backgroundColor);
            if (found[3] === undefined || found[3] > 0.5) return found;
        } return [0, 0, 0]; };
        return [...document.querySelectorAll("#tools *, #over *, #turn *, #caption *")].filter((node) =>
            node.offsetParent && !node.closest(":disabled, :has(> input:disabled), #beside")
            && [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim())
        ).map((node) => {
            const [one, two] = [light(parts(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
            return [node.textContent.trim(), (one + 0.05) / (two + 0.05)];
        }).filter(([, contrast]) => contrast < 4.5);
    }""")
    assert faint == []


def test_another_method_draws_another_heatmap_until_the_next_case(page: Page) -> None:
    method, caption, contour = (page.locator(f"#{name}") for name in ("method", "caption", "contour"))
    expect(caption).to_contain_text("Grad-CAM: brighter is where the detector looked for pneumonia")
    wide = box(contour.locator("path").first)["width"]
    method.locator("input").click()
    page.get_by_role("option", name="Occlusion", exact=True).click()
    expect(caption).to_contain_text("Occlusion: brighter is where covering it lowers the score for pneumonia")
    assert box(contour.locator("path").first)["width"] == pytest.approx(wide / 2, rel=0.15)
    page.locator("#second").click()
    expect(caption).to_contain_text("Grad-CAM: brighter")
    expect(method.locator("input")).to_have_value("Grad-CAM")


def test_the_controls_fit_the_screen(page: Page) -> None:
    for width in (1366, 1024):
        page.set_viewport_size({"width": width, "height": 768})
        for row in ("#tools", "#over", "#buttons"):
            limits = box(page.locator(row))
            for control in page.locator(f"{row} input:visible, {row} button:visible").all():
                inside = box(control)
                right = inside["x"] + inside["width"]
                assert limits["x"] <= inside["x"] and right <= limits["x"] + limits["width"] + 0.5, (width, row)
        assert box(page.locator("#viewer"))["height"] > 400


def test_a_scan_in_colour_is_shown_in_colour_without_a_window(page: Page) -> None:
    show(page, "photo")
    assert pixels(page)[30, 50].tolist() == [204, 51, 51] and pixels(page)[90, 50].tolist() == [51, 77, 255]
    expect(page.locator("#scan img")).to_have_attribute("alt", "The scan, in colour")
    expect(page.locator("#heat img")).to_have_attribute("alt", "Heatmap for pneumonia")
    for control in ("#window input", "#centre input[type=number]", "#width input[type=number]"):
        expect(page.locator(control)).to_be_disabled()
    page.locator("#beside input").check()
    expect(page.locator("#prior img")).to_have_count(1)
    assert pixels(page, "#prior img").ndim == 2, "a grey prior stays grey"
    page.get_by_label("Invert").check()
    expect(page.locator("html")).to_have_class(re.compile("inverted"))
    page.get_by_label("Invert").uncheck()
    show(page, "second")
    assert pixels(page).ndim == 2
    for control in ("#window input", "#centre input[type=number]", "#width input[type=number]"):
        expect(page.locator(control)).to_be_enabled()
    page.locator("#centre input[type=number]").fill("30")
    page.locator("#centre input[type=number]").press("Enter")
    expect(page.locator("#scan img")).to_have_attribute("alt", re.compile("window centre 30"))
