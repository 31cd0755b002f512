"""DICOM series to volumes: which files belong together, and what they make."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from medtl.data.dicom import (
    broken,
    check_image,
    check_object,
    decode,
    inside_of,
    is_hounsfield,
    modality_values,
    of_frame,
    parse,
    plugin_for,
)
from medtl.data.dicom_header import header_of, spacing_of
from medtl.data.geometry import upright_extent
from medtl.data.kinds import check_size
from medtl.data.quiet import quiet
from medtl.data.scan import Scan
from medtl.data.stack import Place, stacked
from medtl.data.volume import volume_scan
from medtl.errors import ScanError

_APART = (
    "SOPClassUID", "ImageType", "EchoNumbers", "EchoTime", "DiffusionBValue", "TemporalPositionIdentifier",
    "ConvolutionKernel", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
)  # fmt: skip
_APART_WHERE_PLACES_REPEAT = ("AcquisitionNumber", "TriggerTime", "AcquisitionTime", "ContentTime")
_TAGS = [
    "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImagePositionPatient", "NumberOfFrames", "SamplesPerPixel",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "StudyInstanceUID", *_APART,
    *_APART_WHERE_PLACES_REPEAT,
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SliceHead:
    """What the header of a file says about its place among others.

    Args:
        path: the file.
        name: how messages call it.
        uid: SOP Instance UID.
        series: what all slices of one volume share.
        moment: what tells apart volumes that were taken of one place.
        place: where it lies; None for an object of several frames, which is a volume of its own.
        sides: rows and columns.
        extent: shape and spacing of an object of several frames.
    """

    path: Path
    name: str
    uid: str
    series: tuple[Hashable, ...]
    moment: tuple[str, ...]
    place: Place | None
    sides: tuple[int, int]
    extent: tuple[tuple[int, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Files that make one volume.

    Args:
        paths: in space.
        name: of the file whose name comes first.
        shape: (D, H, W) voxels of the volume.
        spacing_mm: of each axis.
    """

    paths: tuple[Path, ...]
    name: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def read_head(path: Path, *, name: str) -> SliceHead:
    """Read a DICOM file's header, not its pixels.

    Raises:
        ScanError: it is no image (a code of `kinds.LISTED`), has no place in space (`no_geometry`), is colour, or is
            damaged.
    """
    with quiet("pydicom"):
        try:
            dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
            check_object(dataset, name)
            return _head(dataset, path, name)
        except ScanError:
            raise
        except Exception as problem:  # damaged elements raise anything
            said = " ".join(str(problem).split())[:200] or type(problem).__name__
            raise ScanError("damaged", name, f"is DICOM whose header cannot be read ({said}); copy it again") from None


