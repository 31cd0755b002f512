"""Large pictures have addresses of their own, for the users they are shown to; small ones travel inside the page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from app.pictures import INLINE_BYTES, Pictures
from app.viewer_html import Look
from app.windowing import AS_READ, BY_HAND, Window
from medtl.data.scan import Scan
from tests.app.door import Door

AS_IT_IS = Window(name=AS_READ, centre=50, width=100)


def look(seed: int = 0, *, side: int = 800, window: Window = AS_IT_IS) -> Look:
    """Noise, which hardly can be compressed: 640 kB of 800 x 800."""
    values = np.random.default_rng(seed).integers(0, 256, (side, side)) / np.float32(255)
    scan = Scan(pixels=values.astype(np.float32), source="a", sha256=f"{seed:016d}{0:048d}")
    return Look(scan=scan, window=window, plane="Axial", at=[])


def grey(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_large_picture_is_its_owner_s_alone(door: Door) -> None:
    shown = look()
    address = "/" + door.page.pictures.source("Dr A", shown)
    answer = door.logged_in("Dr A").get(address)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "no-store" and len(answer.content) > INLINE_BYTES
    assert np.array_equal(grey(answer.content), np.rint(shown.scan.pixels * 255))
    for name in ("Dr B", "Dr L", "Boss"):
        refused = door.logged_in(name).get(address)
        assert refused.status_code == 403 and "another user" in refused.text
    assert door.browser().get(address).status_code == 401, "nobody is logged in"
    unknown = door.logged_in("Dr A").get("/pictures/" + "x" * 43)
    assert unknown.status_code == 404 and "no longer kept; open the case again" in unknown.text


@pytest.mark.parametrize("side", [800, 40])
def test_the_same_look_is_drawn_once(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, wide, drawn = Pictures(), Window(name=BY_HAND, centre=50, width=120), []
    png = Look.png
    monkeypatch.setattr(Look, "png", lambda self: drawn.append(self) or png(self))
    source = pictures.source("Dr A", look(side=side))
    assert pictures.source("Dr A", look(side=side)) == pictures.source("Dr B", look(side=side)) == source
    assert len(drawn) == 1
    others = {pictures.source("Dr A", look(1, side=side)), pictures.source("Dr A", look(side=side, window=wide))}
    assert len(others | {source}) == len(drawn) == 3


def test_a_picture_is_for_all_who_were_shown_it(door: Door) -> None:
    sources = {door.page.pictures.source(name, look(7)) for name in ("Dr A", "Dr B")}
    (address,) = sources
    answers = {name: door.logged_in(name).get("/" + address).status_code for name in ("Dr A", "Dr B", "Dr L")}
    assert answers == {"Dr A": 200, "Dr B": 200, "Dr L": 403}


def test_a_small_picture_travels_inside_the_page() -> None:
    source = Pictures().source("Dr A", look(side=40))
    assert source.startswith("data:image/png;base64,")
    assert np.array_equal(grey(base64.b64decode(source.partition(",")[2])), np.rint(look(side=40).scan.pixels * 255))


def test_old_pictures_give_way_and_are_drawn_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, browser = door.page.pictures, door.logged_in("Dr A")
    monkeypatch.setattr(pictures, "_most_bytes", 2_500_000)  # three of them
    first, second, third = ("/" + pictures.source("Dr A", look(seed)) for seed in (11, 12, 13))
    assert browser.get(first).status_code == 200  # it is the last that was looked at
    fourth = "/" + pictures.source("Dr A", look(14))
    assert [browser.get(each).status_code for each in (first, second, third, fourth)] == [200, 404, 200, 200]
    again = "/" + pictures.source("Dr A", look(12))
    assert again != second and browser.get(again).status_code == 200
