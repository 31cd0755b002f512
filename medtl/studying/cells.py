"""The fine-tunings of a study on disk: what was done stays done, and nothing of another study gets among it."""

from pathlib import Path
from typing import Any

import numpy as np

from medtl.errors import RunError
from medtl.evaluation.study.results import Fitted, Mark, mark_json
from medtl.files import atomic_file, read_json, write_json
from medtl.studying.draws import Amount, Draw
from medtl.studying.fitting import Outcome

PLAN, FITS = "plan.json", "fits"


def open_study(folder: Path, identity: dict[str, Any], starts: dict[str, str]) -> None:
    """Make the folder ready, or make sure that the study in it is the same.

    A study may be made again with more starts, numbers of labels or draws: what is there already is not done again.

    Args:
        folder: the study's.
        identity: what all fine-tunings depend on, in words.
        starts: of each start's name a digest of its weights.

    Raises:
        RunError: the folder holds something else, or a study of other scans, labels, settings or weights.
    """
    file = folder / PLAN
    if not file.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder}: holds other files and no {PLAN}; choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"identity": identity, "starts": starts})
        return
    found = read_json(file, error=RunError)
    for key, value in identity.items():
        before = found["identity"].get(key)
        if before != value:
            raise RunError(
                f"{folder}: the study was started with {key} {before}, now it is {value}; go on with what it was "
                "started with, or start anew with another --out"
            )
    for name, digest in starts.items():
        if found["starts"].get(name, digest) != digest:
            raise RunError(
                f"{folder}: the start '{name}' has other weights than when the study began; start anew with another "
                "--out, or give it another name"
            )
    write_json(file, {"identity": identity, "starts": found["starts"] | starts})


def cell_name(start: str, amount: Amount, seed: int) -> str:
    """The name of a fine-tuning's files, such as `random-10-per-class-0`."""
    return f"{start}-{amount.slug}-{seed}"


def is_done(folder: Path, name: str) -> bool:
    """Whether a fine-tuning is on disk."""
    return (folder / FITS / f"{name}.json").is_file()


def write_cell(folder: Path, name: str, draw: Draw, outcome: Outcome) -> None:
    """Keep a fine-tuning; its JSON file comes last and says that it is complete."""
    with atomic_file(folder / FITS / f"{name}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, outcome.logits.astype(np.float32))
    content = {
        "n_labels": len(draw.rows),
        "n_repeated": draw.repeated,
        "strategy": outcome.strategy,
        "steps": outcome.steps,
        "usual_steps": outcome.usual_steps,
        "minutes": outcome.minutes,
        "marks": [mark_json(each) for each in outcome.marks],
    }
    write_json(folder / FITS / f"{name}.json", content)


def read_cell(folder: Path, name: str, *, start: str, amount: Amount, seed: int) -> Fitted:
    """Read what `write_cell` wrote.

    Raises:
        RunError: a file is missing or damaged.
    """
    file = folder / FITS / f"{name}.json"
    content = read_json(file, error=RunError)
    try:
        logits = np.load(file.with_suffix(".npy"), allow_pickle=False)
        marks = tuple(
            Mark(
                step=each["step"],
                minutes=each["minutes"],
                aurocs=tuple(np.nan if area is None else area for area in each["aurocs"]),
            )
            for each in content["marks"]
        )
        return Fitted(
            start=start,
            labels=amount.name,
            seed=seed,
            n_labels=content["n_labels"],
            n_repeated=content["n_repeated"],
            strategy=content["strategy"],
            steps=content["steps"],
            usual_steps=content.get("usual_steps", 0),
            minutes=content["minutes"],
            marks=marks,
            logits=logits,
            logits_file=f"{FITS}/{name}.npy",
        )
    except (KeyError, ValueError, OSError) as problem:
        raise RunError(f"{file}: is damaged ({problem}); delete it and make the study again") from None
