"""Simulated radiographs as DICOM: the Digital X-Ray Image object, For Presentation (DICOM PS3.3 A.26)."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_pixel_data
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medtl.data.simulation.radiograph import Radiograph

# How many of 60 files are in each transfer syntax; the compact ones are the most frequent.
SYNTAXES = {
    ExplicitVRLittleEndian: 1,
    ImplicitVRLittleEndian: 1,
    DeflatedExplicitVRLittleEndian: 1,
    RLELossless: 2,
    JPEG2000Lossless: 28,
    JPEGLSLossless: 27,
}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who was radiographed when, and how the file is encoded."""

    seed: int
    patient: str
    number: int
    day: date
    sex: str
    age_years: int
    syntax: str


def write_dicom(path: Path, image: Radiograph, visit: Visit) -> None:
    """Write one object. UIDs follow from seed, patient and number, so that the same call writes the same bytes."""
    ds = Dataset()
    _patient_and_study(ds, visit)
    _series_and_equipment(ds, image, visit)
    _anatomy_and_positioning(ds, image)
    _image(ds, image, visit)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if visit.syntax in (RLELossless, JPEGLSLossless):
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(visit.syntax, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = visit.syntax
    if visit.syntax == JPEG2000Lossless:
        # Not by `ds.compress`, whose plugin would need one more package for the same encoder.
        frame = encode_pixel_data(
            ds.PixelData,
            rows=ds.Rows,
            columns=ds.Columns,
            samples_per_pixel=1,
            bits_stored=12,
            pixel_representation=0,
            photometric_interpretation=ds.PhotometricInterpretation,
        )
        ds.PixelData = encapsulate([bytes(frame)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    ds.save_as(path, enforce_file_format=True)


def _uid(visit: Visit, *parts: object) -> str:
    return str(generate_uid(entropy_srcs=["medtl samples", *(str(p) for p in (visit.seed, visit.patient, *parts))]))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _patient_and_study(ds: Dataset, visit: Visit) -> None:
    ds.PatientName = f"Sim^{visit.patient}"
    ds.PatientID = visit.patient
    ds.PatientBirthDate = (visit.day - timedelta(days=round(365.25 * visit.age_years + 30))).strftime("%Y%m%d")
    ds.PatientSex = visit.sex
    ds.PatientAge = f"{visit.age_years:03d}Y"
    ds.StudyInstanceUID = _uid(visit, visit.number, "study")
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = visit.day.strftime("%Y%m%d")
    time = f"{8 + (visit.number * 7 + len(visit.patient)) % 9:02d}1500"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = time
    ds.StudyID = str(visit.number)
    ds.AccessionNumber = f"{visit.patient}{visit.number:02d}"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Simulated chest radiograph"


def _series_and_equipment(ds: Dataset, image: Radiograph, visit: Visit) -> None:
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.SeriesInstanceUID = _uid(visit, visit.number, "series")
    ds.SeriesNumber = 1
    ds.SeriesDescription = "Chest AP" if image.frontal else "Chest PA"
    scanner = image.scanner
    ds.Manufacturer = scanner.manufacturer
    ds.ManufacturerModelName = scanner.model
    ds.DeviceSerialNumber = scanner.detector_id
    ds.SoftwareVersions = "1"
    ds.PositionerType = "COLUMN"
    ds.DetectorType = "SCINTILLATOR"
    ds.DetectorID = scanner.detector_id
    ds.KVP = scanner.kvp
    ds.ExposureInuAs = round(2000 * image.dose * (1.6 if image.frontal else 1.0))


def _anatomy_and_positioning(ds: Dataset, image: Radiograph) -> None:
    ds.BodyPartExamined = "CHEST"
    ds.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
    ds.ImageLaterality = "U"
    ds.ViewPosition = "AP" if image.frontal else "PA"
    if image.frontal:
        ds.ViewCodeSequence = [_code("399348003", "SCT", "antero-posterior")]
    else:
        ds.ViewCodeSequence = [_code("272479007", "SCT", "postero-anterior")]
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = []
    ds.PatientOrientation = ["L", "F"]


def _image(ds: Dataset, image: Radiograph, visit: Visit) -> None:
    scanner = image.scanner
    inverted = scanner.detector.inverted
    low, high = scanner.detector.stored_range
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = _uid(visit, visit.number, "image")
    ds.InstanceNumber = visit.number
    ds.AcquisitionNumber = 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.ImageComments = "Simulated by medtl; not a person"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.Rows, ds.Columns = image.stored.shape
    ds.ImagerPixelSpacing = ds.PixelSpacing = [scanner.pitch_mm, scanner.pitch_mm]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelIntensityRelationship = "LOG"
    # -1: stored values rise as the X-ray intensity falls (C.8.11.3.1.2).
    ds.PixelIntensityRelationshipSign = 1 if inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.WindowCenter, ds.WindowWidth = (low + high + 1) // 2, high - low + 1
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.AcquisitionContextSequence = []
    ds.PixelData = np.ascontiguousarray(image.stored, dtype="<u2").tobytes()
    ds["PixelData"].VR = "OW"
