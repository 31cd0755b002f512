"""`reference.safetensors`: what a bundle keeps of the labeled scans that its detector was trained on.

| tensor | |
|---|---|
| `embeddings` | (N, D) float16, of all levels that the heads read, the last level last |
| `labels` | (N, F) float32: 0, 1 or NaN, in the order of the bundle's findings |
| `patients` | (N,) int64: scans with the same number are of one patient; the numbers name nobody |
| `thumbnails` | (N, 96, 96) uint8, (N, 96, 96, 3) in colour: the scan as shown, of a volume the middle axial slice |

The metadata hold `scan_ids`, a JSON list of N names, and `levels`, how many of the D come from each level. Bundles of
earlier versions have no `patients`, and the last level only; those made with `thumbnails: false` no `thumbnails`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from medtl.data.dataset import Dataset
from medtl.data.duplicates import SAMPLED, fine_structure
from medtl.data.preprocess import picture_of
from medtl.data.resample import resized
from medtl.data.values import luminance
from medtl.errors import BundleError

NAME = "reference.safetensors"
THUMBNAIL_PX = 96
READ_AT_ONCE = 64
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Thumbnails:
    """Pictures (96, 96) or (96, 96, 3) uint8 by row, read from the file when they are asked for.

    The file stays open, so that a bundle that is replaced meanwhile does not mix its pictures into this one's.
    """

    def __init__(self, path: Path) -> None:
        self._slices = safe_open(path, "np").get_slice("thumbnails")  # type: ignore[no-untyped-call]

    def __getitem__(self, row: int | slice) -> Bytes:
        pictures: Bytes = self._slices[row] if isinstance(row, slice) else self._slices[row : row + 1][0]
        return pictures


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The labeled scans that a detector was trained on.

    Args:
        embeddings: (N, D) float32 of all levels.
        labels: (N, F) of 0, 1 or NaN.
        scan_ids: their N names.
        patients: (N,) equal for scans of one patient.
        thumbnails: their pictures, or None where the bundle keeps none.
        levels: how many of the D come from each level of the encoder; none: all from one.
    """

    embeddings: Floats
    labels: Floats
    scan_ids: tuple[str, ...]
    patients: npt.NDArray[np.int64]
    thumbnails: Thumbnails | Bytes | None = None
    levels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.scan_ids)

    @cached_property
    def names(self) -> frozenset[str]:
        """The scan ids, to look one up."""
        return frozenset(self.scan_ids)

    @cached_property
    def directions(self) -> Floats:
        """(N, L): the embeddings of the last level at length 1."""
        return direction(self.embeddings[:, -self.levels[-1] :] if self.levels else self.embeddings)

    @cached_property
    def structures(self) -> dict[int, Floats]:
        """`structure_of` the pictures of some rows, evenly drawn, which say what all have in common."""
        if self.thumbnails is None:
            return {}
        rows = np.unique(np.linspace(0, len(self) - 1, min(len(self), SAMPLED)).astype(np.int64)).tolist()
        return {row: structure_of(self.thumbnails[row]) for row in rows}

    def nearest(self, embeddings: Floats) -> list[str]:
        """Names of the labeled scans with the largest cosines to scans of these embeddings (B, L), which may be they.

        Empty names where there is no labeled scan.
        """
        if not len(self):
            return [""] * len(embeddings)
        rows = np.argmax(direction(np.asarray(embeddings, np.float32)) @ self.directions.T, axis=1)
        return [self.scan_ids[row] for row in rows]

    @cached_property
    def _scale(self) -> Floats:
        return np.asarray(spread(self.embeddings, self.levels) * np.sqrt(2 * self.embeddings.shape[1]), np.float32)

    @cached_property
    def _scaled(self) -> Floats:
        return self._at_scale(self.embeddings)

    def _at_scale(self, embeddings: Floats) -> Floats:
        return np.asarray((embeddings - self.embeddings.mean(axis=0)) / self._scale, np.float32)

    def distance(self, embeddings: Floats) -> Floats:
        """How far scans lie from the labeled scan that is nearest, which may be they, on all levels that are kept.

        Levels count alike, and within each all numbers do, as to a linear head. Two labeled scans lie 1 apart in the
        root mean square. NaN where there is no labeled scan.

        Args:
            embeddings: (B, D) of all levels.

        Returns:
            (B,) 0 or more.
        """
        if not len(self):
            return np.full(len(embeddings), np.nan, np.float32)
        asked, there = self._at_scale(embeddings[:, -self.embeddings.shape[1] :]), self._scaled
        squares = (asked**2).sum(axis=1)[:, None] + (there**2).sum(axis=1) - 2 * asked @ there.T
        return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0)), np.float32)


