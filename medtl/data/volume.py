"""DICOM volumes: a series of files, or one object with many frames."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset

from medtl.data.dicom import inverted, is_hounsfield, of_frame, parse
from medtl.data.dicom_header import header_of
from medtl.data.dicom_objects import PIXELS, check_image
from medtl.data.dicom_pixels import decode, number_of_frames
from medtl.data.frames import (
    Values,
    frame_values,
    frames_stacked,
    is_colour,
    places_of,
)
from medtl.data.geometry import Place, Stack, stacked
from medtl.data.kinds import check_size
from medtl.data.quiet import in_one_line, quiet
from medtl.data.scan import Scan, by_sides
from medtl.data.volume_display import hounsfield_volume, spread_volume
from medtl.data.windows import FULL_HU
from medtl.errors import ScanError


def read_series(paths: Sequence[Path], *, name: str) -> Scan:
    """Read the files of one series as a volume, whatever order they come in; or one multi-frame object.

    Args:
        paths: of one `Series`.
        name: how the scan and messages call the whole.

    Raises:
        ScanError: a file that cannot be read, or slices that make no volume (see `stacked`).
    """
    if len(paths) == 1:
        data = _content(paths[0], name)
        return read_dicom_volume(data, name=name, sha256=hashlib.sha256(data).hexdigest())
    places: list[Place] = []
    digests: list[str] = []
    steps: list[str] = []
    values: Values = np.empty(0, np.float32)
    hounsfield = True
    with _translated(name):
        for number, path in enumerate(paths):
            try:
                data = _content(path, name)
                dataset, raw, how = _decoded(data, name)
                if len(raw) > 1:
                    raise ScanError("mixed_sizes", name, "holds many frames, others of the series one")
                layer, rescaled = frame_values(dataset, raw[0], 0)
                place = _only(places_of(dataset, 1), name)
                if number == 0:
                    first = dataset
                    what = f"{len(paths)} slices of {by_sides(layer.shape)} pixels"
                    check_size(name, layer.size * len(paths), what=what)
                    values = np.empty((len(paths), *layer.shape), np.float32)
                elif layer.shape != values.shape[1:]:
                    raise ScanError(
                        "mixed_sizes", name, f"is of {by_sides(layer.shape)} pixels, not {by_sides(values.shape[1:])}"
                    )
            except ScanError as problem:
                raise ScanError(problem.code, name, f"{path.name}: {problem.message}") from None
            values[number] = layer
            hounsfield = hounsfield and is_hounsfield(of_frame(dataset, 0))
            places.append(place)
            digests.append(hashlib.sha256(data).hexdigest())
            steps += [how, *rescaled]
        stack = stacked(places, [path.name for path in paths], name=name)
        sha256 = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
        return _scan(first, values, stack, steps, hounsfield=hounsfield, name=name, sha256=sha256)


def read_dicom_volume(data: bytes, *, name: str, sha256: str) -> Scan:
    """Read an object whose frames are the slices of one volume, such as an enhanced CT or MR image.

    Raises:
        ScanError: `no_volume`, `several_volumes`, `no_geometry`, `colour`, what makes a file unreadable or no image
            (see `read_dicom_frames`), or frames that make no volume (see `stacked`).
    """
    with _translated(name):
        dataset, raw, how = _decoded(data, name)
        frames = len(raw)
        if frames < 2:
            raise ScanError("no_volume", name, "holds 1 image; a volume needs several slices")
        places = places_of(dataset, frames)
        if not places:
            raise ScanError(
                "no_geometry", name, f"does not say where its {frames} frames lie; convert it to NIfTI if you know"
            )
        stack = frames_stacked(places, name=name)
        values = np.empty(raw.shape, np.float32)
        steps = [how]
        for number in range(frames):
            values[number], rescaled = frame_values(dataset, raw[number], number)
            steps += rescaled
        hounsfield = all(is_hounsfield(of_frame(dataset, number)) for number in range(frames))
        return _scan(dataset, values, stack, steps, hounsfield=hounsfield, name=name, sha256=sha256)


def _decoded(data: bytes, name: str) -> tuple[FileDataset, npt.NDArray[Any], str]:
    """A file's header, its stored values (F, H, W), and how they were decoded."""
    dataset = parse(data, name)
    check_image(dataset, name, has_pixels=any(key in dataset for key in PIXELS))
    if is_colour(dataset):
        raise ScanError("colour", name, "is in colour; volumes are made of grey values")
    raw, how = decode(dataset, name)
    expected = (number_of_frames(dataset), int(dataset.Rows), int(dataset.Columns))
    if raw.shape != expected:
        raise ScanError("damaged", name, f"holds {by_sides(raw.shape)} pixels, its header says {by_sides(expected)}")
    return dataset, raw, how


def _scan(
    dataset: FileDataset, values: Values, stack: Stack, steps: list[str], *, hounsfield: bool, name: str, sha256: str
) -> Scan:
    """The volume of slices in the order in which they were read.

    Args:
        dataset: the header of one of them.
        values: (F, rows, columns) modality values, NaN where they are padding.
        stack: how they lie.
        steps: what was done to each.
        hounsfield: whether the values of all of them are Hounsfield units.
    """
    if stack.order != tuple(range(len(values))):
        values = values[list(stack.order)]
    values = np.ascontiguousarray(stack.arrangement.apply(values))
    steps = [*_summary(steps), *stack.notes]
    padding = np.isnan(values)
    pixels, step = hounsfield_volume(values) if hounsfield else spread_volume(values)
    steps.append(step)
    if said := inverted(dataset):
        np.subtract(1, pixels, out=pixels)
        steps.append(said)
    if padding.any():
        pixels[padding] = 0
        values[padding] = FULL_HU[0]
        steps.append("padding made black")
    return Scan(
        pixels=pixels,
        spacing_mm=stack.arrangement.spacing_mm,
        hu=values if hounsfield else None,
        header=header_of(dataset),
        source=name,
        sha256=sha256,
        steps=tuple(steps),
    )


def _summary(steps: list[str]) -> list[str]:
    """The different steps of all slices; rescaling by many slopes as one."""
    different = list(dict.fromkeys(steps))
    rescaled = [step for step in different if step.startswith("rescaled")]
    if len(rescaled) < 2:
        return different
    return [
        *(step for step in different if step not in rescaled),
        f"rescaled in {len(rescaled)} ways, as each slice says",
    ]


def _only(places: tuple[Place, ...], name: str) -> Place:
    if not places:
        raise ScanError("no_geometry", name, "does not say where in the patient it lies")
    return places[0]


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise ScanError("unreadable", name, f"{path.name} cannot be opened: {problem.strerror or problem}") from None


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Whatever goes wrong with a damaged file is a `ScanError`, and pydicom is quiet."""
    with quiet("pydicom"):
        try:
            yield
        except ScanError:
            raise
        except MemoryError:
            raise ScanError("too_large", name, "needs more memory than there is") from None
        except Exception as problem:  # a damaged element raises when it is touched, with any exception
            said = in_one_line(problem)
            raise ScanError("damaged", name, f"is DICOM that cannot be decoded ({said}); copy it again") from None
