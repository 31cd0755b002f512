"""What a DICOM header says beside the pixels."""

import contextlib
import datetime
import math
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from medtl.data.quiet import quiet
from medtl.data.scan import Header

_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
_SEXES = ("M", "F", "O")
_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate", "ContentDate")


def header_of(dataset: Dataset) -> Header:
    """The header's facts; None for what is missing, empty or cannot be read."""
    sex = _text(dataset, "PatientSex")
    acquired, born = _acquired(dataset), _date(dataset, "PatientBirthDate")
    age = age_years(_text(dataset, "PatientAge"))
    if age is None and acquired and born and acquired >= born:
        age = round((acquired - born).days / 365.25, 3)
    return Header(
        patient_id=_text(dataset, "PatientID"),
        patient_name=_text(dataset, "PatientName"),
        study_id=_text(dataset, "StudyInstanceUID"),
        series_id=_text(dataset, "SeriesInstanceUID"),
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        view=_text(dataset, "ViewPosition"),
        manufacturer=_text(dataset, "Manufacturer"),
        scanner=_text(dataset, "ManufacturerModelName"),
        age_years=age,
        sex=sex if sex in _SEXES else None,
        acquired=acquired,
        burned_in={"YES": True, "NO": False}.get(_text(dataset, "BurnedInAnnotation") or ""),
    )


def acquired_on(path: str | Path) -> datetime.date | None:
    """The day on which a file's scan was taken, from its header alone; None where it does not say or is no DICOM."""
    with quiet("pydicom"), contextlib.suppress(Exception):  # a damaged header has no date
        return _acquired(dcmread(path, specific_tags=list(_DATES), stop_before_pixels=True))
    return None


def _acquired(dataset: Dataset) -> datetime.date | None:
    return next(filter(None, (_date(dataset, key) for key in _DATES)), None)


def spacing_of(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: in the patient where it is known, else at the detector (PS3.3 10.7.1.3)."""
    for key in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            row, column = (float(value) for value in dataset.get(key) or ())
        except (TypeError, ValueError):
            continue
        if 0 < row < math.inf and 0 < column < math.inf:
            return row, column
    return None


def age_years(text: str | None) -> float | None:
    """An age string (PS3.5 6.2, AS: `045Y`, `006M`, `003W`, `010D`) in years."""
    if text is None or not text[:-1].isdecimal() or text[-1] not in _DAYS:
        return None
    return round(int(text[:-1]) * _DAYS[text[-1]] / 365.25, 3)


def text_of(dataset: Dataset, key: str) -> str:
    """An element as text, without padding; empty where it is missing or empty.

    Raises:
        Exception: of any kind, by pydicom, for a damaged element.
    """
    value: Any = dataset.get(key)
    return "" if value is None else str(value).replace("\x00", "").strip()


def _date(dataset: Dataset, key: str) -> datetime.date | None:
    """A date (PS3.5 6.2, DA: `YYYYMMDD`)."""
    try:
        return datetime.datetime.strptime(_text(dataset, key) or "", "%Y%m%d").date()
    except ValueError:
        return None


def _text(dataset: Dataset, key: str) -> str | None:
    try:
        return text_of(dataset, key) or None
    except Exception:  # a damaged element that pixels do not depend on
        return None
