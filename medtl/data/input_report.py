"""`report.html` of a dataset: what was read and how, with a contact sheet."""

import base64
import io
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from medtl.data.kinds import LISTED
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec, Stored, picture_of

THUMBNAILS = 45
PAIRS = 30
FILES = 500
REASONS = 200
THUMBNAIL_PX = 112
AGE_BANDS = [0, 1, 18, 40, 60, 80, 130]
Table = list[tuple[str, int]]


def write_input_report(
    pixels: Callable[[npt.NDArray[np.int64]], Stored],
    spec: PreprocessSpec,
    manifest: pd.DataFrame,
    labels: LabelTable | None,
    rejects: pd.DataFrame,
    near: npt.NDArray[np.int64],
    path: Path,
    *,
    name: str,
) -> None:
    """Write one self-contained HTML file."""
    environment = Environment(loader=PackageLoader("medtl.data"), autoescape=True, undefined=StrictUndefined)
    warned = manifest[manifest["warnings"] != ""]
    listed = rejects["code"].isin(LISTED)

    def thumbnails(rows: Any, *, captions: bool = False) -> list[tuple[str, str]]:
        return _thumbnails(pixels, spec, manifest, rows, captions=captions)

    text = environment.get_template("input_report.html").render(
        name=name,
        scans=len(manifest),
        stored=spec.words(),
        patients=int(manifest["patient_id"].nunique()),
        thumbnails=thumbnails(np.linspace(0, len(manifest) - 1, min(THUMBNAILS, len(manifest)))),
        tables=_tables(manifest),
        parts=_parts(manifest, labels),
        findings=labels.findings if labels else (),
        steps=Counter(_without_numbers(steps) for steps in manifest["steps"]).most_common(30),
        files=_files(manifest),
        warnings=Counter(code for text in warned["warnings"] for code in text.split("; ")).most_common(),
        warned=thumbnails(warned.index[:THUMBNAILS], captions=True),
        near=[thumbnails(pair) for pair in near[:PAIRS]],
        near_count=len(near),
        same=_same(rejects),
        refused=_reasons(rejects[~listed]),
        listed=_reasons(rejects[listed & (rejects["code"] != "duplicate")]),
    )
    path.write_text(text, encoding="utf-8")


def _thumbnails(
    pixels: Callable[[npt.NDArray[np.int64]], Stored],
    spec: PreprocessSpec,
    manifest: pd.DataFrame,
    rows: Any,
    *,
    captions: bool,
) -> list[tuple[str, str]]:
    """A picture and its words of each row."""
    chosen = np.asarray(rows).astype(np.int64)
    found = []
    for row, block in zip(chosen, pixels(chosen), strict=True):
        said = f"{manifest['warnings'][row]}: {manifest['path'][row]}" if captions else str(manifest["path"][row])
        found.append((_thumbnail(picture_of(block, colour=spec.colour)), said))
    return found


def _files(manifest: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """File, size, part and steps of the first scans; the manifest has them all."""
    first = manifest.head(FILES)
    spacing = first[["slice_spacing_mm", "row_spacing_mm", "column_spacing_mm"]].round(3).to_numpy()
    sides = first[["depth_px", "height_px", "width_px"]].to_numpy()
    rows = []
    for path, split, steps, warning, mm, px in zip(
        first["path"], first["split"], first["steps"], first["warnings"], spacing, sides, strict=True
    ):
        known = [f"{value:g}" for value in mm if not np.isnan(value)]
        size = " × ".join(str(side) for side in px if side > 1) + (f" of {' × '.join(known)} mm" if known else "")
        rows.append((str(path), size, str(split), "; ".join(text for text in (steps, warning) if text)))
    return rows


def _same(rejects: pd.DataFrame) -> list[tuple[str, str]]:
    """Files that hold the bytes of another, under the one that is kept."""
    twins = rejects[rejects["code"] == "duplicate"].head(REASONS)
    return list(zip(twins["path"], twins["message"], strict=True))


def _reasons(rejects: pd.DataFrame) -> dict[str, Any]:
    first = rejects.head(REASONS)
    return {
        "count": len(rejects),
        "codes": Counter(rejects["code"]).most_common(),
        "rows": list(zip(first["path"], first["code"], first["message"], strict=True)),
    }


def _without_numbers(steps: str) -> str:
    """Steps that differ from scan to scan in their numbers only are one kind of reading."""
    steps = re.sub(r" \([^()]*\d[^()]*\)", "", steps)
    return re.sub(r"window -?[\d.]+/[\d.]+", "window of the header", steps) or "used as they are"


def _tables(manifest: pd.DataFrame) -> dict[str, Table]:
    sizes = manifest["width_px"].astype(str) + " × " + manifest["height_px"].astype(str)
    sizes += (" × " + manifest["depth_px"].astype(str)).where(manifest["depth_px"] > 1, "")
    ages = pd.cut(
        manifest["age_years"].astype(float),
        AGE_BANDS,
        right=False,
        labels=["under 1", *(f"{low} to {high - 1}" for low, high in pairwise(AGE_BANDS[1:-1])), "80 and over"],
    )
    columns = {
        "Modality": manifest["modality"],
        "Body part": manifest["body_part"],
        "Projection": manifest["view"],
        "Scanner": (manifest["manufacturer"].fillna("") + " " + manifest["scanner"].fillna(""))
        .str.strip()
        .replace("", None),
        "Sex": manifest["sex"],
        "Age, years": ages.astype(object),
        "Size, px": sizes,
    }
    return {
        title: [(str(value), int(count)) for value, count in column.fillna("not stated").value_counts().head(8).items()]
        for title, column in columns.items()
    }


def _parts(manifest: pd.DataFrame, labels: LabelTable | None) -> list[tuple[str, int, int, list[str]]]:
    rows = []
    for part in ("train", "val", "test"):
        here = (manifest["split"] == part).to_numpy()
        counts = []
        if labels:
            counts = [
                f"{int((column == 1).sum()):,} / {int((column == 0).sum()):,}" for column in labels.values[here].T
            ]
        rows.append((part, int(here.sum()), int(manifest["patient_id"][here].nunique()), counts))
    return rows


def _thumbnail(picture: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
