"""Simulated chest radiographs as DICOM files with labels and masks: what `sample_data/` is made with.

    python -m medtl.data.samples OUT

writes `OUT/images/P000/1.dcm` and so on, `OUT/masks/P000-1-nodule.png` for each finding in each image, and
`OUT/labels.csv`. The chests are made of formulas (`medtl.data.simulation`): nobody's scan is in them.
"""

import csv
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from medtl.data.sample_dicom import SYNTAXES, Visit, write_dicom
from medtl.data.simulation.anatomy import draw_anatomy
from medtl.data.simulation.findings import NAMES, Consolidation, Effusion, Finding, Nodule, draw_finding, later
from medtl.data.simulation.radiograph import SCANNERS, Radiograph, radiograph
from medtl.errors import MedtlError
from medtl.progress import progress

FINDINGS = ("nodule", "consolidation", "effusion")
# Of twenty patients ten are normal, six have one finding, and each finding occurs in five.
N, C, E = Nodule, Consolidation, Effusion
PATTERNS: list[tuple[type[Finding], ...]] = [()] * 10 + [(N,), (C,), (E,)] * 2 + [(N, C), (N, E), (C, E), (N, C, E)]
VISITS = [1, 1, 1, 1, 1, 1, 2, 2, 2, 3]  # images of each of ten patients


def plan(n_patients: int, seed: int) -> list[tuple[tuple[type[Finding], ...], int]]:
    """Findings and number of images of each patient, in the proportions above and in random order."""
    rng = np.random.default_rng([seed, 0])
    patterns = [PATTERNS[i % len(PATTERNS)] for i in range(n_patients)]
    # Each kind of patient gets its share of those who come more than once.
    visits = [VISITS[(i // len(PATTERNS) * 3 + i) % len(VISITS)] for i in range(n_patients)]
    return [(patterns[i], visits[i]) for i in rng.permutation(n_patients)]


def simulate(out: Path, *, n_patients: int = 160, seed: int = 0) -> None:
    """Write simulated frontal chest radiographs, their labels and their masks.

    Three images to every two patients, half of the patients without findings. Everything follows from `seed`: the
    same seed writes the same bytes.

    Args:
        out: a folder that does not exist yet or is empty.

    Raises:
        MedtlError: `out` holds files.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MedtlError(f"{out}: exists and is not an empty folder; choose another")
    (out / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[list[str | int]] = []
    used: Counter[frozenset[str]] = Counter()
    plans = plan(n_patients, seed)
    total = sum(visits for _, visits in plans)
    encodings = [syntax for syntax, share in SYNTAXES.items() for _ in range(share)] * (total // 60 + 1)
    encodings = [encodings[i] for i in np.random.default_rng([seed, 2]).permutation(total)]
    with progress("simulating", total, unit="radiographs") as update:
        for number, (kinds, visits) in enumerate(plans):
            patient = f"P{number:03d}"
            rng = np.random.default_rng([seed, 1, number])
            anatomy = draw_anatomy(rng)
            findings = [draw_finding(kind, rng) for kind in kinds]
            day = date(2019, 1, 1) + timedelta(days=int(rng.integers(0, 1800)))
            for visit in range(1, visits + 1):
                # Now and then a finding is not there yet, or no longer.
                present = [f for f in findings if visits == 1 or rng.random() > 0.12]
                names = frozenset(NAMES[type(f)] for f in present)
                # Scanners take turns within each combination of findings, so that they say nothing about it.
                scanner = SCANNERS[(used[names] + len(names)) % 2]
                used[names] += 1
                image = radiograph(anatomy, present, scanner, rng)
                about = Visit(
                    seed=seed, patient=patient, number=visit, day=day, sex=anatomy.sex, age_years=anatomy.age_years,
                    syntax=encodings[len(rows)],
                )  # fmt: skip
                path = f"images/{patient}/{visit}.dcm"
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                write_dicom(out / path, image, about)
                write_masks(out / "masks", f"{patient}-{visit}", image)
                rows.append([path, patient, *(int(name in image.masks) for name in FINDINGS)])
                findings = [later(finding, rng) for finding in findings]
                day += timedelta(days=int(rng.integers(3, 200)))
                update(len(rows))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "patient_id", *FINDINGS])
        writer.writerows(rows)


def write_masks(folder: Path, stem: str, image: Radiograph) -> None:
    """One 1-bit PNG of the image's size for each finding."""
    for name, mask in image.masks.items():
        Image.fromarray(mask).save(folder / f"{stem}-{name}.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m medtl.data.samples OUT")
    try:
        simulate(Path(sys.argv[1]))
    except MedtlError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
