"""Windows against values computed by hand."""

import numpy as np
import pytest

from app.windowing import AS_READ, BY_HAND, HU_WINDOWS, PERCENTILES, Window, displayed, preset, windows_of
from medtl.data.scan import Scan
from medtl.data.windows import windowed

RAMP = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (8, 1))
HOUNSFIELD = np.linspace(-1000, 1000, 4 * 4 * 4, dtype=np.float32).reshape(4, 4, 4)


def scan(pixels: np.ndarray, hu: np.ndarray | None = None) -> Scan:
    return Scan(pixels=pixels.astype(np.float32), hu=hu, source="a", sha256="0" * 64)


def shown(of: Scan, window: Window) -> np.ndarray:
    return displayed(of, window, lambda whole: whole)


def test_as_read_is_as_read() -> None:
    assert np.array_equal(shown(scan(RAMP), preset(scan(RAMP), AS_READ)), RAMP)
    assert preset(scan(RAMP), AS_READ) == Window(name=AS_READ, centre=50, width=100)


@pytest.mark.parametrize("name", [AS_READ, BY_HAND, *PERCENTILES])
def test_a_scan_in_colour_is_shown_as_it_is(name: str) -> None:
    rgb = np.dstack([RAMP, RAMP * 0.5, 1 - RAMP])
    photograph = Scan(pixels=RAMP, rgb=rgb, source="a", sha256="0" * 64)
    assert windows_of(photograph) == [AS_READ] and preset(photograph, name).name == AS_READ
    assert np.array_equal(shown(photograph, Window(name=name, centre=30, width=10)), rgb)


def test_by_hand_in_percent() -> None:
    values = np.array([[0.0, 0.2, 0.3, 0.4, 0.5, 1.0]] * 2)
    # black at 30 - 40 / 2 = 10 %, white at 50 %
    found = shown(scan(values), Window(name=BY_HAND, centre=30, width=40))
    assert np.allclose(found[0], [0, 0.25, 0.5, 0.75, 1, 1], atol=1e-6)


def test_by_hand_in_hounsfield_units() -> None:
    ct = scan((HOUNSFIELD + 1000) / 2000, HOUNSFIELD)
    found = displayed(ct, Window(name=BY_HAND, centre=40, width=80), lambda whole: whole[2])
    # PS3.3 C.11.2.1.2.1: from (centre - 0.5) - (width - 1) / 2, and as far up
    assert np.allclose(found, np.clip((HOUNSFIELD[2] - 39.5) / 79 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize("name", PERCENTILES)
def test_presets_keep_the_order_and_all_but_the_soft_one_use_the_range(name: str) -> None:
    of = scan(RAMP * 0.5 + 0.2)
    found = shown(of, preset(of, name))[0]
    assert (np.diff(found) >= 0).all()
    low, high = (0.0, 1.0) if not name.startswith("Soft") else (1 / 7, 6 / 7)  # 1.4 times as wide
    assert (found.min(), found.max()) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_presets_ignore_black_borders() -> None:
    bordered = np.zeros((100, 100), np.float32)
    bordered[40:60, 40:60] = np.linspace(0.4, 0.6, 20, dtype=np.float32)
    inside = shown(scan(bordered), preset(scan(bordered), "Full contrast"))[40:60, 40:60]
    assert inside.min() < 0.04 and inside.max() > 0.96


@pytest.mark.parametrize("name", [AS_READ, *PERCENTILES])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_scans_do_not_fail(name: str, value: float) -> None:
    flat = scan(np.full((5, 4), value))
    assert np.isfinite(shown(flat, preset(flat, name))).all()


def test_ct_has_the_windows_of_the_workstation() -> None:
    ct = scan((HOUNSFIELD + 1000) / 2000, HOUNSFIELD)
    assert windows_of(ct) == [AS_READ, *HU_WINDOWS, BY_HAND]
    assert preset(ct, "Brain (40 / 80 HU)") == Window(name="Brain (40 / 80 HU)", centre=40, width=80)
    assert preset(ct, "Full contrast").name == AS_READ, "a preset of radiographs does not suit a CT"
    assert preset(scan(RAMP), "Brain (40 / 80 HU)").name == AS_READ


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500)])
def test_the_sliders_of_a_ct_begin_at_the_window_it_was_read_with(centre: float, width: float) -> None:
    ct = scan(windowed(HOUNSFIELD, centre=centre, width=width), HOUNSFIELD)
    assert preset(ct, AS_READ) == Window(name=AS_READ, centre=centre, width=width)
    by_hand = Window(name=BY_HAND, centre=centre, width=width)
    assert np.allclose(shown(ct, by_hand), ct.pixels, atol=1e-6), "the first step of a slider starts from there"
    flat = scan(np.zeros((4, 4, 4)), HOUNSFIELD)
    assert preset(flat, AS_READ) == Window(name=AS_READ, centre=0, width=2000)


def test_a_volume_keeps_one_window_for_all_slices() -> None:
    values = np.random.default_rng(0).uniform(0.2, 0.8, (8, 8, 8)).astype(np.float32)
    values[3] *= 0.5
    of = scan(values)
    window = preset(of, "Full contrast")
    dim, plain = (displayed(of, window, lambda whole, i=i: whole[i]) for i in (3, 4))
    assert dim.mean() < 0.6 * plain.mean(), "a dim slice stays dim"
