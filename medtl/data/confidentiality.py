"""A DICOM header after the Basic Application Level Confidentiality Profile (PS3.15 Annex E, table E.1-1).

With two of its options: dates are moved by a number of days of the patient's own (113107), and age, sex, size and
weight stay (113108). Beyond the profile: private and unknown elements, all overlays, and whatever still holds a
person's name, the patient's id or the hospital's name go as well.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import dictionary_has_tag, repeater_has_tag
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UID_dictionary,
)

from medtl.data.dicom_header import age_years, text_of
from medtl.data.pseudonyms import day_offset, new_uid, pseudonym

DUMMY = "REMOVED"
OLDEST_YEARS = 90
CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
}
"""Of the coding scheme DCM (PS3.16, CID 7050)."""

# Table E.1-1: X removes, Z empties, D puts a dummy. Where it leaves a choice that depends on the kind of object, the
# choice that fits every kind is taken: an empty value rather than none, a dummy rather than an empty value.
_ACTIONS = {
    (tag[0] << 16) + tag[1]: action
    for action, names in {"X": "X", "Z": "Z Z_D X_Z", "D": "D X_D X_Z_D"}.items()
    for name in names.split()
    for tag in getattr(table, f"{name}_TAGS")
    if len(tag) == 2
}
# Holds references by UID and nothing else; they are kept, with new UIDs.
_REFERENCES = {
    "ReferencedImageSequence", "SourceImageSequence", "ReferencedStudySequence",
    "ReferencedPerformedProcedureStepSequence",
}  # fmt: skip
_NAMES_A_CLASS = ("SOPClassUID", "SOPClassInUID", "SOPClassesSupported", "TransferSyntaxUID")
_IDENTIFIERS = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "AdmissionID", "PatientBirthDate", "PatientAddress",
    "PatientTelephoneNumbers", "MedicalRecordLocator", "InstitutionName",
)  # fmt: skip
_TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_NUMBERS = {"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"}
_SHORTEST_NAME = 3
"""Letters of a name that is looked for in other texts; shorter ones, such as "Li", are parts of ordinary words."""


@dataclass(frozen=True, kw_only=True)
class NewIds:
    """What a file is called from now on: pseudonyms of patient and study, and the new SOP Instance UID."""

    patient: str
    study: str
    instance: str


def new_ids(dataset: Dataset, *, key: bytes) -> NewIds:
    """The new ids of a file with a SOP Instance UID; a file without patient id counts as a patient for each study."""
    instance = str(dataset.SOPInstanceUID)
    study = text_of(dataset, "StudyInstanceUID") or instance
    return NewIds(
        patient=pseudonym("patient", _patient(dataset), key=key),
        study=pseudonym("study", study, key=key),
        instance=new_uid(instance, key=key),
    )


def clean(dataset: FileDataset, *, key: bytes, identity_removed: bool) -> None:
    """Change the header in place; pixels and transfer syntax stay.

    Args:
        dataset: a whole file with a SOP Instance UID.
        key: the salt.
        identity_removed: what PatientIdentityRemoved says: False where the pixels may still name the patient.
    """
    ids = new_ids(dataset, key=key)
    rules = _Rules(key=key, days=day_offset(_patient(dataset), key=key), known=_known(dataset))
    rules.clean(dataset)
    dataset.PatientID = dataset.PatientName = ids.patient
    dataset.PatientIdentityRemoved = "YES" if identity_removed else "NO"
    dataset.DeidentificationMethod = "medtl: PS3.15 E.1-1 (2026c)"
    dataset.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in CODES.items()]
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.file_meta = _meta(dataset)
    dataset.preamble = bytes(128)  # may hold another file's header


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What is done to each element.

    Args:
        key: the salt.
        days: by which this patient's dates are moved back.
        known: finds names and ids of this file in a text.
    """

    key: bytes
    days: int
    known: re.Pattern[str] | None

    def clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            if tag.is_private or tag.group & 0xFF00 in (0x5000, 0x6000) or not _in_dictionary(tag):
                del dataset[tag]
                continue
            if tag.group == 0x7FE0:
                continue
            try:
                element = dataset[tag]
                kept = self._cleaned(element)
            except Exception:  # what cannot be read cannot be cleaned
                kept = False
            if not kept:
                del dataset[tag]

    def _cleaned(self, element: Any) -> bool:
        """Change the element; False where it must go."""
        action, vr = _ACTIONS.get(element.tag, ""), element.VR
        if vr == "SQ":
            return self._cleaned_sequence(element, action)
        if vr == "UN":
            return False
        if element.is_empty:
            return action != "X"
        if (keep := _CHARACTERISTICS.get(element.keyword)) is not None:
            element.value = keep(str(element.value))
        elif vr == "UI":
            element.value = _each(element.value, lambda uid: self._uid(uid, element.keyword))
        elif vr in ("DA", "DT") and element.keyword != "PatientBirthDate":
            element.value = _each(element.value, self._moved)
        elif action == "X" and (vr != "TM" or element.keyword == "PatientBirthTime"):
            return False
        elif vr == "TM":
            pass  # days are moved, hours stay
        elif action == "D":
            element.value = DUMMY if vr in _TEXT or vr == "CS" else 0 if vr in _NUMBERS else None
        elif action == "Z" or vr == "PN" or (vr in _TEXT and self._identifies(element.value)):
            element.value = None
        return True

    def _cleaned_sequence(self, element: Any, action: str) -> bool:
        if action in ("X", "D") and element.keyword not in _REFERENCES:
            return False
        if action == "Z" and element.keyword not in _REFERENCES:
            element.value = []
        for item in element.value:
            self.clean(item)
        return True

    def _uid(self, uid: str, keyword: str) -> str:
        if not uid or uid in UID_dictionary or keyword.endswith(_NAMES_A_CLASS):
            return uid
        return new_uid(uid, key=self.key)

    def _moved(self, value: str) -> str:
        """A date or date and time some days earlier; nothing where the day is not known. The time zone goes."""
        found = re.fullmatch(r"(\d{4})\.?(\d\d)\.?(\d\d)([\d.]*)([+-]\d{4})?", str(value).strip())
        try:
            if found is None:
                return ""
            day = date(int(found[1]), int(found[2]), int(found[3])) - timedelta(days=self.days)
        except (ValueError, OverflowError):
            return ""
        return day.isoformat().replace("-", "") + found[4]

    def _identifies(self, value: Any) -> bool:
        return self.known is not None and any(self.known.search(text.casefold()) for text in _texts(value))


