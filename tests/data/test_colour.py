"""Colour from file to stored square. Oracles: the arrays that were written; Pillow's conversions and resizing."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageOps
from pydantic import ValidationError

from medtl.data.colour import is_in_colour
from medtl.data.dataset import open_dataset
from medtl.data.ingest import ingest
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.sources import find_files, read_bytes, read_scans
from medtl.errors import ConfigError, DatasetError, ScanError
from tests.data.picture_files import saved, tiff

GREY = PreprocessSpec(size_px=32)
COLOUR = PreprocessSpec(size_px=32, colour=True)
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 60, 3), np.uint8)
ROUNDING = 1e-6  # float32


def read(data: bytes) -> Scan:
    return read_bytes(data, name="x")


@given(arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9), st.just(3))), st.integers(1, 8))
def test_colours_are_those_that_were_written_and_pixels_their_luminance(values: np.ndarray, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    data = saved(Image.fromarray(values), exif=exif)
    scan = read(data)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) / 255
    if (values == values[..., :1]).all():
        assert scan.rgb is None
    else:
        assert scan.rgb == pytest.approx(seen, abs=ROUNDING)
    assert scan.pixels == pytest.approx(seen @ [0.299, 0.587, 0.114], abs=ROUNDING)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(Image.fromarray(PICTURE), "TIFF", compression="tiff_lzw"), PICTURE / 255),
        (tiff(PICTURE.astype(np.uint16) * 257, photometric="rgb"), PICTURE / 255),
        (tiff(np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"), PICTURE / 255),
        (saved(Image.fromarray(PICTURE).quantize(16)), None),
        (saved(Image.fromarray(PICTURE).quantize(16), "TIFF"), None),
        (saved(Image.fromarray(PICTURE), "JPEG"), None),
        (saved(Image.fromarray(PICTURE).convert("CMYK"), "JPEG"), None),
    ],
)
def test_other_files_agree_with_pillow(data: bytes, expected: np.ndarray | None) -> None:
    if expected is None:
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255
    assert read(data).rgb == pytest.approx(expected, abs=ROUNDING)


def test_what_is_transparent_is_black() -> None:
    opacity = np.full(PICTURE.shape[:2], 255, np.uint8)
    opacity[:10] = 0
    rgb = read(saved(Image.fromarray(np.dstack([PICTURE, opacity])))).rgb
    assert rgb is not None and rgb[:10].max() == 0
    assert rgb[10:] == pytest.approx(PICTURE[10:] / 255, abs=ROUNDING)


EIGHT = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3, "PlanarConfiguration": 0}


def test_dicom_in_red_green_and_blue(make_dicom: Callable[..., bytes]) -> None:
    scan = read(make_dicom(PICTURE, **EIGHT, PhotometricInterpretation="RGB"))
    assert scan.rgb == pytest.approx(PICTURE / 255, abs=ROUNDING)
    equal = read(make_dicom(np.repeat(PICTURE[..., :1], 3, axis=-1), **EIGHT, PhotometricInterpretation="RGB"))
    assert equal.rgb is None and equal.pixels == pytest.approx(PICTURE[..., 0] / 255, abs=ROUNDING)


def test_dicom_in_luminance_and_chrominance_is_what_pillow_makes_of_it(make_dicom: Callable[..., bytes]) -> None:
    ybr = np.asarray(Image.fromarray(PICTURE).convert("YCbCr"))
    rgb = read(make_dicom(ybr, **EIGHT, PhotometricInterpretation="YBR_FULL")).rgb
    expected = np.asarray(Image.fromarray(ybr, "YCbCr").convert("RGB")) / 255
    assert rgb == pytest.approx(expected, abs=1.01 / 255)  # one of both rounds, the other cuts off


def test_dicom_with_a_palette(make_dicom: Callable[..., bytes]) -> None:
    table = RNG.integers(0, 2**16, (256, 3), np.uint16)
    numbers = PICTURE[..., 0]
    keys: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        keys[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        keys[f"{name}PaletteColorLookupTableData"] = table[:, channel].tobytes()
    scan = read(make_dicom(numbers, **{**EIGHT, "PlanarConfiguration": None, **keys}))
    assert scan.rgb == pytest.approx(table[numbers] / 65535, abs=ROUNDING)


def test_an_npz_of_colours(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (3, 9, 7, 3), np.uint8)
    images[2] = images[2, ..., :1]
    np.savez(tmp_path / "x.npz", train_images=images)
    found = [each.scan for each in read_scans(find_files([tmp_path / "x.npz"])[0])]
    assert found[1].rgb == pytest.approx(images[1] / 255, abs=ROUNDING) and found[2].rgb is None


@given(arrays(np.uint8, st.tuples(st.integers(2, 90), st.integers(2, 90), st.just(3))))
def test_each_colour_is_stored_as_pillow_resizes_it(values: np.ndarray) -> None:
    scan = read(saved(Image.fromarray(values)))
    block = COLOUR.stored(scan)
    assert block.shape == COLOUR.stored_shape == (3, 32, 32)
    take, put = COLOUR.placement(COLOUR.scaled_shape(scan))
    height, width = COLOUR.scaled_shape(scan)
    for channel in range(3):
        oracle = Image.fromarray(np.ascontiguousarray(values[..., channel])).resize((width, height), 2)
        # Pillow rounds between both directions where it resizes bytes.
        assert np.abs(block[channel][put].astype(int) - np.asarray(oracle)[take]).max() <= 1


@given(arrays(np.uint8, st.tuples(st.integers(2, 50), st.integers(2, 50))))
def test_a_grey_scan_has_three_equal_channels_and_its_square_is_as_before(values: np.ndarray) -> None:
    scan = read(saved(Image.fromarray(values)))
    assert scan.rgb is None
    block = COLOUR.stored(scan)
    assert (block == GREY.stored(scan)).all()
    assert np.array_equal(COLOUR.grey(block), GREY.stored(scan)) and COLOUR.grey(block[None]).shape == (1, 1, 32, 32)


def test_where_colour_is_not_stored_luminance_is() -> None:
    scan = read(saved(Image.fromarray(PICTURE)))
    assert np.array_equal(GREY.stored(scan), GREY.stored(Scan(pixels=scan.pixels, source="", sha256="")))


def test_colours_of_another_size_or_range_are_refused() -> None:
    pixels = np.zeros((4, 5), np.float32)
    with pytest.raises(ScanError, match="colours of 5 x 4 x 3, pixels of 4 x 5"):
        Scan(pixels=pixels, rgb=np.zeros((5, 4, 3), np.float32), source="x", sha256="")
    with pytest.raises(ScanError, match=r"colours from 2.0 to 2.0; expected 0 to 1"):
        Scan(pixels=pixels, rgb=np.full((4, 5, 3), 2, np.float32), source="x", sha256="")


def test_a_spec_from_before_there_was_colour_is_read_and_written_as_it_was() -> None:
    before = {"dims": 2, "size_px": 64, "spacing_mm": None, "window": [], "input_px": None}
    spec = PreprocessSpec.model_validate(before)
    assert not spec.colour and spec.model_dump(mode="json") == before
    again = PreprocessSpec.model_validate_json(COLOUR.model_dump_json())
    assert again == COLOUR and again.channels == 3
    assert not again.same_storage(GREY)
    assert COLOUR.words() == "images of 32 px in colour"
    assert COLOUR.options(instead_of=GREY) == "--size-px 32 --colour"
    assert GREY.options(instead_of=COLOUR) == "--size-px 32 --no-colour"
    for wrong in ({"window": ("lung",)}, {"dims": 3, "spacing_mm": 1.0}):
        with pytest.raises(ValidationError, match="colour is for images without a window"):
            PreprocessSpec.model_validate({"colour": True} | wrong)


def noisy(seed: int, *, level: float = 0.5) -> np.ndarray:
    """A grey picture (128, 160) with much noise."""
    noise = np.random.default_rng(seed).normal(level, 0.2, (128, 160))
    return (np.clip(noise, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_what_jpeg_leaves_of_a_grey_film_is_no_colour(quality: int) -> None:
    film = Image.merge("RGB", [Image.fromarray(noisy(1))] * 3)
    assert not is_in_colour(read(saved(film, "JPEG", quality=quality)))
    # As photographed: the sensor's own noise in each colour, and a slight cast.
    photographed = noisy(1)[..., None] * [1.0, 0.98, 0.97] + RNG.normal(0, 2, (128, 160, 3))
    image = Image.fromarray(np.clip(photographed, 0, 255).astype(np.uint8))
    assert not is_in_colour(read(saved(image, "JPEG", quality=quality)))


def test_a_screen_with_some_coloured_marks_is_grey() -> None:
    screen = Image.merge("RGB", [Image.fromarray(noisy(2, level=0.2))] * 3)
    pen = ImageDraw.Draw(screen)
    pen.rectangle((150, 20, 155, 90), fill=(255, 120, 0))  # a colour bar
    pen.line((30, 40, 90, 80), fill=(255, 255, 0), width=1)
    pen.text((4, 4), "12.3 mm", fill=(0, 255, 0))
    scan = read(saved(screen))
    assert scan.rgb is not None and not is_in_colour(scan)


@pytest.mark.parametrize(
    "tissue",
    [(215, 170, 150), (230, 190, 215), (90, 50, 130), (180, 60, 30)],
    ids=["skin", "eosin", "nuclei", "retina"],
)
def test_tissue_is_coloured_also_on_a_nearly_empty_slide(tissue: tuple[int, int, int]) -> None:
    slide = np.full((128, 160, 3), 245, np.uint8)
    slide[40:84, 40:80] = tissue  # 9 % of it
    assert is_in_colour(read(saved(Image.fromarray(slide), "JPEG")))


def write(folder: Path, *, coloured: int, grey: int) -> Path:
    folder.mkdir()
    for i in range(coloured + grey):
        picture = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(picture if i < coloured else picture[..., 0]).save(folder / f"{i:02d}.png")
    return folder


@pytest.mark.parametrize(
    ("coloured", "grey", "said"),
    [
        (5, 4, "stored in colour: 5 of 9 images looked at are in colour (--no-colour to change)"),
        (4, 5, "stored as luminance: 4 of 9 images looked at are in colour (--colour to change)"),
        (0, 3, ""),
    ],
)
def test_ingest_keeps_colour_where_most_scans_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], coloured: int, grey: int, said: str
) -> None:
    data = ingest(write(tmp_path / "in", coloured=coloured, grey=grey), out=tmp_path / "ds", size_px=32)
    output, kept = capsys.readouterr().err, coloured > grey
    assert said in output and ("looked at" in output) == bool(said)
    assert data.spec.colour == kept and data.pixels(np.array([0])).shape == (1, 3 if kept else 1, 32, 32)
    assert ("at 32 px in colour (" in output) == kept
    report = (tmp_path / "ds/report.html").read_text()
    assert f"Stored as images of 32 px{' in colour' if kept else ''}." in report
    steps = set(data.manifest["steps"])
    assert ("in colour" in steps) == kept and ("colour to luminance" in steps) == (bool(coloured) and not kept)
    assert ("colour" in json.loads((tmp_path / "ds/dataset.json").read_text())["spec"]) == kept


def test_the_choice_can_be_made_and_what_is_added_follows_it(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in", coloured=3, grey=0), tmp_path / "ds"
    assert not ingest(source, out=tmp_path / "grey", size_px=32, colour=False).spec.colour
    assert ingest(write(tmp_path / "g", coloured=0, grey=3), out=tmp_path / "c", size_px=32, colour=True).spec.colour
    ingest(source, out=out, size_px=32)
    more = write(tmp_path / "more", coloured=0, grey=2)
    with pytest.raises(ConfigError, match=r"was ingested with another --colour \(True\); leave the option out"):
        ingest(more, out=out, add=True, colour=False)
    ingest(more, out=out, add=True)
    data = open_dataset(out)
    assert data.spec.colour and len(data) == 5
    added = data.pixels(np.array([4]))[0]
    assert (added == added[0]).all() and data.grey(np.array([3, 4])).shape == (2, 1, 32, 32)
    message = r"stores images of 32 px in colour, .* with --size-px 32 --no-colour"
    with pytest.raises(DatasetError, match=message):
        data.check_storage(GREY)


def test_a_file_that_cannot_be_read_has_no_say(tmp_path: Path) -> None:
    source = write(tmp_path / "in", coloured=2, grey=1)
    (source / "cut.png").write_bytes((source / "02.png").read_bytes()[:60])
    assert ingest(source, out=tmp_path / "ds", size_px=32).spec.colour


def test_warnings_and_copies_go_by_luminance(tmp_path: Path) -> None:
    """Pink skin saturates red, and red alone would hide what is red."""
    source = tmp_path / "in"
    source.mkdir()
    for i in range(4):
        shades = np.random.default_rng(i // 2).normal(150, 30, (8, 8)).repeat(8, axis=0).repeat(8, axis=1)
        skin = np.dstack([np.full_like(shades, 255), shades, shades])
        skin += np.random.default_rng(i).normal(0, 2, skin.shape)
        Image.fromarray(np.clip(skin, 0, 255).astype(np.uint8)).save(source / f"{i}.png")
    data = ingest(source, out=tmp_path / "ds", size_px=64)
    assert data.spec.colour and not data.manifest["warnings"].str.contains("clipped").any()
    assert data.manifest["patient_id"].nunique() == 4
    assert "2 pairs show the same picture" in (tmp_path / "ds/report.html").read_text()
