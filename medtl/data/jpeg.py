"""JPEG, baseline and extended (8 and 12 bits) and lossless (2 to 16 bits), decoded by libjpeg-turbo; JPEG-LS by CharLS.

GDCM, which pydicom would ask, ends the whole process on some damaged headers. Here a frame gets only the memory that
the file's header speaks of, whatever it says of itself.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from imagecodecs import jpeg8_decode, jpegls_decode
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from medtl.data.codestream import START_OF_SCAN, codestream_head

SYNTAXES = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs",))
"""What pydicom asks of a plugin."""
PLUGIN = "medtl"
MOST_SCANS = 64
"""Progressive images have about ten; thousands are made to keep a decoder busy."""


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded here; pydicom asks."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame, grey or of three colours, which stay what they are.

    Raises:
        ValueError: the frame is not what the file's header says.
        imagecodecs.Jpeg8Error, imagecodecs.JpeglsError: it is damaged.
    """
    pixels, planes = _pixels(src, runner), False
    if runner.transfer_syntax in JPEGLSTransferSyntaxes:
        if planes := _in_planes(src, pixels):
            pixels = pixels.reshape(pixels.shape[2], *pixels.shape[:2])
        jpegls_decode(src, out=pixels)
    else:
        if src.count(START_OF_SCAN) > MOST_SCANS:
            raise ValueError(f"a JPEG image of more than {MOST_SCANS} scans")
        as_stored = None if pixels.ndim == 2 else "RGB"  # in and out: pydicom converts YBR by the header
        jpeg8_decode(src, out=pixels, colorspace=as_stored, outcolorspace=as_stored)
    runner.set_option("planar_configuration", int(planes))
    return pixels.astype(f"<u{runner.bits_allocated // 8}", copy=False).tobytes()


def _in_planes(src: bytes, pixels: npt.NDArray[Any]) -> bool:
    """Whether a JPEG-LS image has a scan for each colour (ITU-T T.87 C.2.3); CharLS gives one after the other."""
    return pixels.ndim == 3 and src[src.index(START_OF_SCAN) + 4] == 1


def _pixels(src: bytes, runner: DecodeRunner) -> npt.NDArray[Any]:
    """Memory for the pixels of a frame: (H, W), or (H, W, 3)."""
    head = codestream_head(src)
    if head is None or head.size != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError("the compressed image is not of the size that the header says")
    kind = np.dtype("u1" if head.bits <= 8 else "<u2")
    if 8 * kind.itemsize > runner.bits_allocated:
        raise ValueError(f"pixels of {head.bits} bits in {runner.bits_allocated}")
    return np.zeros(head.size[:2] if runner.samples_per_pixel == 1 else head.size, kind)


def add_to_pydicom() -> None:
    """Let pydicom know the plugin."""
    for syntax in SYNTAXES:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
