"""Can anything be learned from these scans, and are they still those that the run started with?"""

import hashlib

import numpy as np

from medtl.data.dataset import MARKER, Dataset
from medtl.errors import DatasetError, MedtlError, RunError
from medtl.files import read_json
from medtl.training.batches import Rows

LOOKED_AT = 256
DIFFERENT = 0.5
"""Mean difference of two pictures in grey levels of 0..255; less is the same picture."""


def check_scans(data: Dataset, rows: Rows) -> None:
    """Refuse scans from which nothing can be learned.

    Raises:
        DatasetError: all scans are the same picture, or none shows anything.
    """
    some = data.pixels(rows[np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64)])
    flat = some.reshape(len(some), -1).astype(np.float32)
    grey = 255 / np.iinfo(some.dtype).max
    if np.abs(flat - flat[0]).mean(axis=1).max() * grey < DIFFERENT:
        raise DatasetError(
            f"{data.folder}: all scans are the same picture, so there is nothing to tell apart; look at the dataset's "
            "report.html, and ingest the scans that you meant"
        )
    if flat.std(axis=1).max() * grey < DIFFERENT:
        raise DatasetError(
            f"{data.folder}: all scans are blank; look at the window and the warnings in the dataset's report.html, "
            "and ingest the scans again"
        )


def manifest_digest(data: Dataset) -> str:
    """Of the manifest as it is on the disk now."""
    return hashlib.sha256((data.folder / "manifest.parquet").read_bytes()).hexdigest()


def check_unchanged(data: Dataset, digest: str) -> None:
    """Make sure that the dataset on the disk is the one that is being learned from.

    Args:
        digest: of the manifest when the run began.

    Raises:
        RunError: it is not.
    """
    try:
        same = read_json(data.folder / MARKER, error=RunError)["fingerprint"] == data.fingerprint
        same = same and manifest_digest(data) == digest
        what = "was changed"
    except (MedtlError, OSError, KeyError):
        same, what = False, "was removed or damaged"
    if not same:
        raise RunError(
            f"{data.folder}: {what} while it was being learned from; the last checkpoint is kept. Start anew with "
            "another --out, or put the dataset back as it was and add --resume"
        )
