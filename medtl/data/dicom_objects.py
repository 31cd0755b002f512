"""What a DICOM object is, by its storage class: an image, or something that goes with images."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medtl.data.dicom_header import text_of
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
# By modality, for objects of no known class.
_MODALITIES = {"SEG": _OBJECTS["Segmentation"], "RTDOSE": _OBJECTS["RT Dose"]}


def check_image(dataset: Dataset, name: str, *, has_pixels: bool) -> None:
    """Make sure that a DICOM object is an image, with its pixels.

    Args:
        dataset: the header.
        name: the file, for messages.
        has_pixels: whether it has pixels, which need not have been read with it.

    Raises:
        ScanError: a code of `kinds.LISTED` for what goes with images, or `truncated`.
    """
    meta = getattr(dataset, "file_meta", None) or Dataset()
    uid = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    kind = UID(uid).name if uid else ""
    said = next((said for words, said in _OBJECTS.items() if words in f"{kind} "), None)
    said = said or _MODALITIES.get(text_of(dataset, "Modality"))
    if said is not None:
        raise ScanError(said[0], name, f"is {said[1]}; it is listed and left out")
    if has_pixels:
        return
    if "Rows" not in dataset and "Image Storage" not in kind and len(dataset):
        raise ScanError("no_pixels", name, f"is DICOM without an image ({kind or 'of no stated class'}); leave it out")
    where = "before its pixels" if len(dataset) else "in its header"
    raise ScanError("truncated", name, f"is DICOM that ends {where}; copy it again")


def size_of(dataset: Dataset, name: str) -> tuple[int, int]:
    """Rows and columns of an image.

    Raises:
        ScanError: `damaged`.
    """
    for key in ("Rows", "Columns"):
        if not dataset.get(key):
            raise ScanError("damaged", name, f"is DICOM whose header does not say its {key}; export it again")
    return int(dataset.Rows), int(dataset.Columns)
