"""The `.npz` layout of MedMNIST: `train_images`, `train_labels`, and the same of `val` and `test`.

Yang et al., MedMNIST v2, Scientific Data 2023, doi:10.1038/s41597-022-01721-8.
"""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from medtl.data.kinds import check_size
from medtl.data.medmnist import CLASSES, FINDING_OF_CLASS, LABELS, MODALITY
from medtl.data.scan import Header, Scan, by_sides
from medtl.data.values import TO_LUMINANCE, coloured, full_range, luminance
from medtl.errors import ScanError

SPLITS = ("train", "val", "test")
_LAYOUT = "expected train_images, train_labels, val_images, ... of MedMNIST"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError)


@dataclass(frozen=True, kw_only=True)
class NpzImage:
    """One image, its official part, and 0 or 1 for each finding (None without labels)."""

    place: str
    split: str
    scan: Scan
    labels: dict[str, float] | None


def read_npz(path: Path, *, name: str, dims: int = 2) -> Iterator[NpzImage]:
    """Every image or volume of the file, one in memory at a time.

    Args:
        path: the file. Images are (N, H, W) or (N, H, W, 3), volumes (N, D, H, W), of an unsigned type; labels (N, 1)
            classes or (N, L) zeros and ones.
        name: how messages call it.
        dims: 2 for images, 3 for volumes.

    Raises:
        ScanError: `not_an_image` (another layout), `volume`, `bad_labels`, `truncated` or `damaged`.
    """
    with _Opened(path, name) as file:
        parts = {split: _header(file, f"{split}_images", name) for split in SPLITS if _has(file, f"{split}_images")}
        for shape, _ in parts.values():
            if (found := 3 if _is_volume(shape) else 2) != dims:
                code, kind = ("volume", "volumes; use --as volumes") if found == 3 else ("no_volume", "single images")
                raise ScanError(code, name, f"holds {kind} ({by_sides(shape[1:])})")
        labels = _labels(file, path, name, {split: shape[0] for split, (shape, _) in parts.items()})
        header = Header(modality=MODALITY.get(_stem(path)))
        for split, (shape, dtype) in parts.items():
            for index, image in enumerate(_images(file, split, shape, dtype, name)):
                known = labels.get(split)
                yield NpzImage(
                    place=f"{split}/{index}",
                    split=split,
                    scan=_scan(image, f"{split}/{index}", name, header),
                    labels=known[index] if known is not None else None,
                )


def side_of(path: Path, *, name: str) -> int:
    """The longer side of the file's images in pixels."""
    with _Opened(path, name) as file:
        shapes = [_header(file, f"{split}_images", name)[0] for split in SPLITS if _has(file, f"{split}_images")]
    return max(max(shape[1:3]) for shape in shapes)


def volume_extent(path: Path, *, name: str) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """The sides of the file's volumes and their spacing, which such files do not say: 1 mm; None where it has images.

    Raises:
        ScanError: the file cannot be used.
    """
    with _Opened(path, name) as file:
        shape = next(_header(file, f"{split}_images", name)[0] for split in SPLITS if _has(file, f"{split}_images"))
        return (shape[1:], (1.0, 1.0, 1.0)) if _is_volume(shape) else None


