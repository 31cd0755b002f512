"""What the viewer sends to the browser, and what comes back from it."""

import datetime
import io

import numpy as np
import pytest
from PIL import Image

from app.viewer_html import Look, beside_label, outline, pane
from app.windowing import AS_READ, BY_HAND, Window
from medtl.data.scan import Header, Scan
from medtl.review.records import Region


def scan(shape: tuple[int, ...], *, spacing_mm: tuple[float, ...] | None = None, day: int | None = None) -> Scan:
    acquired = None if day is None else datetime.date(2026, 1, 1) + datetime.timedelta(days=day)
    return Scan(
        pixels=np.zeros(shape, np.float32),
        spacing_mm=spacing_mm,
        header=Header(acquired=acquired),
        source="a",
        sha256="0" * 64,
    )


AS_IT_IS = Window(name=AS_READ, centre=50, width=100)


def test_an_image_says_its_geometry() -> None:
    html = pane(Look(scan=scan((20, 30), spacing_mm=(0.2, 0.1)), window=AS_IT_IS, plane="Axial", at=[]), "pictures/x")
    # Rows twice as far apart as columns: 40 units high.
    for part in (
        'src="pictures/x"',
        'viewBox="0 0 30 40"',
        'data-columns="30"',
        'data-rows="20"',
        'data-mm="3.0"',
        'data-slice=""',
    ):
        assert part in html, part
    assert 'alt="The scan, window As read"' in html and 'class="scale"' in html and "edge" not in html
    assert 'class="scale"' not in pane(Look(scan=scan((20, 30)), window=AS_IT_IS, plane="Axial", at=[]), "")


def test_of_a_scan_in_colour_no_window_is_said() -> None:
    rgb = np.random.default_rng(0).uniform(0, 1, (20, 30, 3)).astype(np.float32)
    photograph = Scan(pixels=np.zeros((20, 30), np.float32), rgb=rgb, source="a", sha256="0" * 64)
    look = Look(scan=photograph, window=Window(name=BY_HAND, centre=30, width=12.5), plane="Axial", at=[])
    assert 'alt="The scan, in colour"' in pane(look, "")
    with Image.open(io.BytesIO(look.png())) as picture:
        assert np.abs(np.asarray(picture) / 255 - rgb).max() < 0.51 / 255  # rounded to bytes


def test_a_slice_says_where_it_is() -> None:
    window = Window(name=BY_HAND, centre=30, width=12.5)
    look = Look(scan=scan((5, 7, 9), spacing_mm=(3.0, 1.0, 1.0)), window=window, plane="Coronal", at=[1, 4, 2])
    html = pane(look, "", label='prior "<x>')
    for part in ('viewBox="0 0 9 15"', 'data-rows="5"', 'data-slice="Coronal,4"', 'data-mm="9.0"', ">H</span>"):
        assert part in html, part
    assert "Coronal slice 5 of 7, window centre 30, width 12.5 %" in html
    assert "prior &quot;&lt;x&gt;" in html and "<x>" not in html


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (100, 39, "prior, 61 days before"),
        (100, 99, "prior, 1 day before"),
        (100, 100, "prior, the same day"),
        (100, 105, "other scan, 5 days later"),
        (100, None, "prior"),
        (None, 39, "prior"),
    ],
)
def test_what_the_other_scan_is(now: int | None, then: int | None, said: str) -> None:
    assert beside_label(scan((4, 4), day=now), scan((4, 4), day=then)) == said


def test_an_outline_is_a_closed_path() -> None:
    html = outline([np.array([[1.0, 2.0], [3.04, 2.0], [1.0, 5.0]])], (10, 20), alt="<b>")
    assert html.count('d="M1.0 2.0L3.0 2.0L1.0 5.0Z"') == 2 and 'viewBox="0 0 10 20"' in html and "<b>" not in html
    assert outline([], (10, 20), alt="") == ""


def test_what_readers_marked_lies_where_they_marked_it() -> None:
    box, elsewhere = Region(kind="box", points=((3, 12), (9, 18))), Region(kind="box", points=((0, 1), (30, 20)))
    look = Look(scan=scan((20, 30), spacing_mm=(0.2, 0.1)), window=AS_IT_IS, plane="Axial", at=[])
    html = pane(look, "", marked=[("Dr <A>: spot", box), ("Dr B: spot", elsewhere)])
    assert 'aria-label="Marked by readers: Dr &lt;A&gt;: spot; Dr B: spot"' in html and "Dr <A>" not in html
    # Rows twice as far apart as columns: 40 units high, so that row 12 is at 24.
    assert 'class="over" d="M3.0 24.0L9.0 24.0L9.0 36.0L3.0 36.0Z"' in html
    assert 'class="over" d="M0.0 2.0L30.0 2.0L30.0 40.0L0.0 40.0Z"' in html
    assert 'class="marks' not in pane(look, "")


def test_what_was_marked_on_another_slice_is_not_shown() -> None:
    look = Look(scan=scan((10, 20, 30)), window=AS_IT_IS, plane="Axial", at=[4, 0, 0])
    corners = ((1.0, 2.0), (5.0, 6.0), (1.0, 6.0))
    for plane, index, seen in (("Axial", 4, True), ("Axial", 5, False), ("Coronal", 4, False), (None, None, False)):
        region = Region(kind="polygon", points=corners, plane=plane, slice_index=index)
        html = pane(look, "", marked=[("Dr A: spot", region)])
        assert ('d="M1.0 2.0L5.0 6.0L1.0 6.0Z"' in html) is seen, (plane, index)
