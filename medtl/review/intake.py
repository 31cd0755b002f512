"""Scores of `medtl score` become cases of the worklist."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medtl.errors import ReviewError
from medtl.progress import say
from medtl.review import cases
from medtl.review.records import NewCase, Score, file_of
from medtl.review.store import ReviewStore

COLUMNS = ("path", "scan_id", "finding", "probability", "threshold", "decision", "sha256", "bundle_id")
FACTS = ("age_years", "sex", "modality", "view", "body_part")
"""Columns that are taken over where the file has them: what may be shown without naming anyone."""
SCANS_AT_ONCE = 1000
SUFFIXES = (".parquet", ".csv", ".jsonl")
_IDS = {"scan_id": str, "sha256": str, "bundle_id": str, "patient_id": str, "nearest_scan_id": str}
"""Ids may be made of digits only, and begin with zeros."""


def import_scores(
    scores: str | Path, *, reviews: str | Path | ReviewStore = Path("review.db"), readings: int = 1
) -> int:
    """Fill the worklist from a scores file; made again, it adds what is new.

    Args:
        scores: what `medtl score` wrote, a row per scan and finding. Scans that were refused are left out. Columns
            `patient_id`, `nearest_scan_id`, `distance`, `uncertainty`, `received_at`, `doubts` and those of `FACTS` are
            taken over where there are any.
        reviews: the file, or the PostgreSQL URL, that keeps the verdicts; made where missing. Or a store that is open,
            and stays so.
        readings: how many readers have to read each case.

    Paths that are not absolute count from the current folder, or, where the file is not there, from that of the
    scores. Files that are nowhere are counted and said.

    Returns:
        How many cases the file holds.

    Raises:
        ReviewError: no scores file, or a row that cannot be used.
    """
    table = _read(Path(scores))
    usable = table[table["decision"] != "refused"]
    refused = len(table) - len(usable)
    if usable.empty:
        raise ReviewError(f"{scores}: holds no scan that could be scored; its column 'reason' says why")
    found = [_case(Path(scores), rows, readings) for _, rows in usable.groupby("scan_id", sort=False)]
    store = reviews if isinstance(reviews, ReviewStore) else ReviewStore(reviews)
    try:
        for first in range(0, len(found), SCANS_AT_ONCE):
            cases.add(store, found[first : first + SCANS_AT_ONCE])
    finally:
        if store is not reviews:
            store.close()
    left_out = f", {refused:,} refused inputs left out" if refused else ""
    say(f"{len(found):,} cases{left_out}: {store.name}")
    if missing := [case.path for case in found if not file_of(case.path).exists()]:
        say(
            f"{len(missing):,} of {len(found):,} files are not there, such as {missing[0]}: these cases cannot be "
            "shown; import from the folder in which medtl score ran, or put the files back"
        )
    return len(found)


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in SUFFIXES:
        raise ReviewError(f"{path}: unknown suffix '{path.suffix}'; expected {', '.join(SUFFIXES)} from medtl score")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".csv":
            table = pd.read_csv(path, dtype=_IDS, float_precision="round_trip")
        else:
            table = pd.read_json(path, lines=True, dtype=_IDS, precise_float=True)
    except FileNotFoundError:
        raise ReviewError(f"{path}: no such file; medtl score makes it") from None
    except (ValueError, OSError) as problem:
        raise ReviewError(f"{path}: cannot be read ({problem}); make it again with medtl score") from None
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ReviewError(f"{path}: has no column {', '.join(missing)}; expected a file of medtl score")
    return table


def _case(path: Path, rows: pd.DataFrame, readings: int) -> NewCase:
    """A scan's rows; a file that was scored twice under two names counts once."""
    rows = rows.drop_duplicates("finding")
    records = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    first = records[0]
    try:
        if rows["bundle_id"].nunique() != 1:
            raise ReviewError("is scored by several bundles; keep one")
        return NewCase(
            scan_id=str(first["scan_id"]),
            sha256=str(first["sha256"]),
            path=_absolute(str(first["path"]), path.parent),
            bundle_id=str(first["bundle_id"]),
            scores=tuple(_score(row) for row in records),
            patient_id=_text(first, "patient_id"),
            facts={name: first[name] for name in FACTS if _text(first, name)} | _doubts(first),
            nearest_scan_id=_text(first, "nearest_scan_id"),
            distance=_if_any(first, "distance"),
            received_at=_text(first, "received_at"),
            readings_wanted=readings,
        )
    except ReviewError as problem:
        raise ReviewError(f"{path}, row {int(rows.index[0]) + 2}: scan {first['scan_id']} {problem}") from None


def _doubts(row: Mapping[str, Any]) -> dict[str, str]:
    """The codes; an empty text says that there was none, which scores of earlier versions do not say."""
    return {"doubts": _text(row, "doubts")} if "doubts" in row else {}


def _absolute(path: str, beside: Path) -> str:
    """Where a scan lies that the scores file may name from another folder."""
    if not file_of(path).exists() and file_of(str(beside / path)).exists():
        return str((beside / path).absolute())
    return str(Path(path).absolute())


def _score(row: Mapping[str, Any]) -> Score:
    return Score(
        finding=str(row["finding"]),
        probability=_number(row, "probability"),
        threshold=_number(row, "threshold"),
        decision=str(row["decision"]),
        uncertainty=_if_any(row, "uncertainty"),
    )


def _if_any(row: Mapping[str, Any], name: str) -> float | None:
    return _number(row, name) if _text(row, name) else None


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise ReviewError(f"has the {name} '{row[name]}'; expected a number") from None


def _text(row: Mapping[str, Any], name: str) -> str:
    return "" if pd.isna(row.get(name)) else str(row[name])
