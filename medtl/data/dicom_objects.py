"""What a DICOM object is, by its storage class: an image, or something that goes with images."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medtl.errors import ScanError

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# By words in the name of the class (PS3.6 A), the first that fits.
_OBJECTS = {
    "RT Image": None,
    "RT Dose": ("radiotherapy", "a dose distribution"),
    "RT ": ("radiotherapy", "a radiotherapy object"),
    "Media Storage Directory": ("dicomdir", "a DICOMDIR, the table of contents of a medium"),
    "Key Object Selection": ("key_object", "a key object selection"),
    "Presentation State": ("presentation_state", "a presentation state"),
    "Encapsulated": ("document", "an encapsulated document"),
    "Waveform": ("waveform", "a waveform"),
    "Raw Data": ("raw_data", "raw data of a scanner"),
    "Spectroscopy": ("spectroscopy", "spectroscopy"),
    "Segmentation": ("segmentation", "a segmentation: masks, not a scan"),
    " SR ": ("report", "a structured report"),
    "Radiation Dose": ("report", "a dose report"),
    "Report": ("report", "a report"),
}


def check_object(dataset: Dataset, name: str) -> None:
    """Make sure that a DICOM object is an image.

    Raises:
        ScanError: a code of `kinds.LISTED`.
    """
    meta = getattr(dataset, "file_meta", None) or Dataset()
    uid = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    kind = UID(uid).name if uid else ""
    said = next((said for words, said in _OBJECTS.items() if words in f"{kind} "), None)
    if said is not None:
        raise ScanError(said[0], name, f"is {said[1]}; it is listed and left out")
    if not any(key in dataset for key in (*PIXELS, "Rows")) and "Image Storage" not in kind and len(dataset):
        raise ScanError("no_pixels", name, f"is DICOM without an image ({kind or 'of no stated class'}); leave it out")
