"""A reference made by hand: embeddings on a circle, so that every cosine is known."""

from pathlib import Path

import numpy as np
import pytest

from medtl.inference.reference import Reference, read_reference, reference_of, write_reference

DEGREES = (0, 10, 20, 30, 90, 180)
PATIENTS = ("a", "b", "b", "c", "d", "")


def on_circle(degrees: float) -> np.ndarray:
    """(2,) float32, of no particular length."""
    angle = np.deg2rad(degrees)
    return (3 * np.array([np.cos(angle), np.sin(angle)])).astype(np.float32)


def pictures() -> np.ndarray:
    """(6, 96, 96) uint8 that have nothing to do with each other."""
    return np.random.default_rng(0).integers(0, 255, (len(DEGREES), 96, 96)).astype(np.uint8)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    labels = np.array([[1, 0], [1, np.nan], [0, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    kept = reference_of(
        embeddings=np.stack([on_circle(degrees) for degrees in DEGREES]),
        labels=labels,
        scan_ids=[f"scan{degrees}" for degrees in DEGREES],
        patients=PATIENTS,
        thumbnails=pictures(),
    )
    write_reference(tmp_path, kept)
    return read_reference(tmp_path)
