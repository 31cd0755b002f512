"""JPEG, baseline and extended (8 and 12 bits) and lossless (2 to 16 bits), decoded by libjpeg-turbo.

GDCM, which pydicom would ask, ends the whole process on some damaged headers. Here a frame gets only the memory that
the file's header speaks of, whatever it says of itself.
"""

import numpy as np
from imagecodecs import jpeg8_decode
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGTransferSyntaxes

from medtl.data.codestream import codestream_head

DECODER_DEPENDENCIES = dict.fromkeys(JPEGTransferSyntaxes, ("imagecodecs",))
"""What pydicom asks of a plugin."""
PLUGIN = "medtl"
MOST_SCANS = 64
"""Progressive images have about ten; thousands are made to keep a decoder busy."""
_START_OF_SCAN, _END = b"\xff\xda", b"\xff\xd9"


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame, grey or of three colours, which stay what they are.

    Raises:
        ValueError: the frame is not what the file's header says, or ends before its end.
        imagecodecs.Jpeg8Error: it is damaged.
    """
    head = codestream_head(src)
    if head is None or head.size != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError("the compressed image is not of the size that the header says")
    kind = np.dtype("u1" if head.bits <= 8 else "<u2")
    if 8 * kind.itemsize > runner.bits_allocated:
        raise ValueError(f"pixels of {head.bits} bits in {runner.bits_allocated}")
    if src.count(_START_OF_SCAN) > MOST_SCANS:
        raise ValueError(f"a JPEG image of more than {MOST_SCANS} scans")
    if src.rfind(_END) < src.rfind(_START_OF_SCAN):  # libjpeg would make the rest grey
        raise ValueError("the compressed image is too short: it has no end")
    grey = runner.samples_per_pixel == 1
    runner.set_option("planar_configuration", 0)
    pixels = np.zeros(head.size[:2] if grey else head.size, kind)
    as_stored = None if grey else "RGB"  # in and out: pydicom converts YBR by the header
    jpeg8_decode(src, out=pixels, colorspace=as_stored, outcolorspace=as_stored)
    return pixels.astype(f"<u{runner.bits_allocated // 8}", copy=False).tobytes()


def add_to_pydicom() -> None:
    """Let pydicom know the plugin."""
    for syntax in JPEGTransferSyntaxes:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
