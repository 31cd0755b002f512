"""Similar cases: which labeled scans lie nearest, to the encoder of the detector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtl.data.duplicates import LEAST_CORRELATION, likeness
from medtl.inference.reference import Bytes, Floats, Reference, direction, structure_of


@dataclass(frozen=True, kw_only=True)
class SimilarScan:
    """A labeled scan of the training.

    Args:
        scan_id: its name, by which the review store knows verdicts on it.
        similarity: cosine of the embeddings, -1 to 1.
        labels: by finding 1, 0, or None where it is not known.
        thumbnail: (96, 96) or (96, 96, 3) uint8, None where the bundle keeps no pictures.
    """

    scan_id: str
    similarity: float
    labels: dict[str, int | None]
    thumbnail: Bytes | None


def similar(
    reference: Reference,
    embedding: npt.NDArray[np.float32],
    k: int,
    *,
    findings: Sequence[str],
    scan_id: str = "",
    picture: Bytes | None = None,
) -> tuple[SimilarScan, ...]:
    """The k labeled scans with the largest cosine, the nearest first, each of another patient.

    The scan itself is left out, and so is what shows the same picture (the same film exported twice): it would say
    nothing new.

    Args:
        embedding: (D,) of the scan.
        findings: (F,) names of the reference's labels.
        scan_id: the scan's own name.
        picture: (96, 96) or (96, 96, 3) the scan's own thumbnail; without it, and in bundles without thumbnails, copies
            under another name are not noticed.

    Returns:
        Fewer than k where the reference holds fewer.
    """
    if len(reference) == 0:
        return ()
    cosines = reference.directions @ direction(np.asarray(embedding, np.float32))
    itself = None if picture is None else structure_of(picture)
    found: list[SimilarScan] = []
    shown: set[int] = set()
    for row in np.argsort(-cosines, kind="stable"):
        if len(found) == k:
            break
        patient = int(reference.patients[row])
        if reference.scan_ids[row] == scan_id or patient in shown:
            continue
        there = reference.thumbnails[int(row)] if reference.thumbnails is not None else None
        if there is not None and itself is not None and _same_picture(reference, int(row), there, itself, scan_id):
            continue
        shown.add(patient)
        found.append(
            SimilarScan(
                scan_id=reference.scan_ids[row],
                similarity=float(cosines[row]),
                labels={
                    name: None if np.isnan(value) else int(value)
                    for name, value in zip(findings, reference.labels[row], strict=True)
                },
                thumbnail=there,
            )
        )
    return tuple(found)


def _same_picture(reference: Reference, row: int, there: Bytes, itself: Floats, scan_id: str) -> bool:
    """Whether the picture of a row is the scan's own, by what it has beyond the other labeled scans."""
    others = [
        structure
        for each, structure in reference.structures.items()
        if row != each and reference.scan_ids[each] != scan_id
    ]
    return likeness(structure_of(there), itself, np.sum([np.zeros_like(itself), *others], axis=0)) >= LEAST_CORRELATION
