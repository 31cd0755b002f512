"""`medtl split check`: proof that no patient, study or picture is in two parts of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medtl.data.assign import without_unnamed
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.duplicates import near_duplicates, perceptual_hash
from medtl.data.pseudonyms import salt
from medtl.data.split import SPLITS
from medtl.errors import DatasetError
from medtl.progress import progress

BATCH = 256
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class SplitCheck:
    """What the parts of a dataset share.

    Args:
        counts: scans, patients and studies of each part.
        shared: for "patients", "studies", "identical files" and "near-duplicates" what stands in two parts, in words.
    """

    counts: pd.DataFrame
    shared: dict[str, list[str]]


def split_check(dataset: str | Path) -> SplitCheck:
    """Look for overlap between train, val and test, from the manifest and anew from the pixels.

    Raises:
        DatasetError: there is overlap; the message names what is shared.
    """
    data = open_dataset(dataset)
    table = data.manifest
    counts = pd.DataFrame(
        {
            "scans": table["split"].value_counts(),
            "patients": table.groupby("split")["patient_id"].nunique(),
            "studies": table.groupby("split")["study_id"].nunique(),
        }
    ).reindex(SPLITS, fill_value=0)
    shared = {
        "patients": _torn(table, "patient_id"),
        "studies": _torn(table, "study_id"),
        "identical files": _torn(table, "sha256"),
        "near-duplicates": _torn_pictures(data),
    }
    if found := {what: names for what, names in shared.items() if names}:
        raise DatasetError(
            f"{data.folder}: its parts overlap: "
            + "; ".join(f"{len(names):,} {what} ({_first(names)})" for what, names in found.items())
            + ". Ingest again without naming parts, or name one part for all of them"
        )
    return SplitCheck(counts=counts.fillna(0).astype(int), shared=shared)


def _torn(table: pd.DataFrame, column: str) -> list[str]:
    known = table[table[column].notna()]
    parts = known.groupby(column)["split"].nunique()
    return [str(name) for name in parts[parts > 1].index]


def _torn_pictures(data: Dataset) -> list[str]:
    """Pairs of near-duplicates in different parts, found from the stored pixels."""
    hashes: list[str] = []
    with progress("comparing pictures", len(data), unit="scans") as update:
        for first in range(0, len(data), BATCH):
            hashes += [perceptual_hash(block) for block in data.grey(np.arange(first, min(first + BATCH, len(data))))]
            update(len(hashes))
    part, path = data.manifest["split"], data.manifest["path"]
    patients = without_unnamed(data.manifest["patient_id"], path, key=salt())
    near = near_duplicates(hashes, data.grey, patients=patients)
    return [f"{path[a]} and {path[b]}" for a, b in near if part[a] != part[b]]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
