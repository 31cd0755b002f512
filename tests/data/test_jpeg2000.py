"""JPEG 2000 at a lower resolution, against Pillow's decoder and against decoding everything."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

import medtl
from medtl.data.dicom import read_dicom
from medtl.data.jpeg2000 import codestream_of, decode_coarse, decode_whole, halved, halvings
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Scan
from medtl.data.sources import FoundFile, read_bytes, read_scans
from medtl.errors import ScanError

SPEC = PreprocessSpec(size_px=32)


def smooth(rows: int, columns: int, kind: str, bits: int) -> np.ndarray:
    """Blobs over the whole range of the type."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.normal(0, 1, (9, 9)).astype(np.float32))
    blobs = np.asarray(noise.resize((columns, rows), Image.Resampling.BICUBIC))
    low = 0 if kind.startswith("u") else -(2 ** (bits - 1))
    share = (blobs - blobs.min()) / np.ptp(blobs)
    return (share * (2**bits - 1) + low).round().clip(low, low + 2**bits - 1).astype(kind)


def encoded(values: np.ndarray, bits: int) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(values, bits_stored=bits, photometric_interpretation=2))


def jpeg2000(make_dicom: Callable[..., bytes], values: np.ndarray, bits: int = 12, **elements: Any) -> bytes:
    plain = {"BitsStored": bits, "HighBit": bits - 1, "BitsAllocated": 8 * values.dtype.itemsize}
    plain["PixelRepresentation"] = int(values.dtype.kind == "i")
    stream = elements.pop("stream", None) or encoded(values, bits)
    return make_dicom(values, TransferSyntaxUID=JPEG2000Lossless, PixelData=encapsulate([stream]), **(plain | elements))


def read(data: bytes, least_px: int | None = None) -> Scan:
    return read_dicom(data, name="x", sha256="0" * 64, least_px=least_px)


@pytest.mark.parametrize(("kind", "bits"), [("u1", 8), ("i1", 8), ("u2", 10), ("u2", 12), ("u2", 16), ("i2", 12)])
@pytest.mark.parametrize("shape", [(64, 64), (63, 90), (101, 64)])
def test_half_the_sides_are_what_pillow_decodes(kind: str, bits: int, shape: tuple[int, int]) -> None:
    stream = encoded(smooth(*shape, kind, bits), bits)
    head = codestream_of(stream)
    assert head is not None
    assert (head.rows, head.columns, head.bits, head.signed) == (*shape, bits, kind.startswith("i"))
    with Image.open(io.BytesIO(stream)) as image:
        image.reduce = 1  # type: ignore[assignment,method-assign]
        theirs = np.asarray(image).astype(np.int64)
    theirs = (theirs >> ((8 if bits <= 8 else 16) - bits)) - (2 ** (bits - 1) if head.signed else 0)
    ours = halved(stream, 1)
    assert ours is not None
    assert np.array_equal(ours, theirs)


def test_the_side_that_is_kept() -> None:
    head = codestream_of(encoded(smooth(300, 200, "u2", 12), 12))
    assert head is not None and head.levels == 5
    assert [halvings(head, least) for least in (301, 151, 150, 75, 38, 1)] == [0, 0, 1, 2, 3, 5]


def test_a_coarse_image_is_stored_as_the_whole_one_would_be(make_dicom: Callable[..., bytes]) -> None:
    """Blobs and a sharp edge, sides that are no multiples of a power of two."""
    values = smooth(301, 403, "u2", 12) // 2
    values[:, 201:] += 1500
    whole, coarse = read(jpeg2000(make_dicom, values)), read(jpeg2000(make_dicom, values), SPEC.least_px)
    assert coarse.pixels.shape == (76, 101) and coarse.shape == whole.shape == (301, 403)
    assert coarse.steps[0].endswith("at 1/4 of its sides") and "sides" not in whole.steps[0]
    native = make_dicom(values, BitsStored=12, HighBit=11)
    off = SPEC.stored(coarse).astype(int) - SPEC.stored(read(native))
    # A shift by half a step would leave 30 grey levels at the edge; the wavelet's own filter is a little sharper.
    assert abs(off).max() <= 12 and abs(off).mean() < 0.5
    assert np.array_equal(SPEC.stored(whole), SPEC.stored(coarse)), "the way to a probability does not matter"


