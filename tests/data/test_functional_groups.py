"""Functional groups of multi-frame objects (PS3.3 C.7.6.16): a frame's own, else the shared one, else the top level."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medtl.data.dicom import read_dicom_frames
from medtl.data.scan import Scan

Make = Callable[..., bytes]
SIDE = 8
STORED = np.arange(2 * SIDE * SIDE, dtype=np.uint16).reshape(2, SIDE, SIDE)
ROUNDING = 1e-6  # float32


def group(*, slope: float | None = None, window: tuple[float, float] | None = None, mm: float | None = None) -> Dataset:
    whole = Dataset()
    if slope is not None:
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, 0, "HU"
        whole.PixelValueTransformationSequence = [item]
    if window is not None:
        item = Dataset()
        item.WindowCenter, item.WindowWidth = window
        whole.FrameVOILUTSequence = [item]
    if mm is not None:
        item = Dataset()
        item.PixelSpacing = [mm, mm]
        whole.PixelMeasuresSequence = [item]
    return whole


def read(make_dicom: Make, stored: np.ndarray = STORED, **elements: Any) -> list[Scan]:
    keys = {"Rows": SIDE, "Columns": SIDE, "NumberOfFrames": len(stored), "Modality": "CT"}
    return list(read_dicom_frames(make_dicom(stored, **(keys | elements)), name="x", sha256="ab"))


def hu_of(scan: Scan) -> np.ndarray:
    assert scan.hu is not None
    return scan.hu


FULL = {"slope": 2.0, "window": (40.0, 80.0), "mm": 0.5}
PLAIN = {"RescaleSlope": 3, "RescaleIntercept": 0, "WindowCenter": 100, "WindowWidth": 200, "PixelSpacing": [4, 4]}


def is_as_said(scan: Scan, stored: np.ndarray, *, slope: float, window: tuple[float, float], mm: float) -> None:
    centre, width = window
    values = stored * slope
    assert np.array_equal(hu_of(scan), values) and scan.spacing_mm == (mm, mm)
    linear = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    assert scan.pixels == pytest.approx(linear, abs=ROUNDING)


def test_each_frame_has_its_own(make_dicom: Make) -> None:
    """Without a shared group, where two groups once meant one frame."""
    other = {"slope": 5.0, "window": (450.0, 700.0), "mm": 0.25}
    first, second = read(make_dicom, PerFrameFunctionalGroupsSequence=[group(**FULL), group(**other)])
    is_as_said(first, STORED[0], **FULL)
    is_as_said(second, STORED[1], **other)


@pytest.mark.parametrize("own", [[group(**FULL)], [group(**FULL), Dataset()]], ids=["missing", "empty"])
def test_a_frame_without_its_own_takes_the_shared_one(make_dicom: Make, own: list[Dataset]) -> None:
    shared = {"slope": 7.0, "window": (300.0, 600.0), "mm": 1.5}
    groups = {"SharedFunctionalGroupsSequence": [group(**shared)], "PerFrameFunctionalGroupsSequence": own}
    first, second = read(make_dicom, **groups, **PLAIN)
    is_as_said(first, STORED[0], **FULL)
    is_as_said(second, STORED[1], **shared)


@pytest.mark.parametrize("own", [[group(**FULL)], [group(**FULL), Dataset()]], ids=["missing", "empty"])
def test_a_frame_without_any_takes_the_top_level(make_dicom: Make, own: list[Dataset]) -> None:
    first, second = read(make_dicom, PerFrameFunctionalGroupsSequence=own, **PLAIN)
    is_as_said(first, STORED[0], **FULL)
    is_as_said(second, STORED[1], slope=3, window=(100, 200), mm=4)


def test_one_frame_counts_before_the_top_level(make_dicom: Make) -> None:
    groups = {"PerFrameFunctionalGroupsSequence": [group(**FULL)]}
    [scan] = read(make_dicom, STORED[:1], **groups, **PLAIN)
    is_as_said(scan, STORED[0], **FULL)


def test_a_group_replaces_tables_of_the_top_level(make_dicom: Make) -> None:
    """They would count before a window and a slope, but are meant for frames that have none."""
    table, modality = Dataset(), Dataset()
    for item in (table, modality):
        item.LUTDescriptor, item.LUTData = [128, 0, 8], np.arange(128, dtype=np.uint16)[::-1].tobytes()
    modality.ModalityLUTType = "HU"
    tables = {"VOILUTSequence": [table], "ModalityLUTSequence": [modality]}
    first, second = read(make_dicom, PerFrameFunctionalGroupsSequence=[group(**FULL), Dataset()], **tables)
    is_as_said(first, STORED[0], **FULL)
    assert np.array_equal(hu_of(second), 127 - STORED[1]) and second.steps[1:3] == ("modality LUT", "VOI LUT")


def test_frames_are_windowed_as_single_images_are(make_dicom: Make) -> None:
    """LINEAR, not LINEAR_EXACT, which is for real-valued pixels."""
    several = read(make_dicom, **PLAIN)
    for stored, scan in zip(STORED, several, strict=True):
        [alone] = read(make_dicom, stored[None], NumberOfFrames=None, **PLAIN)
        assert np.array_equal(scan.pixels, alone.pixels) and scan.steps == alone.steps
