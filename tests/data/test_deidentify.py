"""No identifying value of an original may be found in what is written; everything else must be as it was.

The oracle reads originals with pydicom, and searches the written bytes; dciodvfy judges the written objects.
"""

import csv
import io
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, EncapsulatedPDFStorage, UID_dictionary

import medtl
from medtl.data import deidentify as module
from medtl.data.burned_in import burned_in
from medtl.data.confidentiality import clean
from medtl.errors import MedtlError, ScanError, Stopped

Make = Callable[..., bytes]
ROOT = Path(__file__).parents[2]
RAMP = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10
KEY = bytes(range(32))
SURNAME, GIVEN, NUMBER = "Quastelhaven", "Zebulon", "QX998877"
WHO = {
    "PatientName": f"{SURNAME}^{GIVEN}", "PatientID": NUMBER, "PatientBirthDate": "19310203", "PatientAge": "093Y",
    "PatientSex": "F", "PatientWeight": "61.5", "StudyInstanceUID": "1.2.826.55.1", "SeriesInstanceUID": "1.2.826.55.2",
    "StudyDate": "20240305", "StudyTime": "101112", "AcquisitionDateTime": "20240305101112.5+0100",
    "AccessionNumber": "ACC4711", "InstitutionName": "St Elsewhere", "Manufacturer": "Maker",
}  # fmt: skip
# Independent of the profile's table: attributes that name someone or something in a hospital.
IDENTIFYING = {
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress",
    "StationName", "DeviceSerialNumber", "InstitutionalDepartmentName", "PatientAddress", "PatientTelephoneNumbers",
    "AdmissionID", "PatientComments", "ImageComments", "StudyDescription", "SeriesDescription",
    "RequestedProcedureID", "PerformedProcedureStepID", "FillerOrderNumber", "IssuerOfPatientID",
    "MedicalRecordLocator", "PatientBirthDate", "PatientBirthName", "PlateID", "DetectorID",
}  # fmt: skip