def _head(dataset: Dataset, path: Path, name: str) -> SliceHead:
    if int(dataset.get("SamplesPerPixel") or 1) > 1:
        raise ScanError("colour", name, "is in colour; volumes are of grey values")
    sides = (int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    series = (str(dataset.get("StudyInstanceUID", "")), str(dataset.get("SeriesInstanceUID", "")))
    common: dict[str, Any] = {"path": path, "name": name, "uid": str(dataset.get("SOPInstanceUID", "")), "sides": sides}
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        places = [place_of(of_frame(dataset, index), f"{name}#frame/{index}") for index in range(frames)]
        affine = stacked(places, name=name).affine
        extent = upright_extent((frames, *sides), affine)
        return SliceHead(**common, series=series, moment=(), place=None, extent=extent)
    place = place_of(dataset, name)
    apart = tuple(_plain(dataset.get(key)) for key in _APART)
    moment = tuple(str(dataset.get(key, "")) for key in _APART_WHERE_PLACES_REPEAT)
    return SliceHead(**common, series=(*series, *apart), moment=moment, place=place)


def place_of(dataset: Dataset, name: str) -> Place:
    """Where the header of an image says that it lies.

    Raises:
        ScanError: `no_geometry`: it does not say.
    """
    try:
        orientation = tuple(float(value) for value in dataset.get("ImageOrientationPatient") or ())
        position = tuple(float(value) for value in dataset.get("ImagePositionPatient") or ())
    except (TypeError, ValueError):
        orientation = position = ()
    spacing = spacing_of(dataset)
    normal = np.cross(orientation[:3], orientation[3:]) if len(orientation) == 6 else np.zeros(3)
    finite = np.isfinite([*orientation, *position]).all()
    if len(position) != 3 or spacing is None or not finite or not 0.99 < float(np.linalg.norm(normal)) < 1.01:
        raise ScanError(
            "no_geometry", name, "does not say where it lies in space (position, orientation, pixel spacing), as a "
            "slice of a volume must; read it with --as images"
        )  # fmt: skip
    return Place(name=name, orientation=orientation, position=position, spacing_mm=spacing)


def _plain(value: Any) -> Hashable:
    """A value as it can be compared: numbers to three decimals, so that rounding tells no slices apart."""
    if value is None or isinstance(value, str):
        return str(value or "")
    try:
        return tuple(round(float(each), 3) + 0.0 for each in (value if np.iterable(value) else [value]))
    except (TypeError, ValueError):
        return str(value)


def group_series(heads: Sequence[SliceHead]) -> tuple[list[Series], list[ScanError]]:
    """Put slices together; every head is in one series or in one error.

    Slices of a series are told apart by orientation, size, spacing, kind of image, echo, b-value and time point, and
    where places then still repeat by acquisition and moment. Copies of one instance count once.
    """
    series: list[Series] = []
    problems: list[ScanError] = []
    groups: dict[tuple[Hashable, ...], dict[str, SliceHead]] = defaultdict(dict)
    for head in sorted(heads, key=lambda head: head.name):
        if head.extent is not None:
            shape, spacing = head.extent
            series.append(Series(paths=(head.path,), name=head.name, shape=shape, spacing_mm=spacing))
        elif (first := groups[head.series].setdefault(head.uid or head.name, head)) is not head:
            problems.append(ScanError("duplicate", head.name, f"is the same instance as {first.name}, which is kept"))
    for group in groups.values():
        for members in _moments(list(group.values())):
            try:
                series.append(_series(members))
            except ScanError as problem:
                problems += [ScanError(problem.code, head.name, problem.message) for head in members]
    return series, problems


def _moments(heads: list[SliceHead]) -> list[list[SliceHead]]:
    """Split slices of which several lie at one place by when they were taken, as coarsely as that suffices."""
    for index in range(-1, len(_APART_WHERE_PLACES_REPEAT)):
        parts: dict[str, list[SliceHead]] = defaultdict(list)
        for head in heads:
            parts[head.moment[index] if index >= 0 else ""].append(head)
        if len(parts) <= len(heads) / 2 and all(_places_differ(part) for part in parts.values()):
            return list(parts.values())
    return [heads]


def _places_differ(heads: Iterable[SliceHead]) -> bool:
    heights = [round(head.place.height_mm, 2) for head in heads if head.place]
    return len(set(heights)) == len(heights)


def _series(heads: list[SliceHead]) -> Series:
    stack = stacked([head.place for head in heads if head.place], name=heads[0].name)
    shape, spacing = upright_extent((len(heads), *heads[0].sides), stack.affine)
    paths = tuple(heads[index].path for index in stack.order)
    return Series(paths=paths, name=heads[0].name, shape=shape, spacing_mm=spacing)


def read_series(paths: Sequence[Path], *, name: str) -> Scan:
    """The volume of a series' files.

    Raises:
        ScanError: a file cannot be read, or they do not make a volume.
    """
    slices: list[npt.NDArray[np.float32]] = []
    places: list[Place] = []
    digests: list[str] = []
    first: Dataset | None = None
    steps: list[str] = []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as problem:
            raise ScanError("unreadable", path, f"cannot be opened: {problem.strerror or problem}") from None
        dataset, values, said = _slice(data, str(path))
        digests.append(hashlib.sha256(data).hexdigest())
        if first is None:
            first, steps = dataset, said
            check_size(name, len(paths) * values.size, what=f"{len(paths)} slices of {values.shape[0]} rows")
        slices.append(values)
        places.append(place_of(dataset, str(path)))
    stack = stacked(places, name=name)
    assert first is not None
    if len({values.shape for values in slices}) > 1:
        raise ScanError("no_volume", name, "its slices have different sizes")
    whole = np.stack([slices[index] for index in stack.order])
    digest = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    return _volume(first, whole, stack.affine, [*steps, *stack.notes], name=name, sha256=digest)


def read_dicom_volume(data: bytes, *, name: str, sha256: str) -> Scan:
    """The volume of one object of several frames, each with its place (PS3.3 C.7.6.16).

    Raises:
        ScanError: `no_volume`, `no_geometry`, or the file cannot be read.
    """
    with quiet("pydicom"):
        try:
            dataset = parse(data, name)
            check_image(dataset, name)
            frames = int(dataset.get("NumberOfFrames") or 1)
            check_size(name, frames * int(dataset.Rows) * int(dataset.Columns), what=f"{frames} frames")
            heads = [of_frame(dataset, index) for index in range(frames)]
            stack = stacked([place_of(head, f"{name}#frame/{i}") for i, head in enumerate(heads)], name=name)
            values = [
                _values(head, raw)[0]
                for head, raw in zip(heads, iter_pixels(dataset, decoding_plugin=plugin_for(dataset)), strict=True)
            ]
            whole = np.stack([values[index] for index in stack.order])
        except ScanError:
            raise
        except Exception as problem:
            raise broken(name, problem) from None
        return _volume(heads[0], whole, stack.affine, list(stack.notes), name=name, sha256=sha256)


def _slice(data: bytes, name: str) -> tuple[Dataset, npt.NDArray[np.float32], list[str]]:
    with quiet("pydicom"):
        try:
            dataset = parse(data, name)
            check_image(dataset, name)
            frames, step = decode(dataset, name)
            values, steps = _values(dataset, frames[0])
        except ScanError:
            raise
        except Exception as problem:
            raise broken(name, problem) from None
    return dataset, values, [step, *steps]


def _values(dataset: Dataset, raw: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Modality values of a slice, NaN where it is padding."""
    values, steps = modality_values(dataset, raw)
    return np.where(inside_of(dataset, raw), values, np.nan).astype(np.float32), steps


def _volume(first: Dataset, values: npt.NDArray[np.float32], affine: Any, steps: list[str], **named: str) -> Scan:
    return volume_scan(
        values,
        affine,
        name=named["name"],
        sha256=named["sha256"],
        header=header_of(first),
        steps=steps,
        hounsfield=is_hounsfield(first),
        inverted=first.get("PhotometricInterpretation") == "MONOCHROME1",
    )
