"""What an ingest keeps of a patient."""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import medtl
from medtl.data.pseudonyms import day_offset, pseudonym, salt, salt_file

SECRETS = {
    "PatientName": "SECRET^PERSON", "PatientID": "HOSP-4711", "StudyInstanceUID": "1.2.826.0.1.47", "SeriesInstanceUID":
    "1.2.826.0.1.48", "AccessionNumber": "ACC99123", "StudyDate": "20210304", "PatientBirthDate": "19250102",
    "StudyDescription": "Chest of Mr Secret", "ReferringPhysicianName": "HOUSE^GREG", "InstitutionName": "St Elsewhere",
}  # fmt: skip


def test_no_identifier_is_in_any_file_of_a_dataset(tmp_path: Path, make_dicom: Callable[..., bytes]) -> None:
    values = np.arange(900, dtype=np.uint16).reshape(30, 30)
    (tmp_path / "in").mkdir()
    for i, date in enumerate(("20210304", "20210404")):
        (tmp_path / f"in/{i}.dcm").write_bytes(make_dicom(values + i, **(SECRETS | {"StudyDate": date})))
    (tmp_path / "in/cut.dcm").write_bytes(make_dicom(values, **SECRETS)[:-100])
    (tmp_path / "labels.csv").write_text("path,patient_id,x\n0.dcm,HOSP-4711,1\n1.dcm,HOSP-4711,0\n")
    data = medtl.ingest(tmp_path / "in", out=tmp_path / "ds", labels=tmp_path / "labels.csv", size_px=32)
    whole = b"".join(path.read_bytes() for path in sorted(data.folder.iterdir())) + data.manifest.to_csv().encode()
    for name, secret in SECRETS.items():
        for text in (secret, *secret.split("^")):
            assert text.encode() not in whole, name
    assert salt() not in whole
    row = data.manifest.iloc[0]
    assert row["patient_id"] == pseudonym("patient", "HOSP-4711", key=salt())
    assert row["study_id"] == pseudonym("study", "1.2.826.0.1.47", key=salt())
    assert row["series_id"] == pseudonym("series", "1.2.826.0.1.48", key=salt())
    assert row["age_years"] == 90, "96 years old, as all over 89"
    assert data.manifest["day"].diff().iloc[1] == 31, "intervals stay"
    shifted = datetime.date(2021, 3, 4).toordinal() - day_offset("HOSP-4711", key=salt())
    assert row["day"] == shifted
    assert not salt_file().is_relative_to(data.folder)


def test_another_salt_gives_other_names_and_the_same_parts(
    tmp_path: Path, make_dicom: Callable[..., bytes], monkeypatch
) -> None:
    values = np.arange(900, dtype=np.uint16).reshape(30, 30)
    (tmp_path / "in").mkdir()
    for i in range(12):
        (tmp_path / f"in/{i:02d}.dcm").write_bytes(make_dicom(values * (i + 1), PatientID=f"P{i}"))
    here = medtl.ingest(tmp_path / "in", out=tmp_path / "a", size_px=32).manifest
    monkeypatch.setenv("MEDTL_SALT_FILE", str(tmp_path / "other"))
    there = medtl.ingest(tmp_path / "in", out=tmp_path / "b", size_px=32).manifest
    assert not set(here["patient_id"]) & set(there["patient_id"])
    pd.testing.assert_series_equal(here["split"], there["split"])


def test_labels_of_a_dataset_can_be_used_again(tmp_path: Path, make_png: Callable[[int], bytes]) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        (tmp_path / f"in/{i}.png").write_bytes(make_png(i))
    lines = ["path,patient_id,x", *(f"{i}.png,A{i // 2},{i % 2}" for i in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    first = medtl.ingest(tmp_path / "in", out=tmp_path / "a", labels=tmp_path / "labels.csv", size_px=32)
    again = medtl.ingest(tmp_path / "in", out=tmp_path / "b", labels=first.folder / "labels.csv", size_px=32)
    pd.testing.assert_frame_equal(first.manifest, again.manifest)
