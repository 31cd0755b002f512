"""What one DICOM file's header says about its place in a series, without reading its pixels."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from medtl.data.dicom import is_deflated, parse
from medtl.data.dicom_header import text_of
from medtl.data.dicom_objects import check_image, size_of
from medtl.data.dicom_pixels import number_of_frames
from medtl.data.frames import is_colour, places_of
from medtl.data.geometry import Place
from medtl.data.kinds import HEAD_BYTES, kind_of
from medtl.data.quiet import in_one_line, quiet
from medtl.errors import ScanError

_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # PS3.3 C.7.6.24, C.7.6.25, C.7.6.3
_SERIES = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MOMENTS = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "FrameReferenceTime",
    "TriggerTime",
    "InversionTime",
    "DiffusionGradientOrientation",
    "AcquisitionTime",
)
_TAGS = [Tag(tag) for tag in (
    *_SERIES, "SOPInstanceUID", "SOPClassUID",
    "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "EchoNumbers", "EchoTime", "DiffusionBValue", *_MOMENTS,
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    0x00190010, 0x0019100C, 0x00430010, 0x00431039,
)]  # fmt: skip
# Private b-values: creator, tag. GE adds multiples of 10^9 for its own use.
_B_VALUES = (("SIEMENS MR HEADER", 0x00190010, 0x0019100C), ("GEMS_PARM_01", 0x00430010, 0x00431039))


@dataclass(frozen=True, kw_only=True)
class SliceHead:
    """One file's part in a series.

    Args:
        path: where it is.
        name: how messages call it.
        instance_id: SOPInstanceUID; "" where missing, as all texts.
        series: what all images of one series share: patient, study, series, frame of reference.
        kind: what all images of one volume share: class, modality, type, size, photometric interpretation, echo
            number, b-value.
        rows: pixels along a column.
        columns: pixels along a row.
        frames: how many images the file holds.
        image_type: ImageType.
        colour: whether it is in colour.
        echo_time_ms: EchoTime, 0 where missing.
        moments: what tells images at one place apart, such as the moment in a dynamic series.
        places: of each frame; none where the file does not say.
    """

    path: Path
    name: str
    instance_id: str
    series: tuple[str, ...]
    kind: tuple[str, ...]
    rows: int
    columns: int
    frames: int
    image_type: tuple[str, ...]
    colour: bool
    echo_time_ms: float
    moments: tuple[str, ...]
    places: tuple[Place, ...]


def read_head(path: Path, *, name: str) -> SliceHead:
    """Read a DICOM file's header, up to its pixels.

    Raises:
        ScanError: `not_dicom`, a code of `kinds.LISTED` for an object that is no image, `truncated`, `damaged`,
            `unreadable`, or what `kind_of` says of other files.
    """
    with quiet("pydicom"):
        try:
            with path.open("rb") as file:
                return _head(file, path, name)
        except ScanError:
            raise
        except OSError as problem:
            raise ScanError("unreadable", name, f"cannot be opened: {problem.strerror or problem}") from None
        except Exception as problem:  # a damaged element raises when it is touched, with any exception
            said = in_one_line(problem)
            raise ScanError("damaged", name, f"is DICOM whose header cannot be read ({said}); copy it again") from None


def _head(file: BinaryIO, path: Path, name: str) -> SliceHead:
    start = file.read(HEAD_BYTES)
    if (kind := kind_of(start, name=name)) != "dicom":
        raise ScanError("not_dicom", name, f"is {kind}; a series is made of DICOM files")
    file.seek(0)
    deflated = is_deflated(file)
    file.seek(0)
    if deflated:
        dataset: Dataset = parse(file.read(), name)  # which looks first how large it becomes
        has_pixels = any(tag in dataset for tag in _PIXEL_TAGS)
    else:
        ends: list[int] = []

        def at_end(tag: BaseTag, _vr: str | None, _length: int) -> bool:
            if tag in _PIXEL_TAGS or tag == 0:  # zeros: a file that was copied in part
                ends.append(tag)
            return bool(ends)

        dataset = read_partial(file, at_end, force=True, specific_tags=_TAGS)
        has_pixels = bool(ends) and ends[0] != 0
    check_image(dataset, name, has_pixels=has_pixels)
    rows, columns = size_of(dataset, name)
    frames = number_of_frames(dataset)
    return SliceHead(
        path=path,
        name=name,
        instance_id=text_of(dataset, "SOPInstanceUID"),
        series=tuple(text_of(dataset, key) for key in _SERIES),
        kind=(
            *(text_of(dataset, key) for key in ("SOPClassUID", "Modality", "ImageType", "Rows", "Columns")),
            *(text_of(dataset, key) for key in ("PhotometricInterpretation", "EchoNumbers")),
            _b_value(dataset),
        ),
        rows=rows,
        columns=columns,
        frames=frames,
        image_type=tuple(str(word) for word in _several(dataset.get("ImageType"))),
        colour=is_colour(dataset),
        echo_time_ms=float(dataset.get("EchoTime") or 0),
        moments=tuple(text_of(dataset, key) for key in _MOMENTS),
        places=places_of(dataset, frames),
    )


def _several(value: Any) -> list[Any]:
    """What is one value, several or none, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def _b_value(dataset: Dataset) -> str:
    """The diffusion weighting in s/mm2, from PS3.3 C.8.13.5.9 or the makers' own elements."""
    value: Any = dataset.get("DiffusionBValue")
    for creator, place, tag in _B_VALUES:
        if value is None and tag in dataset and place in dataset and dataset[place].value == creator:
            value = dataset[tag].value
            value = value.decode("ascii").split("\\") if isinstance(value, bytes) else _several(value)
            value = float(value[0]) % 1e9 if value else None
    return "" if value is None else f"{float(value):g}"
