"""What a file is, decided by its first bytes and never by its name; and how large a scan may be."""

import gzip
import io
import struct
import zlib

from medtl.errors import ScanError

HEAD_BYTES = 4096
LARGEST_PIXELS = 2**28
"""1 GB of decoded pixels at 4 bytes each; the largest radiographs have a tenth of it."""
LISTED = frozenset(
    {
        "dicomdir", "document", "duplicate", "key_object", "no_pixels", "presentation_state", "radiotherapy",
        "raw_data", "report", "segmentation", "spectroscopy", "waveform",
    }
)  # fmt: skip
"""Codes of files that are recognised and listed, and are no failures: objects that go with scans, and second copies."""
EXPECTED = "expected DICOM, PNG, JPEG, TIFF, NIfTI or .npz"

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    *((magic, "tiff") for magic in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
)
_FOREIGN = (
    (b"%PDF", "pdf", "is a PDF document, not a scan; export the image itself from the PACS, as DICOM or PNG"),
    (b"GIF8", "unsupported_format", "is a GIF image; save it as PNG"),
    (b"BM", "unsupported_format", "is a BMP image; save it as PNG"),
    (b"RIFF", "unsupported_format", "is a WebP image or a sound or video file; save images as PNG"),
    (b"\x00\x00\x00\x0cjP", "unsupported_format", "is a bare JPEG 2000 image; save it as PNG, or keep it in DICOM"),
    (b"\x93NUMPY", "unsupported_format", "is a NumPy array; save it as PNG, or as an .npz in the MedMNIST layout"),
    (b"PAR1", "not_an_image", "is a Parquet table, not an image"),
    (b"\x89HDF", "unsupported_format", "is an HDF5 file; save its images as PNG or .npz"),
    (b"PK\x03\x04", "archive", "is a zip archive; unpack it and give the folder"),
    (b"\x1f\x8b", "archive", "is a gzip archive; unpack it and give the folder"),
    (b"7z\xbc\xaf", "archive", "is a 7z archive; unpack it and give the folder"),
    (b"Rar!", "archive", "is a RAR archive; unpack it and give the folder"),
)
# Explicit value representations, DICOM PS3.5 6.2.
_VR = set(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def kind_of(head: bytes, *, name: str) -> str:
    """The kind of a file: dicom, png, jpeg, tiff, nifti or npz.

    Args:
        head: the first `HEAD_BYTES` bytes, or all of a shorter file.
        name: the file, for messages.

    Raises:
        ScanError: `empty`, `text`, `pdf`, `archive`, `unsupported_format` or `not_an_image`.
    """
    if not head:
        raise ScanError("empty", name, "the file is empty (0 bytes); copy it again from where it came")
    if head[128:132] == b"DICM":  # first: what stands in a DICOM preamble may look like TIFF (PS3.10 7.1)
        return "dicom"
    for magic, kind in _KINDS:
        if head.startswith(magic):
            return kind
    zipped = head.startswith(b"\x1f\x8b")
    if is_nifti(_unzipped_head(head) if zipped else head):
        return "nifti"
    if _starts_with_dicom_tag(head):
        return "dicom"
    if head.startswith(b"PK\x03\x04") and b".npy" in head[:512]:
        return "npz"
    for magic, code, message in _FOREIGN:
        if head.startswith(magic):
            raise ScanError(code, name, f"{message} ({EXPECTED})")
    if _is_text(head):
        raise ScanError("text", name, f"is text, not a scan; {EXPECTED}")
    raise ScanError("not_an_image", name, f"is of no known image type (it starts with {head[:4].hex(' ')}); {EXPECTED}")


def check_size(name: str, pixels: int, *, what: str) -> None:
    """Refuse a scan that a header says is too large, before any memory is asked for.

    Raises:
        ScanError: `too_large`.
    """
    if pixels > LARGEST_PIXELS:
        raise ScanError(
            "too_large", name, f"claims {what}, which is more than 1 GB of pixels; the header may be damaged"
        )


def is_nifti(head: bytes) -> bool:
    """Whether uncompressed bytes start with the header of a one-file NIfTI-1 or NIfTI-2."""
    if len(head) < 348:
        return False
    return (head[344:348] == b"n+1\x00" and 348 in _sizes(head)) or (head[4:8] == b"n+2\x00" and 540 in _sizes(head))


def _sizes(head: bytes) -> tuple[int, int]:
    return struct.unpack("<i", head[:4])[0], struct.unpack(">i", head[:4])[0]


def _unzipped_head(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def unzipped(data: bytes, *, name: str, most: int) -> bytes:
    """The content of a gzip file, refused where it would be longer than `most` bytes.

    Raises:
        ScanError: `truncated`, `damaged` or `too_large`.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(most + 1)
    except EOFError:
        raise ScanError("truncated", name, "ends before its compressed data does; copy it again") from None
    except (OSError, zlib.error) as problem:
        raise ScanError("damaged", name, f"cannot be unpacked ({problem}); copy it again") from None
    if len(content) > most:
        raise ScanError("too_large", name, "unpacks to more than its header says; it may be damaged")
    return content


def _starts_with_dicom_tag(head: bytes) -> bool:
    """DICOM without preamble (PS3.10 asks for one, old software left it out): a plausible first element."""
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    order = ">" if head[:2] == b"\x00\x08" else "<"
    element, length = struct.unpack(order + "H", head[2:4])[0], struct.unpack(order + "I", head[4:8])[0]
    return element < 0x0100 and (head[4:6] in _VR or length <= 256)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as problem:
        if problem.start < len(head) - 4:  # else a character cut in two by the end of the head
            text = head.decode("latin-1") if b"\x00" not in head and len(head) > 8 else "\x00"
        else:
            text = head[: problem.start].decode("utf-8")
    odd = sum(not (c.isprintable() or c.isspace()) for c in text)
    return bool(text) and odd <= len(text) // 100
