"""`report.html` of a dataset: what was read and how, with a contact sheet."""

import base64
import io
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from medtl.data.labels import LabelTable
from medtl.data.preprocess import Stored

THUMBNAILS = 45
THUMBNAIL_PX = 112
AGE_BANDS = [0, 1, 18, 40, 60, 80, 130]
Table = list[tuple[str, int]]


def write_input_report(
    pixels: Callable[[npt.NDArray[np.int64]], Stored],
    manifest: pd.DataFrame,
    labels: LabelTable | None,
    rejects: pd.DataFrame,
    path: Path,
    *,
    name: str,
) -> None:
    """Write one self-contained HTML file."""
    environment = Environment(loader=PackageLoader("medtl.data"), autoescape=True, undefined=StrictUndefined)
    shown = np.linspace(0, len(manifest) - 1, min(THUMBNAILS, len(manifest))).astype(np.int64)
    thumbnails = [
        (_thumbnail(square[0]), str(manifest["path"][row])) for square, row in zip(pixels(shown), shown, strict=True)
    ]
    text = environment.get_template("input_report.html").render(
        name=name,
        scans=len(manifest),
        patients=int(manifest["patient_id"].nunique()),
        thumbnails=thumbnails,
        tables=_tables(manifest),
        parts=_parts(manifest, labels),
        findings=labels.findings if labels else (),
        steps=Counter(_without_numbers(steps) for steps in manifest["steps"]).most_common(30),
        reasons=Counter(rejects["code"]).most_common(),
        rejects=list(zip(rejects["path"], rejects["code"], rejects["message"], strict=True))[:200],
        rejected=len(rejects),
    )
    path.write_text(text, encoding="utf-8")


def _without_numbers(steps: str) -> str:
    """Steps that differ from scan to scan in their numbers only are one kind of reading."""
    steps = re.sub(r" \([^()]*\d[^()]*\)", "", steps)
    return re.sub(r"window -?[\d.]+/[\d.]+", "window of the header", steps) or "used as they are"


def _tables(manifest: pd.DataFrame) -> dict[str, Table]:
    sizes = manifest["width_px"].astype(str) + " × " + manifest["height_px"].astype(str)
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


def _thumbnail(square: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(square)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
