"""Verdicts as labels, which go back into fine-tuning, and as they were said."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select

from medtl.errors import ReviewError
from medtl.files import atomic_file
from medtl.progress import counted, say
from medtl.review import verdicts
from medtl.review.records import UNASKED, StoredVerdict
from medtl.review.schema import CASES
from medtl.review.store import ReviewStore, open_existing

FEWEST = 4
"""Scans with, and scans without a finding that it takes to teach it."""
CHAINED = ("token", "supersedes", "prev_hash", "hash")
"""Fields of a verdict that are the store's own."""


def export_labels(reviews: str | Path, out: str | Path) -> int:
    """Write what readers found as labels, one row a scan.

    What a lead adjudicated counts before the majority of the readers, and that before a single reader. Verdicts that
    were corrected or taken back do not count. Where all are unsure, as many are for as against, or the image is bad,
    the cell stays empty. A finding that readers have only begun to mark, on fewer than 4 scans with or without it, is
    left out: nothing can be trained on it. So is what was said on a case that has not been read by as many as it
    needs, except for marks.

    Args:
        reviews: the file, or the PostgreSQL URL, that keeps the verdicts.
        out: the labels file: `scan_id` and one column per finding with 1, 0 or nothing; replaced once complete.

    Returns:
        How many scans were written.

    Raises:
        ReviewError: no such store, no verdict in it, or it cannot be read.
    """
    with _with_verdicts(reviews) as (store, everything):
        standing = verdicts.standing(store, read=True)
    taken = {row.id for row in standing}
    begun = len({row.case_id for row in everything if row.id not in taken})
    waiting = f"{counted(begun, 'case')} left out until every reader whom it needs has read it"
    if not standing:
        raise ReviewError(f"{store.name}: holds no labels yet: {waiting}")
    labels = labels_of(standing)
    if not labels:
        found = ", ".join(sorted({row.finding for row in standing}))
        raise ReviewError(f"{store.name}: holds no labels yet: {found} is marked on too few scans")
    with atomic_file(Path(out)) as temporary:
        temporary.write_text(as_csv(labels), encoding="utf-8", newline="")
    known = sum(label is not None for label in labels.values())
    scans = len({scan_id for scan_id, _ in labels})
    for finding in sorted({row.finding for row in standing} - {finding for _, finding in labels}):
        say(f"{finding}: left out until {FEWEST} scans with it and {FEWEST} without it are marked")
    if begun:
        say(waiting)
    say(f"{counted(known, 'label')} of {counted(scans, 'scan')}: {out}")
    return scans


def export_verdicts(reviews: str | Path, out: str | Path) -> int:
    """Write every verdict that stands, with its reader, region and note: a JSON object a line.

    Args:
        reviews: the file, or the PostgreSQL URL, that keeps the verdicts.
        out: the file: the fields of `StoredVerdict` but those of the chain, `path` of the scan, and `label`, what the
            verdict means (1, 0 or null). Regions are in pixels of the scan, column before row.

    Returns:
        How many verdicts were written.

    Raises:
        ReviewError: no such store, no verdict in it, or it cannot be read.
    """
    with _with_verdicts(reviews) as (store, standing), store.reading() as connection:
        paths = {row.id: row.path for row in connection.execute(select(CASES.c.id, CASES.c.path))}
    with atomic_file(Path(out)) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in standing:
            said = {name: value for name, value in asdict(row).items() if name not in CHAINED}
            file.write(json.dumps(said | {"path": paths[row.case_id], "label": row.label}, ensure_ascii=False) + "\n")
    say(f"{counted(len(standing), 'verdict')}: {out}")
    return len(standing)


@contextmanager
def _with_verdicts(reviews: str | Path) -> Iterator[tuple[ReviewStore, list[StoredVerdict]]]:
    """A store that is open for the while, and the verdicts that stand in it, of which there are some."""
    store = open_existing(reviews)
    try:
        standing = verdicts.standing(store)
        if not standing:
            raise ReviewError(f"{store.name}: holds no verdicts yet; save one on the review page (medtl serve) first")
        yield store, standing
    finally:
        store.close()


def labels_of(standing: Sequence[StoredVerdict]) -> dict[tuple[str, str], int | None]:
    """What is exported: all that is settled, without findings of which too few marks are settled."""
    labels = settled(standing)
    asked = {row.finding for row in standing if row.decision != UNASKED}
    counts = Counter((finding, label) for (_, finding), label in labels.items())
    return {
        (scan_id, finding): label
        for (scan_id, finding), label in labels.items()
        if finding in asked or min(counts[finding, 0], counts[finding, 1]) >= FEWEST
    }


def as_csv(labels: Mapping[tuple[str, str], int | None]) -> str:
    """The labels file of labels by scan and finding, as `finetune` reads it."""
    findings = list(dict.fromkeys(finding for _, finding in labels))
    scans: dict[str, dict[str, str]] = {}
    for (scan_id, finding), label in labels.items():
        scans.setdefault(scan_id, {})[finding] = "" if label is None else str(label)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["scan_id", *findings], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"scan_id": scan_id} | cells for scan_id, cells in scans.items())
    return text.getvalue()


def settled(standing: Iterable[StoredVerdict]) -> dict[tuple[str, str], int | None]:
    """The label of each (scan, finding) that somebody spoke about: adjudicated, or what most readers say, or None."""
    spoken: dict[tuple[str, str], list[StoredVerdict]] = {}
    for verdict in standing:
        spoken.setdefault((verdict.scan_id, verdict.finding), []).append(verdict)
    return {key: _settled(rows) for key, rows in spoken.items()}


def _settled(rows: list[StoredVerdict]) -> int | None:
    adjudicated = [row for row in rows if row.adjudicates]
    if adjudicated:
        return adjudicated[-1].label
    said = [row.label for row in rows if row.label is not None]
    if 2 * sum(said) == len(said):  # nobody is sure, or as many are for as against
        return None
    return int(2 * sum(said) > len(said))
