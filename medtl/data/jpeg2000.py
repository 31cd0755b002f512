"""JPEG 2000 at a lower resolution, and without Python's lock.

A radiograph of 3,000 pixels is stored with 256, so most of the work of decoding it would go into pixels that are
averaged away. The wavelet transform holds an image at half, a quarter, ... of its sides (ITU-T T.800 annex F), and
OpenJPEG can stop there. pylibjpeg-openjpeg has no option for it, and holds Python's lock while it decodes, but its
module exports OpenJPEG's own functions, which are called here. Where it does not export them, pylibjpeg decodes.
"""

import ctypes
import struct
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000, JPEG2000Lossless

_SIZ, _COD, _SOT = 0xFF51, 0xFF52, 0xFF90
_NO_LENGTH = {0xFF4F, 0xFF93, 0xFFD9}
_END = b"\xff\xd9"


@dataclass(frozen=True, kw_only=True)
class Codestream:
    """What the main header of an image with one component says (ITU-T T.800 A.5.1, A.6.1)."""

    rows: int
    columns: int
    bits: int
    signed: bool
    levels: int
    """How often the resolution can be halved."""


def codestream_of(stream: bytes) -> Codestream | None:
    """The main header; None of one that is damaged, has several components, or does not begin at the origin."""
    place, size, levels = 0, None, None
    try:
        while (marker := struct.unpack_from(">H", stream, place)[0]) != _SOT:
            if marker in _NO_LENGTH:
                place += 2
                continue
            length = struct.unpack_from(">H", stream, place + 2)[0]
            if marker == _SIZ:
                size = struct.unpack_from(">4I16xH4B", stream, place + 6)
            elif marker == _COD:
                levels = stream[place + 9]
            if marker < 0xFF00 or length < 2:
                return None
            place += 2 + length
    except (struct.error, IndexError):
        return None
    if size is None or levels is None:
        return None
    columns, rows, left, top, components, depth, *steps = size
    if (left, top, components, steps[:2]) != (0, 0, 1, [1, 1]) or levels > 32:
        return None
    return Codestream(rows=rows, columns=columns, bits=(depth & 0x7F) + 1, signed=depth > 0x7F, levels=levels)


