"""Patients, parts and labels of freshly read scans."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medtl.data.labels import Join, LabelTable
from medtl.data.split import split_of
from medtl.errors import LabelError
from medtl.progress import say


def assign_patients_and_parts(
    manifest: pd.DataFrame, *, official: Sequence[str | None], join: Join | None, seed: int
) -> None:
    """Fill the manifest's columns `patient_id` and `split`.

    The patient is the labels file's, else the header's, else the file is its own patient. The part is the one that
    the labels file names, else the scan's file, else a digest of the patient; all scans of a patient share it.

    Raises:
        LabelError: the parts that are named would put one patient into two.
    """
    patients = [str(name) if pd.notna(name) else "" for name in manifest["patient_id"]]
    named: list[str | None] = list(official)
    if join:
        patients = _renamed(patients, join.patients, manifest)
        for row, split in join.splits.items():
            named[row] = split
    unknown = [row for row, patient in enumerate(patients) if not patient]
    for row in unknown:
        patients[row] = str(manifest["path"][row])
    if any(named[row] is None for row in unknown):
        say(
            f"{len(unknown):,} of {len(patients):,} scans name no patient: each counts as its own. Where a patient has "
            "several scans, give --labels with a column patient_id, or they may fall into different parts"
        )
    part_of: dict[str, str] = {}
    for row, (patient, part) in enumerate(zip(patients, named, strict=True)):
        if part and part_of.setdefault(patient, part) != part:
            raise LabelError(
                f"{manifest['path'][row]}: patient {patient} is in '{part}' here, elsewhere in '{part_of[patient]}'; "
                "a patient to learn from cannot be one to test on"
            )
    manifest["patient_id"] = pd.array(patients, dtype="string")
    manifest["split"] = pd.array([part_of.get(p) or split_of(p, seed) for p in patients], dtype="string")


def _renamed(headers: list[str], named: Mapping[int, str], manifest: pd.DataFrame) -> list[str]:
    """The labels file's patients, also for the scans that it leaves out but whose header names the same person.

    Raises:
        LabelError: scans with one id in their headers have several in the labels file.
    """
    alias: dict[str, str] = {}
    for row, patient in named.items():
        header = headers[row]
        if header and alias.setdefault(header, patient) != patient:
            raise LabelError(
                f"{manifest['path'][row]}: is patient {patient} in the labels file, another scan with its header id "
                f"is {alias[header]}; give all scans of a person one patient_id"
            )
    return [named.get(row) or alias.get(header, header) for row, header in enumerate(headers)]


def own_labels(labels: Sequence[dict[str, float] | None]) -> LabelTable | None:
    """The labels that the files themselves hold, None where none does."""
    findings = tuple(dict.fromkeys(name for each in labels if each for name in each))
    if not findings:
        return None
    values = np.array([[(each or {}).get(name, np.nan) for name in findings] for each in labels], np.float32)
    return LabelTable(findings=findings, values=values)


def write_labels(path: Path, manifest: pd.DataFrame, table: LabelTable) -> None:
    """Write the labels of labeled scans as a labels file that names patients and parts, too."""
    columns = {
        name: pd.array(table.values[:, i], dtype="Float32").astype("Int8") for i, name in enumerate(table.findings)
    }
    whole = pd.concat([manifest[["scan_id", "path", "patient_id", "split"]], pd.DataFrame(columns)], axis=1)
    whole[~np.isnan(table.values).all(axis=1)].to_csv(path, index=False)
