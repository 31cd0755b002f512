"""Patients, parts and labels of freshly read scans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medtl.data.labels import Join, LabelTable
from medtl.data.pseudonyms import as_patient, pseudonym
from medtl.data.split import SPLITS, part_at, place_of
from medtl.errors import LabelError
from medtl.progress import counted, say

Links = Sequence[Sequence[int]]


def fill_modalities(manifest: pd.DataFrame, *, earlier: int, join: Join | None, others: str | None) -> None:
    """Complete the manifest's column `modality`, in place: the header's, else the labels file's.

    Args:
        earlier: rows at the top that were in the dataset before.
        others: of those below of which neither says it.
    """
    said = pd.Series(join.modalities if join else {}, dtype="string").reindex(manifest.index)
    manifest["modality"] = manifest["modality"].fillna(said)
    if others is not None:
        manifest.loc[manifest.index[earlier:], "modality"] = manifest["modality"][earlier:].fillna(others)


@dataclass(frozen=True, kw_only=True)
class People:
    """Whose each scan is.

    Args:
        ids: (N,) pseudonyms, one for each file that names nobody.
        named: (N,) the same, empty where neither header nor labels file says.
        parts: (N,) the part that is given, None where it follows from the patient.
        places: of patients between 0 and 1.
    """

    ids: list[str]
    named: list[str]
    parts: list[str | None]
    places: dict[str, float]


def named_people(
    manifest: pd.DataFrame,
    *,
    earlier: int,
    places: Sequence[float | None],
    join: Join | None,
    key: bytes,
    seed: int,
) -> People:
    """The patient of each scan: the labels file's, else the header's, else the file is its own patient.

    Args:
        manifest: `patient_id` is the header's pseudonym, `split` the part that the file names.
        earlier: rows at the top that were in the dataset before: they keep patient and part.
        places: of each row's patient between 0 and 1, None where the header names none.
        join: a labels file.
        key: the salt of the pseudonyms.
        seed: of the split.

    Raises:
        LabelError: the labels file moves scans that were there, or contradicts headers about who is one person.
    """
    patients = [str(name) if pd.notna(name) else "" for name in manifest["patient_id"]]
    parts = [str(part) if pd.notna(part) else None for part in manifest["split"]]
    place_of_patient: dict[str, float] = {}
    if join:
        given = {row: cell for row, cell in join.patients.items() if row >= earlier}
        ids = {row: as_patient(cell, key=key) for row, cell in given.items()}
        place_of_patient = {ids[row]: place_of(cell, seed) for row, cell in given.items()}
        patients = _renamed(patients, ids, given, manifest)
        for row, split in join.splits.items():
            if row < earlier and parts[row] != split:
                raise LabelError(
                    f"{manifest['path'][row]}: is in '{parts[row]}' of the dataset, the labels file says '{split}'; "
                    "scans that are added cannot move those that are there"
                )
            parts[row] = split
    unknown = [row for row, patient in enumerate(patients) if not patient]
    for row in unknown:
        path = str(manifest["path"][row])
        patients[row] = pseudonym("patient", path, key=key)
        place_of_patient[patients[row]] = place_of(path, seed)
    if any(parts[row] is None for row in unknown):
        say(
            f"{len(unknown):,} of {len(patients):,} scans name no patient: each counts as its own. Where a patient has "
            "several scans, give --labels with a column patient_id, or they may fall into different parts"
        )
    for patient, place in zip(patients, places, strict=True):
        if place is not None:
            place_of_patient.setdefault(patient, place)
    named = without_unnamed(patients, manifest["path"], key=key)
    return People(ids=patients, named=named, parts=parts, places=place_of_patient)


def without_unnamed(patients: Iterable[str], paths: Iterable[str], *, key: bytes) -> list[str]:
    """The patients, empty for files that name nobody, whose patient is the pseudonym of their path."""
    return [
        "" if patient == pseudonym("patient", path, key=key) else patient
        for patient, path in zip(patients, paths, strict=True)
    ]


def assign_parts(
    manifest: pd.DataFrame, people: People, *, links: Links, twins: Sequence[tuple[str, int]]
) -> list[str]:
    """Fill the manifest's columns `patient_id` and `split`; patients who share a study or a picture share a part.

    The part is the one that is given, else it follows from a digest of the patient.

    Args:
        manifest: changed in place.
        people: whose its scans are.
        links: pairs of rows that show the same picture.
        twins: of each rejected duplicate the patient that its header names, and the row of the scan that is kept.

    Returns:
        What to say about parts that are shared, and about those that have nobody.

    Raises:
        LabelError: the parts that are given would put one patient into two.
    """
    ids = people.ids
    part_of = _given_parts(people, manifest)
    alone = {name: part_of.get(name) or part_at(people.places.get(name, 0.0)) for name in ids}
    pairs = [(ids[a], ids[b]) for a, b in links] + [(patient, ids[row]) for patient, row in twins]
    _share_parts(part_of, people.places, ids, pairs, manifest["study_id"])
    manifest["patient_id"] = pd.array(ids, dtype="string")
    manifest["split"] = pd.array([part_of[patient] for patient in ids], dtype="string")
    notes = []
    alike = sum(ids[a] != ids[b] and part_of[ids[a]] == part_of[ids[b]] for a, b in links)
    if alike:
        pairs_of = counted(alike, "pair")
        notes.append(f"note: {pairs_of} of scans of different patients look alike and share a part: see report.html")
    for part in SPLITS:
        if part not in part_of.values():
            notes.append(f"note: no patient is in the part '{part}'; {_why_nobody(part, people, alone)}")
    return notes


def _why_nobody(part: str, people: People, alone: Mapping[str, str]) -> str:
    """Why a part has nobody, and what to do.

    Args:
        part: the part.
        people: whose the scans are.
        alone: the part of each patient if nobody shared one with others.
    """
    if all(people.parts):
        return "the parts that are given name none for it"
    if together := sum(each == part for each in alone.values()):
        return (
            f"the {together:,} who would be share a picture or a study with patients of another part. Where they only "
            "look alike, name parts in the column 'split' of --labels"
        )
    return "with so few, name parts in the column 'split' of --labels"


def _given_parts(people: People, manifest: pd.DataFrame) -> dict[str, str]:
    part_of: dict[str, str] = {}
    for row, (patient, part) in enumerate(zip(people.ids, people.parts, strict=True)):
        if part and part_of.setdefault(patient, part) != part:
            raise LabelError(
                f"{manifest['path'][row]}: patient {patient} is in '{part}' here, elsewhere in '{part_of[patient]}'; "
                "a patient to learn from cannot be one to test on"
            )
    return part_of


def _share_parts(
    part_of: dict[str, str],
    place_of_patient: Mapping[str, float],
    patients: list[str],
    pairs: list[tuple[str, str]],
    studies: "pd.Series[str]",
) -> None:
    """Complete `part_of`: linked patients share a part, the named one, else that of the first place among them."""
    first_of: dict[str, str] = {}
    for patient, study in zip(patients, studies, strict=True):
        if pd.notna(study):
            pairs.append((first_of.setdefault(str(study), patient), patient))
    torn = 0
    for group in _groups(sorted(set(patients)), pairs):
        parts = sorted({part_of[name] for name in group if name in part_of})
        torn += len(parts) > 1
        place = min((place_of_patient[name] for name in group if name in place_of_patient), default=0.0)
        for name in group:
            part_of.setdefault(name, parts[0] if parts else part_at(place))
    if torn:
        say(
            f"note: {counted(torn, 'group')} of patients share a picture or a study, but the parts that were given put "
            "them apart; see them with medtl split check"
        )


def _groups(names: list[str], pairs: list[tuple[str, str]]) -> list[list[str]]:
    """Patients who share a picture or a study, together; most are alone."""
    index = {name: i for i, name in enumerate(names)}
    ends = np.array([(index[a], index[b]) for a, b in pairs if a in index and b in index], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    count, label = connected_components(graph, directed=False)
    groups: list[list[str]] = [[] for _ in range(count)]
    for name, group in zip(names, label, strict=True):
        groups[group].append(name)
    return groups


def same_bytes(manifest: pd.DataFrame, rejects: pd.DataFrame) -> list[tuple[str, int]]:
    """Of each rejected duplicate that names a patient: the patient, and the row of the scan that is kept."""
    row_of = {name: row for row, name in enumerate(manifest["scan_id"])}
    twins = rejects[(rejects["code"] == "duplicate") & (rejects["patient_id"].fillna("") != "")]
    return [(str(patient), row_of[scan]) for patient, scan in zip(twins["patient_id"], twins["scan_id"], strict=True)]


def _renamed(
    headers: list[str], named: Mapping[int, str], given: Mapping[int, str], manifest: pd.DataFrame
) -> list[str]:
    """The labels file's patients, also for the scans that it leaves out but whose header names the same person.

    Raises:
        LabelError: scans with one id in their headers have several in the labels file.
    """
    first: dict[str, int] = {}
    for row, patient in named.items():
        header = headers[row]
        if header and named[first.setdefault(header, row)] != patient:
            raise LabelError(
                f"{manifest['path'][row]}: is patient {given[row]} in the labels file, another scan with its header id "
                f"is {given[first[header]]}; give all scans of a person one patient_id"
            )
    alias = {header: named[row] for header, row in first.items()}
    return [named.get(row) or alias.get(header, header) for row, header in enumerate(headers)]


def own_labels(labels: Sequence[Mapping[str, float] | None]) -> LabelTable | None:
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