def halvings(head: Codestream, least_px: int) -> int:
    """How often the resolution can be halved so that the longer side keeps at least `least_px` pixels."""
    times, longer = 0, max(head.rows, head.columns)
    while times < head.levels and -(-longer // 2 ** (times + 1)) >= least_px:
        times += 1
    return times


def decode_coarse(dataset: Dataset, least_px: int) -> tuple[npt.NDArray[Any], int] | None:
    """Stored values (H, W) of a JPEG 2000 radiograph at 1/2, 1/4, ... of its sides, rounded up, and how often halved.

    None where only the whole image will do: it is hardly larger than wanted, its decoder refuses (pydicom's says why),
    or values between two stored ones mean something else (colours, padding, lookup tables).

    Args:
        dataset: the header, and one frame of pixels.
        least_px: of the longer side.
    """
    large = max(int(dataset.Rows), int(dataset.Columns)) >= 2 * least_px - 1
    stream = _stream(dataset) if large and may_be_coarse(dataset) else None
    head = None if stream is None else codestream_of(stream)
    if stream is None or head is None or not _agrees(head, dataset) or not _library():
        return None
    times = halvings(head, least_px)
    values = _decoded(dataset, head, stream, times) if times else None
    return None if values is None else (values, times)


def decode_whole(dataset: Dataset) -> npt.NDArray[Any] | None:
    """Stored values (H, W) of a JPEG 2000 radiograph, while other threads go on.

    None where it is another kind of image, or the decoder refuses; pydicom's says why.
    """
    stream = _stream(dataset) if _is_grey(dataset) else None
    head = None if stream is None else codestream_of(stream)
    if stream is None or head is None or not _agrees(head, dataset) or not _library():
        return None
    return _decoded(dataset, head, stream, 0)


def may_be_coarse(dataset: Dataset) -> bool:
    """Whether an image could be decoded at a lower resolution, as far as its header says."""
    return (
        _is_grey(dataset)
        and not any(dataset.get(key) for key in ("ModalityLUTSequence", "VOILUTSequence"))
        and dataset.get("PixelPaddingValue") is None
    )


def _is_grey(dataset: Dataset) -> bool:
    """Whether it is one image in grey."""
    return (
        dataset.file_meta.TransferSyntaxUID in (JPEG2000, JPEG2000Lossless)
        and int(dataset.get("NumberOfFrames") or 1) == 1
        and dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    )


def _stream(dataset: Dataset) -> bytes | None:
    """The codestream, where it is whole."""
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return stream if stream[-64:].rstrip(b"\0").endswith(_END) else None


def _decoded(dataset: Dataset, head: Codestream, stream: bytes, times: int) -> npt.NDArray[Any] | None:
    values = halved(stream, times)
    if values is None or values.shape != (-(-head.rows // 2**times), -(-head.columns // 2**times)):
        return None
    return values.astype(f"{'i' if head.signed else 'u'}{int(dataset.BitsAllocated) // 8}")


def _agrees(head: Codestream, dataset: Dataset) -> bool:
    """Whether header and codestream say the same; where they do not, pydicom knows what to do."""
    return (head.rows, head.columns, head.bits, head.signed, 8 * -(-head.bits // 8)) == (
        int(dataset.Rows),
        int(dataset.Columns),
        int(dataset.BitsStored),
        int(dataset.PixelRepresentation) == 1,
        int(dataset.BitsAllocated),
    )


_UINT = ctypes.c_uint32


class _Component(ctypes.Structure):
    """opj_image_comp_t."""

    _fields_ = [
        *((name, _UINT) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd", "resno", "factor")),
        ("data", ctypes.POINTER(ctypes.c_int32)),
        ("alpha", ctypes.c_uint16),
    ]  # fmt: skip


class _Image(ctypes.Structure):
    """opj_image_t, as far as it is used."""

    _fields_ = [
        *((name, _UINT) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", ctypes.c_int),
        ("comps", ctypes.POINTER(_Component)),
    ]


_READ = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_SKIP = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_SEEK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_void_p)
_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "opj_version": (ctypes.c_char_p, []),
    "opj_create_decompress": (_POINTER, [_INT]),
    "opj_set_default_decoder_parameters": (None, [_POINTER]),
    "opj_setup_decoder": (_INT, [_POINTER, _POINTER]),
    "opj_stream_create": (_POINTER, [_SIZE, _INT]),
    "opj_stream_set_read_function": (None, [_POINTER, _READ]),
    "opj_stream_set_skip_function": (None, [_POINTER, _SKIP]),
    "opj_stream_set_seek_function": (None, [_POINTER, _SEEK]),
    "opj_stream_set_user_data_length": (None, [_POINTER, ctypes.c_uint64]),
    "opj_read_header": (_INT, [_POINTER, _POINTER, ctypes.POINTER(ctypes.POINTER(_Image))]),
    "opj_decode": (_INT, [_POINTER, _POINTER, ctypes.POINTER(_Image)]),
    "opj_end_decompress": (_INT, [_POINTER, _POINTER]),
    "opj_stream_destroy": (None, [_POINTER]),
    "opj_destroy_codec": (None, [_POINTER]),
    "opj_image_destroy": (None, [ctypes.POINTER(_Image)]),
}
_PARAMETERS_BYTES = 2**15
"""More than opj_dparameters_t, whose first member is `cp_reduce`, has had in any version 2."""
_CHUNK = 2**20


@cache
def _library() -> Any:
    """OpenJPEG 2 inside of pylibjpeg-openjpeg, or None where its functions cannot be called."""
    try:
        library = ctypes.CDLL(import_module("_openjpeg").__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return library if library.opj_version().startswith(b"2.") else None
    except (ImportError, OSError, AttributeError):
        return None


class _Source:
    """Bytes in memory as OpenJPEG's stream; lives as long as the decoder does."""

    def __init__(self, library: Any, data: bytes) -> None:
        self._data, self._at = data, 0
        self._start = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        self._calls = _READ(self._read), _SKIP(self._skip), _SEEK(self._seek)
        self.stream = library.opj_stream_create(_CHUNK, 1)
        library.opj_stream_set_read_function(self.stream, self._calls[0])
        library.opj_stream_set_skip_function(self.stream, self._calls[1])
        library.opj_stream_set_seek_function(self.stream, self._calls[2])
        library.opj_stream_set_user_data_length(self.stream, len(data))

    def _read(self, buffer: int, wanted: int, _: Any) -> int:
        count = min(wanted, len(self._data) - self._at)
        if count <= 0:
            return _SIZE(-1).value  # the end
        ctypes.memmove(buffer, self._start + self._at, count)
        self._at += count
        return count

    def _skip(self, count: int, _: Any) -> int:
        if not 0 <= self._at + count <= len(self._data):
            return -1
        self._at += count
        return count

    def _seek(self, place: int, _: Any) -> int:
        if not 0 <= place <= len(self._data):
            return 0
        self._at = place
        return 1


def halved(stream: bytes, times: int) -> npt.NDArray[np.int32] | None:
    """Values of a codestream with one component at 1 / 2**times of the sides; None where OpenJPEG refuses."""
    library = _library()
    source, codec, image = _Source(library, stream), library.opj_create_decompress(0), ctypes.POINTER(_Image)()
    parameters = ctypes.create_string_buffer(_PARAMETERS_BYTES)
    try:
        library.opj_set_default_decoder_parameters(parameters)
        ctypes.c_uint32.from_buffer(parameters).value = times
        decoded = (
            library.opj_setup_decoder(codec, parameters)
            and library.opj_read_header(source.stream, codec, ctypes.byref(image))
            and library.opj_decode(codec, source.stream, image)
            and library.opj_end_decompress(codec, source.stream)
        )
        if not decoded:
            return None
        component = image.contents.comps[0]
        if not component.data:
            return None
        return np.ctypeslib.as_array(component.data, (component.h, component.w)).copy()
    finally:
        library.opj_stream_destroy(source.stream)
        library.opj_destroy_codec(codec)
        if image:
            library.opj_image_destroy(image)
