"""Whether text may be burned into the pixels of an image, by what its header says."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from medtl.data.dicom_header import text_of

# Screens, cameras and machines that write the patient's name into the picture, by Modality (PS3.3 C.7.3.1.1.1).
_MODALITIES = {"US", "IVUS", "SC", "XC", "OT", "ES", "GM", "OP", "DOC", "HC", "BDUS"}
_CLASSES = ("Secondary Capture", "Ultrasound", "VL ", "Video ", "Photographic")


def burned_in(dataset: Dataset) -> tuple[str, str]:
    """ "yes", "no" or "likely", and why.

    Burned In Annotation (0028,0301; PS3.3 C.7.6.1) is believed where it is there. Where it is not, pictures of screens
    and cameras are suspected, as are scanned films, and overlays in unused bits of the pixels.
    """
    if _overlay_in_pixels(dataset):
        return "likely", "an overlay lies in unused bits of the pixels"
    said = text_of(dataset, "BurnedInAnnotation")
    if said in ("YES", "NO"):
        return said.lower(), f"the header says {said}"
    suspicion = _suspicion(dataset)
    return ("likely", f"{suspicion}, and the header does not say") if suspicion else ("no", "nothing suggests it")


def _suspicion(dataset: Dataset) -> str:
    modality, kind = text_of(dataset, "Modality"), str(UID(text_of(dataset, "SOPClassUID")).name)
    if modality in _MODALITIES:
        return f"modality {modality}"
    if any(word in kind for word in _CLASSES):
        return kind
    if text_of(dataset, "ConversionType"):
        return "scanned, or taken from a screen (ConversionType)"
    return "a picture of a screen (ImageType)" if "SCREEN" in text_of(dataset, "ImageType") else ""


def _overlay_in_pixels(dataset: Dataset) -> bool:
    """PS3.5 8.1.2: an overlay without data of its own, at a bit position that pixels do not use."""
    for group in range(0x6000, 0x6020, 2):
        position = dataset.get((group, 0x0102))
        if position is not None and position.value and (group, 0x3000) not in dataset:
            return True
    return False
