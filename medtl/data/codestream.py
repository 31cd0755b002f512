"""How large a compressed image says that it is, before a decoder is asked to make it."""

import struct

# SOF0 to SOF15 and JPEG-LS's SOF55, without DHT, JPG and DAC between them (ITU-T T.81 B.1.1.3, T.87 C.1.1).
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_STANDALONE = {0x01, 0xFF, *range(0xD0, 0xD9)}
_J2K = b"\xff\x4f\xff\x51"


def codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and samples a pixel of a JPEG, JPEG-LS or JPEG 2000 image; None where it does not say."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg_size(frame)
        start = frame.find(_J2K, 0, 4096)  # a JP2 file has boxes before the codestream
        return None if start < 0 else _j2k_size(frame[start:][:64])
    except (IndexError, struct.error):
        return None


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2  # fill bytes
            continue
        if marker in _FRAME_HEADERS:
            rows, columns, samples = struct.unpack(">HHB", frame[place + 5 : place + 10])
            return (rows, columns, samples) if rows else None  # 0: said after the first scan (B.2.5)
        place += 2 + int(struct.unpack(">H", frame[place + 2 : place + 4])[0])
    return None


def _j2k_size(header: bytes) -> tuple[int, int, int]:
    """The SIZ marker, ITU-T T.800 A.5.1."""
    right, bottom, left, top = struct.unpack(">4I", header[8:24])
    return bottom - top, right - left, struct.unpack(">H", header[40:42])[0]