def _known(dataset: Dataset) -> re.Pattern[str] | None:
    """A pattern that finds the names of all persons, the patient's ids and the hospital, wherever they stand."""
    words: set[str] = set()

    def collect(inner: Dataset) -> None:
        for tag in list(inner.keys()):
            try:
                element = inner[tag]
            except Exception:  # `clean` takes it out
                continue
            if element.VR == "SQ":
                for item in element.value:
                    collect(item)
            elif element.VR == "PN":
                for name in _texts(element.value):
                    words.update(re.split(r"[\^=\s,]+", name))
            elif element.keyword in _IDENTIFIERS:
                words.update(_texts(element.value))

    collect(dataset)
    shown = {word.strip().casefold() for word in words}
    found = sorted(word for word in shown if len(word) >= (_SHORTEST_NAME if word.isascii() else 1))
    if not found:
        return None
    return re.compile(r"(?<![^\W_])(?:" + "|".join(map(re.escape, found)) + r")(?![^\W_])")


def _age(value: str) -> str:
    """Ages over 89 years are rare enough to name a person (PS3.15 E.3.7; HIPAA 164.514 b 2 i C)."""
    years = age_years(value)
    return "" if years is None else value if years < OLDEST_YEARS else f"{OLDEST_YEARS:03d}Y"


def _number(value: str) -> str:
    try:
        return value if float(value) >= 0 else ""
    except ValueError:
        return ""


_CHARACTERISTICS = {
    "PatientAge": _age,
    "PatientSex": lambda value: value if value in ("M", "F", "O") else "",
    "PatientSize": _number,
    "PatientWeight": _number,
}


def _meta(dataset: FileDataset) -> FileMetaDataset:
    """A file meta group that says the same as the header, and nothing of where the file came from."""
    meta = FileMetaDataset()
    implicit, little = dataset.original_encoding
    native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    meta.TransferSyntaxUID = dataset.file_meta.get("TransferSyntaxUID") or native
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _patient(dataset: Dataset) -> str:
    return text_of(dataset, "PatientID") or text_of(dataset, "StudyInstanceUID") or str(dataset.SOPInstanceUID)


def _texts(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, MultiValue | list) else [value]) if each]


def _each(value: Any, change: Any) -> Any:
    return [change(str(each)) for each in value] if isinstance(value, MultiValue | list) else change(str(value))


def _in_dictionary(tag: Any) -> bool:
    return bool(dictionary_has_tag(tag) or repeater_has_tag(tag))