def spread(embeddings: npt.NDArray[Any], levels: Sequence[int] = ()) -> npt.NDArray[Any]:
    """(D,) what embeddings (N, D) are divided by, so that levels count alike and within each all numbers do.

    Args:
        levels: how many of the D come from each level; none: all from one.
    """
    deviation, widths = embeddings.std(axis=0), np.asarray(levels or (embeddings.shape[1],))
    deviation = np.maximum(deviation, 0.1 * deviation.mean() + 1e-6)  # nearly dead dimensions are not blown up
    return np.asarray(deviation * np.sqrt(np.repeat(widths * len(widths), widths) / embeddings.shape[1]))


def direction(embeddings: Floats) -> Floats:
    """Embeddings (..., D) at length 1, so that their dot products are cosines."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), np.float32)


def reference_of(
    *,
    embeddings: Floats,
    labels: Floats,
    scan_ids: Sequence[str],
    patients: Sequence[str] | None = None,
    thumbnails: Bytes | None = None,
    levels: tuple[int, ...] = (),
) -> Reference:
    """The reference of scans whose patients have names, which are not kept.

    Args:
        embeddings: (N, D).
        labels: (N, F), NaN is unknown.
        scan_ids: (N,) their names.
        patients: (N,) whose they are. An empty one, and None for all, makes the scan a patient of its own.
        thumbnails: (N, 96, 96) or (N, 96, 96, 3).
        levels: how many of the D come from each level.
    """
    names = [""] * len(scan_ids) if patients is None else patients
    whose = [f"id {name}" if name else f"scan {scan}" for name, scan in zip(names, scan_ids, strict=True)]
    return Reference(
        embeddings=embeddings,
        labels=labels,
        scan_ids=tuple(scan_ids),
        patients=np.unique(np.array(whose, dtype=str), return_inverse=True)[1].astype(np.int64),
        thumbnails=thumbnails,
        levels=levels,
    )


def write_reference(folder: Path, reference: Reference) -> None:
    """Write the file into a bundle's folder."""
    tensors: dict[str, npt.NDArray[Any]] = {
        "embeddings": np.ascontiguousarray(reference.embeddings, np.float16),
        "labels": np.ascontiguousarray(reference.labels, np.float32),
        "patients": np.ascontiguousarray(reference.patients, np.int64),
    }
    if reference.thumbnails is not None:
        tensors["thumbnails"] = np.ascontiguousarray(reference.thumbnails[:], np.uint8)
    (folder / NAME).write_bytes(
        save(tensors, {"scan_ids": json.dumps(reference.scan_ids), "levels": json.dumps(reference.levels)})
    )


def read_reference(folder: Path) -> Reference:
    """What a bundle keeps of its training scans.

    Raises:
        BundleError: the file is missing or damaged.
    """
    path = folder / NAME
    try:
        with safe_open(path, "np") as file:
            names, kept = tuple(json.loads(file.metadata()["scan_ids"])), set(file.keys())
            levels = tuple(json.loads(file.metadata().get("levels", "[]")))
            embeddings, labels = file.get_tensor("embeddings").astype(np.float32), file.get_tensor("labels")
            patients = file.get_tensor("patients") if "patients" in kept else np.arange(len(names))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
        raise BundleError(f"{path}: cannot be read ({problem}); copy it again") from None
    if not len(embeddings) == len(labels) == len(patients) == len(names):
        raise BundleError(f"{path}: its tables differ in length; copy it again")
    return Reference(
        embeddings=embeddings,
        labels=labels,
        scan_ids=names,
        patients=patients,
        thumbnails=Thumbnails(path) if "thumbnails" in kept else None,
        levels=levels,
    )


def thumbnail(stored: Bytes, *, colour: bool = False) -> Bytes:
    """A stored block as a small picture, (96, 96) or in colour (96, 96, 3); see `picture_of`."""
    shown = picture_of(stored, colour=colour)
    if colour:
        return np.dstack([_small(shown[..., channel]) for channel in range(3)])
    return _small(shown)


def structure_of(picture: Bytes) -> Floats:
    """The fine structure of a small picture, in colour of its luminance."""
    grey = luminance(picture).round().astype(np.uint8) if picture.ndim == 3 else picture
    return fine_structure(grey[None])


def _small(values: Bytes) -> Bytes:
    small = resized(np.ascontiguousarray(values, np.float32), (THUMBNAIL_PX, THUMBNAIL_PX))
    return np.asarray(np.clip(small + 0.5, 0, 255), np.uint8)


def thumbnails_of(data: Dataset, rows: npt.NDArray[np.int64]) -> Bytes:
    """Pictures (N, 96, 96), or (N, 96, 96, 3) in colour, of rows of a dataset's manifest."""
    colour = data.spec.colour
    pictures = np.empty((len(rows), THUMBNAIL_PX, THUMBNAIL_PX, *((3,) if colour else ())), np.uint8)
    for first in range(0, len(rows), READ_AT_ONCE):
        for i, block in enumerate(data.pixels(rows[first : first + READ_AT_ONCE])):
            pictures[first + i] = thumbnail(block, colour=colour)
    return pictures
