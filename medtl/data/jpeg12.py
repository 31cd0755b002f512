"""JPEG of 12 bits (Process 2 and 4), as old radiographs have it.

pydicom's GDCM plugin takes this transfer syntax for 8 bits only; GDCM itself decodes 12 bits as dcmtk does.
"""

import gdcm
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.0",)}
"""What pydicom asks of a plugin."""
PLUGIN = "medtl"


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded here; pydicom asks."""
    return bool(uid == JPEGExtended12Bit)


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode a grey frame of 9 to 12 bits."""
    if runner.samples_per_pixel != 1 or runner.bits_allocated != 16:
        raise NotImplementedError("JPEG of 12 bits in colour")
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, runner.pixel_representation))
    image.SetDataElement(element)
    if (text := image.GetBuffer()) is None:
        raise ValueError("GDCM cannot decode it")
    return bytes(text.encode("utf-8", "surrogateescape"))


def add_to_pydicom() -> None:
    """Let pydicom know the plugin."""
    decoder = get_decoder(JPEGExtended12Bit)
    if PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(PLUGIN, ("medtl.data.jpeg12", "decode_frame"))