@pytest.fixture(autouse=True)
def salt_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("secret") / "salt"
    path.write_bytes(KEY)
    monkeypatch.setenv("MEDTL_SALT_FILE", str(path))
    return path


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def table(out: Path) -> list[dict[str, str]]:
    with (out / "deidentified.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pairs(out: Path) -> Iterator[tuple[Path, Path]]:
    """Original and output of all that was written."""
    with out.with_name(f"{out.name}-key.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["output"]:
                yield Path(row["original"]), out / row["output"]


def elements(dataset: Dataset) -> Iterator[Any]:
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def values(element: Any) -> list[str]:
    many = element.value if isinstance(element.value, list) or element.VM > 1 else [element.value]
    return [str(value).strip().strip("\x00") for value in many if value]


def identity(original: Dataset) -> set[str]:
    """What must not be found again."""
    found: set[str] = set()
    for element in elements(original):
        if element.VR == "PN":
            found |= {word for name in values(element) for word in re.split(r"[\^= ]+", name) if len(word) > 3}
        elif element.VR == "UI" and "ClassUID" not in keyword_for_tag(element.tag):
            found |= {uid for uid in values(element) if uid not in UID_dictionary and len(uid) > 6}
        elif element.VR in ("DA", "DT"):
            found |= {day[:8] for day in values(element) if len(day) >= 8}
        elif keyword_for_tag(element.tag) in IDENTIFYING and element.VR in ("LO", "SH", "LT", "ST"):
            found |= {text for text in values(element) if len(text) > 3}
    return {value for value in found if len(set(value)) > 1}  # a serial number "00000" is part of many numbers


def pixels(dataset: Dataset) -> bytes:
    return next(dataset[key].value for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if key in dataset)


def header_bytes(path: Path) -> bytes:
    """The bytes of a file, inflated where deflated, without those of its pixels."""
    data, dataset = path.read_bytes(), dcmread(path)
    if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        start = 144 + dataset.file_meta.FileMetaInformationGroupLength
        data = data[:start] + zlib.decompress(data[start:], wbits=-15)
    assert pixels(dataset) in data
    return data.replace(pixels(dataset), b"")


def check_pair(original: Path, output: Path) -> None:
    before, after = dcmread(original, force=True), dcmread(output)
    data = header_bytes(output)
    left = {value for value in identity(before) if value.encode("latin-1", "ignore") in data}
    assert not left, f"{original.name}: {left}"
    assert pixels(after) == pixels(before)
    syntax = before.file_meta.get("TransferSyntaxUID")
    assert syntax is None or after.file_meta.TransferSyntaxUID == syntax
    assert after.original_encoding == before.original_encoding
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID == output.stem
    assert after.SOPClassUID == before.SOPClassUID == after.file_meta.MediaStorageSOPClassUID
    assert not any(element.tag.is_private for element in elements(after))
    for key in ("Rows", "Columns", "BitsStored", "PhotometricInterpretation", "PixelSpacing", "WindowCenter"):
        assert after.get(key) == before.get(key), key
    assert [code.CodeValue for code in after.DeidentificationMethodCodeSequence] == ["113100", "113107", "113108"]
    assert after.DeidentificationMethod and after.LongitudinalTemporalInformationModified == "MODIFIED"


@pytest.mark.parametrize("folder", ["conformance", "brain_mr"])
def test_real_files(shared: Path, tmp_path: Path, folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    medtl.deidentify(shared / "dicom" / folder, out=out, keep_burned_in=True)
    written = list(pairs(out))
    assert len(written) == {"conformance": 45, "brain_mr": 241}[folder]
    for original, output in written:
        check_pair(original, output)
    codes = {row["code"] for row in table(out)}
    assert codes <= {"", "duplicate", "damaged", "truncated", "unsupported_syntax"}
    assert "Traceback" not in capfd.readouterr().err


def test_the_sample_data(tmp_path: Path) -> None:
    out = tmp_path / "out"
    medtl.deidentify(ROOT / "sample_data/images", out=out)
    written = list(pairs(out))
    assert len(written) == len(list((ROOT / "sample_data/images").rglob("*.dcm"))) > 0
    for original, output in written:
        check_pair(original, output)
        assert dcmread(output).PatientIdentityRemoved == "YES"
    patients = {dcmread(original).PatientID: output.relative_to(out).parts[0] for original, output in written}
    assert len(set(patients.values())) == len(patients)


def errors(path: Path) -> list[str]:
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace", timeout=30)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of Debian's dicom3tools, not installed")
def test_dciodvfy_finds_no_more_errors_than_before(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = [shared / "dicom/conformance", *sorted((shared / "dicom/brain_mr").rglob("*.dcm"))[::60]]
    inputs += sorted((ROOT / "sample_data/images").rglob("*.dcm"))[::7]
    medtl.deidentify(inputs, out=out, keep_burned_in=True)
    for original, output in pairs(out):
        if original.read_bytes()[128:132] == b"DICM":
            before, after = errors(original), errors(output)
            assert len(after) <= len(before), f"{original.name}: {set(after) - set(before)}"


def test_one_file_in_full(make_dicom: Make, tmp_path: Path) -> None:
    source = write(tmp_path / f"{SURNAME}/{NUMBER}.dcm", make_dicom(RAMP, **WHO))
    out = tmp_path / "out"
    assert medtl.deidentify(source, out=out) == out / "deidentified.csv"
    [(original, output)] = pairs(out)
    assert original == source
    check_pair(original, output)
    after = dcmread(output)
    patient, study, name = output.relative_to(out).parts
    assert re.fullmatch(r"p_[0-9a-f]{16}", patient) and re.fullmatch(r"s_[0-9a-f]{16}", study)
    assert name == f"{after.SOPInstanceUID}.dcm"
    assert after.PatientID == after.PatientName == patient
    assert (after.PatientAge, after.PatientSex, after.PatientWeight, after.Manufacturer) == ("090Y", "F", 61.5, "Maker")
    assert after.PatientBirthDate == after.AccessionNumber == "" and after.InstitutionName == "REMOVED"
    assert after.StudyTime == "101112" and after.AcquisitionDateTime == f"{after.StudyDate}101112.5"
    assert after.PatientIdentityRemoved == "YES"
    written = [path for path in out.rglob("*") if path.is_file()]
    for path in written:
        text = str(path.relative_to(out)).encode() + path.read_bytes()
        assert not any(secret.encode() in text for secret in (SURNAME, GIVEN, NUMBER, "1.2.826.55", "ACC4711"))
    assert len(written) == 2
    assert (tmp_path / "out-key.csv").stat().st_mode & 0o777 == 0o600


def test_ids_are_the_same_in_every_call_and_other_with_another_salt(
    make_dicom: Make, tmp_path: Path, salt_file: Path
) -> None:
    source = write(tmp_path / "a.dcm", make_dicom(RAMP, **WHO))
    outputs = []
    for name in ("one", "two", "three"):
        if name == "three":
            salt_file.write_bytes(KEY[::-1])
        medtl.deidentify(source, out=tmp_path / name)
        outputs.append(next(pairs(tmp_path / name))[1])
    first, second, third = (path.read_bytes() for path in outputs)
    assert first == second and dcmread(outputs[0]).PatientID != dcmread(outputs[2]).PatientID
    assert outputs[0].name == outputs[1].name != outputs[2].name and third != first


def test_references_and_intervals_stay(make_dicom: Make, tmp_path: Path) -> None:
    def content(uid: str, day: str, other: str) -> bytes:
        dataset = dcmread(io.BytesIO(make_dicom(RAMP, **WHO | {"StudyDate": day, "FrameOfReferenceUID": "1.2.826.9"})))
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, other
        dataset.ReferencedImageSequence = [item]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        return buffer.getvalue()

    write(tmp_path / "in/a.dcm", content("1.2.826.3", "20240228", "1.2.826.4"))
    write(tmp_path / "in/b.dcm", content("1.2.826.4", "20240310", "1.2.826.3"))
    medtl.deidentify(tmp_path / "in", out=tmp_path / "out")
    a, b = (dcmread(output) for _, output in sorted(pairs(tmp_path / "out")))
    assert a.ReferencedImageSequence[0].ReferencedSOPInstanceUID == b.SOPInstanceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert a.ReferencedImageSequence[0].ReferencedSOPClassUID == a.SOPClassUID
    assert a.StudyInstanceUID == b.StudyInstanceUID and a.FrameOfReferenceUID == b.FrameOfReferenceUID
    days = [np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in (a.StudyDate, b.StudyDate)]
    assert int((days[1] - days[0]).astype(int)) == 11
    assert 1 <= int((np.datetime64("2024-02-28") - days[0]).astype(int)) <= 3650


@pytest.mark.parametrize(
    ("age", "expected"),
    [("095Y", "090Y"), ("090Y", "090Y"), ("089Y", "089Y"), ("999M", "999M"), ("003W", "003W"), ("old", None)],
)
def test_ages(make_dicom: Make, age: str, expected: str | None) -> None:
    dataset = dcmread(io.BytesIO(make_dicom(RAMP, PatientAge=age)))
    clean(dataset, key=KEY, identity_removed=True)
    assert (dataset.PatientAge or None) == expected


def test_overlays_curves_and_what_else_hides_identity(make_dicom: Make) -> None:
    dataset = dcmread(io.BytesIO(make_dicom(RAMP, **WHO)))
    dataset.add_new((0x6000, 0x0010), "US", 20)
    dataset.add_new((0x6000, 0x3000), "OW", SURNAME.encode())
    dataset.add_new((0x6002, 0x4000), "LT", SURNAME)
    dataset.add_new((0x5000, 0x3000), "OW", SURNAME.encode())
    dataset.add_new((0x0008, 0x7777), "LO", "not in the dictionary")
    dataset.private_block(0x0029, "SIEMENS CSA", create=True).add_new(0x10, "OB", SURNAME.encode())
    old = Dataset()
    old.PatientName = WHO["PatientName"]
    holder = Dataset()
    holder.ModifiedAttributesSequence = [old]
    dataset.OriginalAttributesSequence = [holder]
    dataset.IconImageSequence = [old]
    dataset.ImageID = f"of {SURNAME.upper()}"
    dataset.preamble = SURNAME.encode().ljust(128)
    clean(dataset, key=KEY, identity_removed=True)
    assert not [
        each.tag for each in dataset if each.tag.group in (0x29, 0x5000, 0x6000, 0x6002) or each.tag == 0x00087777
    ]
    assert "OriginalAttributesSequence" not in dataset and "IconImageSequence" not in dataset
    assert not dataset.ImageID and dataset.preamble == bytes(128)


TEXT = sorted(
    tag for tag, (vr, *_, keyword) in DicomDictionary.items()
    if vr in ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE") and keyword and tag >> 16 > 8
)  # fmt: skip
NESTS = sorted(tag for tag, (vr, *_) in DicomDictionary.items() if vr == "SQ" and tag >> 16 >= 8)


@st.composite
def planted(draw: st.DrawFn) -> Dataset:
    """Elements with the patient's name or id, some in sequences of sequences, some private."""
    dataset = Dataset()
    for tag in draw(st.lists(st.sampled_from(TEXT), max_size=6)):
        vr = DicomDictionary[tag][0]
        text = draw(st.sampled_from([SURNAME, NUMBER, f"{SURNAME.upper()}, {GIVEN}", f"id:{NUMBER}"]))
        dataset.add_new(tag, vr, text[:16] if vr in ("SH", "AE") else text)
    if draw(st.booleans()):
        block = dataset.private_block(draw(st.sampled_from([0x0009, 0x0019, 0x7FE1])), f"{SURNAME} CO", create=True)
        vr = draw(st.sampled_from(["LO", "UN", "OB"]))
        block.add_new(draw(st.integers(0, 255)), vr, SURNAME if vr == "LO" else SURNAME.encode())
    if draw(st.integers(0, 2)):
        dataset.add_new(draw(st.sampled_from(NESTS)), "SQ", Sequence([draw(planted())]))
    return dataset


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(extra=planted())
def test_names_and_ids_are_found_wherever_they_are(extra: Dataset) -> None:
    dataset = FileDataset("", extra, file_meta=FileMetaDataset(), is_little_endian=True, is_implicit_VR=False)
    for key, value in WHO.items():
        setattr(dataset, key, value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.826.77"
    clean(dataset, key=KEY, identity_removed=True)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue().lower()
    assert not [
        word
        for word in (SURNAME, GIVEN, NUMBER, "1.2.826.55", "1.2.826.77", "20240305")
        if word.lower().encode() in data
    ]
    dcmread(io.BytesIO(buffer.getvalue()))


def test_a_patient_without_id_is_not_merged_with_another(make_dicom: Make, tmp_path: Path) -> None:
    for i in range(2):
        who = WHO | {"PatientID": "", "StudyInstanceUID": f"1.2.826.5{i}", "SOPInstanceUID": f"1.2.826.6{i}"}
        write(tmp_path / f"in/{i}.dcm", make_dicom(RAMP, **who))
    medtl.deidentify(tmp_path / "in", out=tmp_path / "out")
    assert len({output.parts[-3] for _, output in pairs(tmp_path / "out")}) == 2


def report(make_dicom: Make, **more: Any) -> bytes:
    return make_dicom(RAMP, PixelData=None, Rows=None, **WHO | more)


def test_what_cannot_be_cleaned_is_refused_with_a_reason(
    make_dicom: Make, make_png: Callable[[int], bytes], tmp_path: Path
) -> None:
    image = make_dicom(RAMP, **WHO)
    files = {
        "text.dcm": (b"this is not a scan\n" * 30, "text"),
        "picture.png": (make_png(1), "not_dicom"),
        "report.dcm": (report(make_dicom, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"), "no_image"),
        "letter.dcm": (report(make_dicom, SOPClassUID=EncapsulatedPDFStorage), "no_image"),
        "cut.dcm": (image[:-100], "truncated"),
        "header.dcm": (image[:700], "truncated"),
        "again.dcm": (image, "duplicate"),
        "a.dcm": (image, ""),
    }
    for name, (data, _) in files.items():
        write(tmp_path / "in" / name, data)
    out = tmp_path / "out"
    medtl.deidentify([tmp_path / "in/a.dcm", tmp_path / "in"], out=out)
    rows = {row["row"]: row for row in table(out)}
    with (tmp_path / "out-key.csv").open(newline="") as file:
        found = {Path(row["original"]).name: rows[row["row"]] for row in csv.DictReader(file)}
    assert {name: row["code"] for name, row in found.items()} == {name: code for name, (_, code) in files.items()}
    assert "(Comprehensive SR Storage), whose text cannot be cleaned with certainty" in found["report.dcm"]["message"]
    assert all(bool(row["message"]) == bool(row["code"]) for row in rows.values())
    assert SURNAME not in (out / "deidentified.csv").read_text() and "in/" not in (out / "deidentified.csv").read_text()


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    source = write(tmp_path / "x.dcm", b"this is not a scan\n" * 30)
    with pytest.raises(
        ScanError, match=r"x\.dcm: is text, not a scan.* \(no input was written; see .*deidentified.csv"
    ):
        medtl.deidentify(source, out=tmp_path / "out")


def test_a_second_call_does_only_what_is_missing(
    make_dicom: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        write(tmp_path / f"in/{i}.dcm", make_dicom(RAMP, **WHO | {"SOPInstanceUID": f"1.2.826.7{i}"}))
    out = tmp_path / "out"
    medtl.deidentify(tmp_path / "in", out=out)
    before = {output: output.stat().st_mtime_ns for _, output in pairs(out)}
    tables = (out / "deidentified.csv").read_bytes()
    gone = next(iter(before))
    gone.unlink()
    capfd.readouterr()
    medtl.deidentify([tmp_path / "in", out], out=out)
    assert "deidentified 4 images (1 new, 3 were there), refused 0" in capfd.readouterr().err
    assert {output for _, output in pairs(out) if output.stat().st_mtime_ns != before[output]} == {gone}
    assert (out / "deidentified.csv").read_bytes() == tables
    write(tmp_path / "more/4.dcm", make_dicom(RAMP, **WHO | {"SOPInstanceUID": "1.2.826.74"}))
    medtl.deidentify(tmp_path / "more", out=out)
    assert len(table(out)) == 5 == len(list(pairs(out))), "the tables keep what earlier calls did"


@pytest.mark.parametrize("name", ["693_J2KR", "OBXXXX1A_rle", "MR2_UNCI", "liver_expb"])
def test_a_cut_file_is_refused_however_it_is_encoded(shared: Path, tmp_path: Path, name: str) -> None:
    data = (shared / f"dicom/conformance/{name}.dcm").read_bytes()
    source = write(tmp_path / "a.dcm", data[: len(data) * 3 // 4])
    with pytest.raises(ScanError, match=r"a\.dcm: is DICOM (that ends too early|whose pixel data are too short); copy"):
        medtl.deidentify(source, out=tmp_path / "out", keep_burned_in=True)
    assert table(tmp_path / "out")[0]["code"] == "truncated"


def test_a_path_of_any_bytes_is_kept(make_dicom: Make, tmp_path: Path) -> None:
    source = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm")), make_dicom(RAMP, **WHO))
    for _ in range(2):
        medtl.deidentify(source, out=tmp_path / "out")
    with (tmp_path / "out-key.csv").open(newline="", errors="surrogateescape") as file:
        assert [row["original"] for row in csv.DictReader(file)] == [str(source)]


def test_the_key_outlives_the_folder(make_dicom: Make, tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / f"in/{i}.dcm", make_dicom(RAMP, **WHO | {"SOPInstanceUID": f"1.2.826.7{i}"}))
    out = tmp_path / "out"
    medtl.deidentify(tmp_path / "in/0.dcm", out=out)
    first = list(pairs(out))
    out.rename(tmp_path / "given away")
    medtl.deidentify(tmp_path / "in/1.dcm", out=out)
    medtl.deidentify(tmp_path / "in/1.dcm", out=out)
    assert len(list(pairs(out))) == 2 and set(first) < set(pairs(out)) and len(table(out)) == 1


def test_ctrl_c_keeps_what_is_written(make_dicom: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        write(tmp_path / f"in/{i}.dcm", make_dicom(RAMP, **WHO | {"SOPInstanceUID": f"1.2.826.7{i}"}))
    real, calls = module.clean, []

    def interrupted(*arguments: Any, **more: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments, **more)

    monkeypatch.setattr(module, "clean", interrupted)
    with pytest.raises(Stopped, match="stopped after 2 files; they are written"):
        medtl.deidentify(tmp_path / "in", out=tmp_path / "out")
    assert len(list(pairs(tmp_path / "out"))) == 2
    assert not list((tmp_path / "out").rglob("*.tmp"))
    medtl.deidentify(tmp_path / "in", out=tmp_path / "out")
    assert len(list(pairs(tmp_path / "out"))) == 4


def test_a_foreign_folder_is_left_alone(make_dicom: Make, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.dcm", make_dicom(RAMP, **WHO))
    write(tmp_path / "mine/notes.txt", b"mine")
    with pytest.raises(MedtlError, match=r"holds other files and no deidentified\.csv"):
        medtl.deidentify(source, out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("header", "expected", "why"),
    [
        ({"BurnedInAnnotation": "YES", "Modality": "CT"}, "yes", "the header says YES"),
        ({"BurnedInAnnotation": "NO", "Modality": "US"}, "no", "the header says NO"),
        ({"Modality": "US"}, "likely", "modality US, and the header does not say"),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "likely", "Secondary Capture Image Storage, "),
        ({"Modality": "CR", "ConversionType": "DF"}, "likely", "scanned, or taken from a screen (ConversionType), "),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "likely", "a picture of a screen"),
        ({"Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY"]}, "no", "nothing suggests it"),
    ],
)
def test_burned_in_text_is_suspected(header: dict[str, Any], expected: str, why: str) -> None:
    dataset = Dataset()
    for key, value in header.items():
        setattr(dataset, key, value)
    found, reason = burned_in(dataset)
    assert found == expected and reason.startswith(why)


def test_an_overlay_in_the_pixels_is_suspected_whatever_the_header_says() -> None:
    dataset = Dataset()
    dataset.BurnedInAnnotation = "NO"
    dataset.add_new((0x6000, 0x0102), "US", 12)
    assert burned_in(dataset) == ("likely", "an overlay lies in unused bits of the pixels")


def test_burned_in_images_are_written_only_when_asked(
    make_dicom: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in/us.dcm", make_dicom(RAMP, **WHO | {"Modality": "US", "SOPInstanceUID": "1.2.826.70"}))
    write(tmp_path / "in/dx.dcm", make_dicom(RAMP, **WHO))
    out = tmp_path / "out"
    medtl.deidentify(tmp_path / "in", out=out)
    assert [(row["burned_in"], row["code"]) for row in table(out)] == [("no", ""), ("likely", "burned_in")]
    assert "1 may show a name in their pixels and need a look (not written)" in capfd.readouterr().err
    medtl.deidentify(tmp_path / "in", out=out, keep_burned_in=True)
    assert "need a look (written, marked as not deidentified)" in capfd.readouterr().err
    said = {original.name: dcmread(output).PatientIdentityRemoved for original, output in pairs(out)}
    assert said == {"us.dcm": "NO", "dx.dcm": "YES"}


def test_a_deflated_bomb_is_refused(bomb: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "bomb.dcm").write_bytes(bomb)
    with pytest.raises(ScanError, match="unpacks to more than 1 GB"):
        medtl.deidentify(path, out=tmp_path / "out")
