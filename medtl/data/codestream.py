"""What a compressed image says that it is, before a decoder is asked to make it."""

import struct
from dataclasses import dataclass

START_OF_SCAN = b"\xff\xda"
# SOF0 to SOF15 and JPEG-LS's SOF55, without DHT, JPG and DAC between them (ITU-T T.81 B.1.1.3, T.87 C.1.1).
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
# What may stand before them: tables, restart interval, application data, comments (B.2.4), JPEG-LS parameters.
_BEFORE_FRAME = {0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xF8, 0xFE}
_END_OF_IMAGE = b"\xff\xd9"
_J2K, _JP2 = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP"


@dataclass(frozen=True, kw_only=True)
class CodestreamHead:
    """The size of a JPEG, JPEG-LS or JPEG 2000 image.

    Args:
        rows: its height.
        columns: its width.
        samples: how many values a pixel has.
        bits: of the first sample.
    """

    rows: int
    columns: int
    samples: int
    bits: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, columns and samples a pixel."""
        return self.rows, self.columns, self.samples


def codestream_head(frame: bytes) -> CodestreamHead | None:
    """What an image says of itself; None where it does not say, in which case no decoder should have it.

    Stricter than decoders, which skip what they do not know on the way to a header that would then not be the one that
    was looked at here.
    """
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg_head(frame)
        start = 0 if frame[:4] == _J2K else _in_jp2(frame)
        return None if start is None or frame[start : start + 4] != _J2K else _j2k_head(frame[start:][:64])
    except (IndexError, struct.error):
        return None


def has_end(frame: bytes) -> bool:
    """Whether a JPEG or JPEG-LS image has its end marker, behind the last scan.

    Without it libjpeg shows the rest in grey, and CharLS looks for it again at each byte: seconds for 20 KB.
    """
    end = frame.rfind(_END_OF_IMAGE)
    return end >= 0 and frame.find(START_OF_SCAN, end) < 0


def _jpeg_head(frame: bytes) -> CodestreamHead | None:
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in _FRAME_HEADERS:
            bits, rows, columns, samples = struct.unpack(">BHHB", frame[place + 4 : place + 10])
            # Of 0 rows: said after the first scan (B.2.5).
            return CodestreamHead(rows=rows, columns=columns, samples=samples, bits=bits) if rows else None
        if marker not in _BEFORE_FRAME:
            return None
        place += 2 + int(struct.unpack(">H", frame[place + 2 : place + 4])[0])
    return None


def _in_jp2(frame: bytes) -> int | None:
    """Where the codestream of a JP2 file starts (ITU-T T.800 I.4), which some write where PS3.5 A.4.4 has none."""
    if not frame.startswith(_JP2):
        return None
    place = 0
    while True:
        length, kind = struct.unpack(">I4s", frame[place : place + 8])
        if kind == b"jp2c":
            palette = b"pclr" in frame[:place]  # of up to 255 samples, which the codestream says nothing of
            return None if palette else place + (16 if length == 1 else 8)
        if length < 8:
            return None
        place += length


def _j2k_head(header: bytes) -> CodestreamHead:
    """The SIZ marker, ITU-T T.800 A.5.1."""
    right, bottom, left, top = struct.unpack(">4I", header[8:24])
    samples, bits = struct.unpack(">HB", header[40:43])
    return CodestreamHead(rows=bottom - top, columns=right - left, samples=samples, bits=(bits & 0x7F) + 1)
