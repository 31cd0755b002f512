"""MedMNIST-style `.npz` files: train, val and test images with their labels (Yang 2023, Sci Data 10, 41)."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.scan import Scan
from medtl.errors import ScanError

# Class names of MedMNIST v2 sets that doctors would not recognise by number. Two names: the second is the finding.
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal_or_benign"),
    "octmnist": ("choroidal_neovascularization", "diabetic_macular_edema", "drusen", "normal"),
    "dermamnist": (
        "actinic_keratoses", "basal_cell_carcinoma", "benign_keratosis", "dermatofibroma", "melanoma",
        "melanocytic_nevi", "vascular_lesions",
    ),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NpzImage:
    """One image of the file, with its official part and its labels."""

    name: str
    scan: Scan
    split: str
    labels: dict[str, float]


def read_npz(path: Path, *, name: str) -> Iterator[NpzImage]:
    """Every image of the file, in order.

    Raises:
        ScanError: not a zip of arrays, or not the layout `train_images`, `train_labels`, ...
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            splits = [part for part in ("train", "val", "test") if f"{part}_images" in arrays]
            if not splits:
                found = ", ".join(list(arrays)[:6])
                raise ScanError(
                    "layout", path, f"holds the arrays {found}; expected train_images, train_labels, val_images, ..."
                )
            labels = {part: _labels(arrays, part) for part in splits}
            findings = _findings(name, labels)
            for part in splits:
                images = arrays[f"{part}_images"]
                _check(path, part, images, labels[part])
                for i, image in enumerate(images):
                    known = labels[part]
                    yield NpzImage(
                        name=f"{name}#{part}/{i:06d}",
                        scan=_scan(image, source=f"{path}#{part}/{i:06d}", identity=f"{name}#{part}/{i}"),
                        split=part,
                        labels=_named(findings, None if known is None else known[i]),
                    )
    except ScanError:
        raise
    except Exception as problem:  # numpy and zipfile raise many kinds on damaged files
        raise ScanError("damaged", path, f"cannot be read as an .npz file ({problem}); copy it again") from None


def _labels(arrays: Any, part: str) -> npt.NDArray[Any] | None:
    if f"{part}_labels" not in arrays:
        return None
    labels = np.asarray(arrays[f"{part}_labels"])
    return labels.reshape(len(labels), -1)


def _findings(name: str, labels: dict[str, npt.NDArray[Any] | None]) -> tuple[str, ...]:
    """The findings of the file: one for a binary set, else one for each class or each label."""
    stem = Path(name).stem.split("_")[0].lower()
    known = [part for part in labels.values() if part is not None and len(part)]
    if not known:
        return ()
    names = CLASS_NAMES.get(stem)
    if known[0].shape[1] > 1:
        count = known[0].shape[1]
        return names if names and len(names) == count else tuple(f"label_{i}" for i in range(count))
    count = int(max(part.max() for part in known)) + 1
    if count <= 2:
        return (names[1] if names else stem,)
    return names if names and len(names) == count else tuple(f"class_{i}" for i in range(count))


def _named(findings: tuple[str, ...], row: npt.NDArray[Any] | None) -> dict[str, float]:
    if row is None or not findings:
        return {}
    if len(row) > 1:
        return {finding: float(value) for finding, value in zip(findings, row, strict=True)}
    if len(findings) == 1:
        return {findings[0]: float(row[0])}
    return {finding: float(int(row[0]) == i) for i, finding in enumerate(findings)}


def _check(path: Path, part: str, images: npt.NDArray[Any], labels: npt.NDArray[Any] | None) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise ScanError(
            "layout" if images.ndim != 4 else "volume",
            path,
            f"{part}_images has shape {images.shape} and type {images.dtype}; expected (N, H, W) or (N, H, W, 3) uint8",
        )
    if labels is not None and len(labels) != len(images):
        raise ScanError("layout", path, f"{part} has {len(images)} images but {len(labels)} labels")


def _scan(image: npt.NDArray[np.uint8], *, source: str, identity: str) -> Scan:
    from medtl.data.images import luminance

    digest = hashlib.sha256(identity.encode() + image.tobytes()).hexdigest()
    gray = luminance(image) if image.ndim == 3 else image.astype(np.float32)
    return Scan(pixels=(gray / 255).astype(np.float32), source=source, sha256=digest, steps=("8-bit .npz",))