def test_every_way_from_a_file_gives_the_same_block(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.dcm"
    path.parent.mkdir()
    path.write_bytes(jpeg2000(make_dicom, smooth(200, 160, "u2", 12)))
    (each,) = read_scans(FoundFile(path=path, name="a.dcm", root=path.parent), least_px=SPEC.least_px)
    shown = read_bytes(path.read_bytes(), name="a.dcm")
    assert each.scan.pixels.shape == (100, 80) and shown.pixels.shape == (200, 160), "the page shows every pixel"
    assert np.array_equal(SPEC.stored(each.scan), SPEC.stored(shown))
    data = medtl.ingest(path, out=tmp_path / "ds", size_px=32)
    assert np.array_equal(data.pixels(np.array([0]))[0], SPEC.stored(shown))
    assert data.manifest.loc[0, ["height_px", "width_px"]].tolist() == [200, 160], "the sides of the file"


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"PixelPaddingValue": 0}, "padding would be mixed with the image"),
        ({"BitsStored": 11, "HighBit": 10}, "header and codestream differ"),
        ({"PixelRepresentation": 1}, "header and codestream differ"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "numbers of colours have no mean"),
        ({"Rows": 200, "Columns": 100}, "no image of the header's size"),
    ],
)
def test_what_is_decoded_whole(make_dicom: Callable[..., bytes], elements: dict[str, Any], why: str) -> None:
    from medtl.data.dicom import parse

    plain = jpeg2000(make_dicom, values := smooth(100, 200, "u2", 12))
    assert decode_coarse(parse(plain, "x"), 50) is not None
    assert decode_coarse(parse(plain, "x"), 101) is None, "hardly larger than wanted"
    assert decode_coarse(parse(jpeg2000(make_dicom, values, **elements), "x"), 50) is None, why


@pytest.mark.parametrize(("kind", "bits"), [("u1", 8), ("i1", 8), ("u2", 12), ("u2", 16), ("i2", 12)])
def test_a_whole_radiograph_is_what_was_encoded(make_dicom: Callable[..., bytes], kind: str, bits: int) -> None:
    from medtl.data.dicom import parse

    values = smooth(101, 64, kind, bits)
    whole = decode_whole(parse(jpeg2000(make_dicom, values, bits, PixelPaddingValue=0), "x"))
    assert whole is not None and whole.dtype == values.dtype and np.array_equal(whole, values), "it is lossless"
    other = jpeg2000(make_dicom, values, bits, PixelRepresentation=int(kind.startswith("u")))
    assert decode_whole(parse(other, "x")) is None, "header and codestream differ: pydicom decides"


def test_other_threads_go_on_while_a_radiograph_is_decoded(make_dicom: Callable[..., bytes]) -> None:
    data = jpeg2000(make_dicom, smooth(1500, 1500, "u2", 12))
    turns, running = [], threading.Event()

    def count() -> None:
        while running.is_set():
            time.sleep(0.001)
            turns.append(time.perf_counter())

    running.set()
    other = threading.Thread(target=count)
    other.start()
    began = time.perf_counter()
    whole = read(data)
    took_s = time.perf_counter() - began
    running.clear()
    other.join()
    longest = max(np.diff([began, *(turn for turn in turns if turn < began + took_s), began + took_s]))
    assert whole.pixels.shape == (1500, 1500)
    assert longest < took_s / 3, "decoding is more than half of reading, and pylibjpeg stops all others for all of it"


def test_a_damaged_codestream_is_refused_as_ever(make_dicom: Callable[..., bytes]) -> None:
    values = smooth(200, 200, "u2", 12)
    data = jpeg2000(make_dicom, values, stream=encoded(values, 12)[:1500])
    codes = []
    for least_px in (None, 64):
        with pytest.raises(ScanError) as problem:
            read(data, least_px)
        codes.append((problem.value.code, problem.value.message))
    assert codes[0] == codes[1] and codes[0][0] in ("damaged", "truncated")


def test_damage_does_not_end_the_process() -> None:
    program = """if True:
        import numpy as np
        from medtl.data.jpeg2000 import codestream_of, halved
        from tests.data.test_jpeg2000 import encoded, smooth
        rng, whole, refused = np.random.default_rng(0), encoded(smooth(90, 70, "u2", 12), 12), 0
        for turn in range(400):
            stream = bytearray(whole)
            for _ in range(rng.integers(1, 9)):
                stream[rng.integers(200 if turn % 2 else len(stream))] ^= 1 << rng.integers(8)
            stream = bytes(stream[: rng.integers(len(stream)) if turn % 3 == 0 else None])
            head = codestream_of(stream)
            if head is not None and (head.rows, head.columns) == (90, 70):
                refused += halved(stream, 1) is None
        print("alive", refused)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.startswith("alive"), done.stderr
    assert int(done.stdout.split()[1]) > 20