def _is_volume(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[3] != 3


def count_of(path: Path, *, name: str) -> int:
    """How many images the file holds."""
    with _Opened(path, name) as file:
        return sum(_header(file, f"{split}_images", name)[0][0] for split in SPLITS if _has(file, f"{split}_images"))


class _Opened:
    """The zip file, with its many exceptions turned into one."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self.file = zipfile.ZipFile(self.path)
        except _BROKEN as problem:
            raise ScanError("truncated", self.name, f"is not a whole .npz ({problem}); copy it again") from None
        if not any(_has(self.file, f"{split}_images") for split in SPLITS):
            held = ", ".join(item.removesuffix(".npy") for item in self.file.namelist()[:5])
            self.file.close()
            raise ScanError("not_an_image", self.name, f"holds the arrays {held}; {_LAYOUT}")
        return self.file

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        self.file.close()
        if isinstance(problem, _BROKEN):
            raise ScanError("damaged", self.name, f"cannot be unpacked ({problem}); copy it again") from None


def _has(file: zipfile.ZipFile, key: str) -> bool:
    return f"{key}.npy" in file.namelist()


def _header(file: zipfile.ZipFile, key: str, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with file.open(f"{key}.npy") as stream:
        shape, dtype = _array_header(stream, key, name)
    size = by_sides(shape)
    if len(shape) not in (3, 4):
        raise ScanError("not_an_image", name, f"{key} is {size}; expected (N, H, W), (N, H, W, 3) or (N, D, H, W)")
    check_size(name, int(np.prod(shape[1:], dtype=object)), what=f"{key} of {size} values")
    return shape, dtype


def _array_header(stream: IO[bytes], key: str, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise ScanError("not_an_image", name, f"{key} holds Python objects, which medtl never loads; {_LAYOUT}")
    if fortran and len(shape) > 1:
        raise ScanError("unsupported_format", name, f"{key} is in Fortran order; save it with np.ascontiguousarray")
    if dtype.kind not in "uib":
        raise ScanError("unsupported_format", name, f"{key} is of type {dtype}; expected unsigned integers")
    return shape, dtype


def _images(
    file: zipfile.ZipFile, split: str, shape: tuple[int, ...], dtype: np.dtype[Any], name: str
) -> Iterator[npt.NDArray[Any]]:
    length = int(np.prod(shape[1:])) * dtype.itemsize
    with file.open(f"{split}_images.npy") as stream:
        _array_header(stream, f"{split}_images", name)
        for index in range(shape[0]):
            data = stream.read(length)
            if len(data) < length:
                raise ScanError("truncated", name, f"{split}_images ends at image {index} of {shape[0]}; copy it again")
            yield np.frombuffer(data, dtype).reshape(shape[1:])


def _scan(image: npt.NDArray[Any], place: str, name: str, header: Header) -> Scan:
    digest = hashlib.sha256(f"{place}/{image.shape}/{image.dtype.str}/".encode() + image.tobytes()).hexdigest()
    pixels, step = full_range(image.astype(image.dtype.newbyteorder("=")))
    steps = [step] if step else []
    rgb = None
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        rgb = np.clip(pixels, 0, 1) if coloured(pixels) else None
        pixels = luminance(pixels)
        steps.append(TO_LUMINANCE)
    return Scan(
        pixels=np.clip(pixels, 0, 1),
        rgb=rgb,
        source=f"{name}#{place}",
        sha256=digest,
        steps=tuple(steps),
        header=header,
    )


def _labels(file: zipfile.ZipFile, path: Path, name: str, counts: dict[str, int]) -> dict[str, list[dict[str, float]]]:
    """For each part that has labels, a mapping from finding to 0 or 1 for each image."""
    raw: dict[str, npt.NDArray[Any]] = {}
    for split, count in counts.items():
        if not _has(file, f"{split}_labels"):
            continue
        with file.open(f"{split}_labels.npy") as stream:
            shape, dtype = _array_header(stream, f"{split}_labels", name)
            values = np.frombuffer(stream.read(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)
        raw[split] = values.reshape(len(values), -1).astype(np.int64)
        if len(values) != count:
            raise ScanError("bad_labels", name, f"{split} has {count} images and {len(values)} labels")
    if not raw:
        return {}
    stem = _stem(path)
    widths, lowest = {values.shape[1] for values in raw.values()}, min(int(v.min(initial=0)) for v in raw.values())
    highest = max(int(values.max(initial=0)) for values in raw.values())
    if len(widths) != 1 or lowest < 0 or (widths != {1} and highest > 1):
        raise ScanError("bad_labels", name, "labels are neither classes (N, 1) from 0 nor zeros and ones (N, L)")
    names, columns = _columns(stem, widths.pop(), highest)
    return {
        split: [dict(zip(names, row, strict=True)) for row in columns(values).astype(float).tolist()]
        for split, values in raw.items()
    }


def _stem(path: Path) -> str:
    """What a file's set is called: `breastmnist` of `breastmnist_64.npz`."""
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).split("_")[0] or "finding"


def _columns(stem: str, width: int, highest: int) -> tuple[list[str], Any]:
    """The findings, and how raw labels (N, L) become 0/1 columns (N, F)."""
    if width > 1:
        known = LABELS.get(stem, ())
        names = list(known) if len(known) == width else [f"label_{i}" for i in range(width)]
        return names, lambda values: values
    if highest <= 1 and stem not in CLASSES:
        name, positive = FINDING_OF_CLASS.get(stem, (stem, 1))
        return [name], lambda values: values == positive
    classes = CLASSES.get(stem, ())
    names = list(classes) if len(classes) > highest else [f"class_{i}" for i in range(highest + 1)]
    return names, lambda values: values == np.arange(len(names))
