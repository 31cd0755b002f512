"""Warnings are of what was put there, and rare on real radiographs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from medtl.data.preprocess import PreprocessSpec
from medtl.data.quality import _percentile, _variance, has_text, warnings_of, with_odd_body_parts
from medtl.data.scan import Header, Scan
from medtl.data.sources import read_scan


def radiograph(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    lungs = 150 - 80 * np.exp(-((rows - 120) ** 2 / 6000 + (np.abs(columns - 128) - 55) ** 2 / 900))
    return np.clip(lungs + rng.normal(0, 6, (256, 256)), 0, 255).astype(np.uint8)


def said(image: np.ndarray, *, burned_in: bool | None = None) -> tuple[str, ...]:
    pixels = image.astype(np.float32) / np.float32(255)
    return warnings_of(Scan(pixels=pixels, source="x", sha256="", header=Header(burned_in=burned_in)), image)


@pytest.mark.parametrize("count", [1, 2, 99, 4096])
def test_figures_of_counts_are_numpys(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 256, count).astype(np.uint8)
    counts = np.bincount(values, minlength=256)
    assert _variance(counts) == pytest.approx(values.var(), abs=1e-9)
    for percent in (1, 50, 99):
        assert _percentile(counts, percent) == pytest.approx(np.percentile(values, percent), abs=1e-9)


def test_a_good_radiograph_has_none() -> None:
    assert said(radiograph()) == ()


def test_each_warning() -> None:
    assert said(np.full((256, 256), 9, np.uint8)) == ("blank",)
    clipped = radiograph()
    clipped[:, :60] = 255
    assert said(clipped) == ("clipped",)
    collimated = np.zeros((256, 256), np.uint8)
    collimated[40:200, 50:210] = radiograph()[40:200, 50:210]
    assert said(collimated) == ("collimated",)
    assert said(radiograph(), burned_in=True) == ("burned-in text",)


@pytest.mark.parametrize("size", [12, 14, 18])
def test_letters_are_seen_unless_the_header_denies_them(size: int) -> None:
    picture = Image.fromarray(radiograph())
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((8, 8), "SMITH JOHN 1953", fill=255, font=font)
    image = np.asarray(picture)
    assert said(image) == ("burned-in text",)
    assert said(image, burned_in=False) == ()


def test_a_side_marker_is_no_text() -> None:
    picture = Image.fromarray(radiograph())
    ImageDraw.Draw(picture).text((8, 8), "R", fill=255, font=ImageFont.load_default(24))
    assert not has_text(np.asarray(picture))


def test_few_real_radiographs_are_said_to_have_text(shared: Path) -> None:
    spec, paths = PreprocessSpec(), sorted((shared / "cxr_nih/images").glob("*.png"))[:200]
    flagged = [path.name for path in paths if has_text(spec.stored(read_scan(path))[0])]
    assert len(flagged) < 0.05 * len(paths), flagged


def test_body_parts_that_most_scans_do_not_show() -> None:
    table = pd.DataFrame({"body_part": ["CHEST"] * 18 + [None, "HAND"], "warnings": [""] * 19 + ["clipped"]})
    table = table.astype("string")
    assert with_odd_body_parts(table).tolist() == [""] * 19 + ["clipped; body part HAND, most are CHEST"]
    table["warnings"] = with_odd_body_parts(table)
    assert with_odd_body_parts(table).equals(table["warnings"]), "once is enough"
    table["body_part"] = pd.array(["CHEST", "HAND"] * 10, dtype="string")
    assert with_odd_body_parts(table).equals(table["warnings"]), "nothing is usual"
