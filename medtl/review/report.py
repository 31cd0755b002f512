"""`medtl reviews report`: do readers agree with the detector and with each other, does it drift, what to read next."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, not_, select

from medtl import __version__
from medtl.errors import ReviewError
from medtl.evaluation.page import environment
from medtl.files import atomic_folder, write_json
from medtl.progress import counted, say
from medtl.review import figures, plots, verdicts
from medtl.review.moments import now
from medtl.review.records import StoredVerdict
from medtl.review.schema import CASES, SCORES
from medtl.review.store import ReviewStore, open_existing
from medtl.review.worklist import held, on_disk

MARKER = "reviews.json"
NEXT = 20
"""Cases that are named to be read next."""


def report_reviews(reviews: str | Path, *, out: str | Path) -> Path:
    """Write `reviews.html` and `reviews.json` about the verdicts.

    Args:
        reviews: the file, or the PostgreSQL URL, that keeps the verdicts.
        out: the folder to write, in place of an earlier report.

    Returns:
        The folder.

    Raises:
        ReviewError: no such store, or no case in it.
    """
    folder, store = Path(out), open_existing(reviews)
    try:
        content = content_of(store, verdicts.standing(store))
    finally:
        store.close()
    if not content["cases"]:
        raise ReviewError(f"{store.name}: holds no case yet; fill it with medtl reviews import SCORES")
    with atomic_folder(folder, marker=MARKER) as temporary:
        write_json(temporary / MARKER, _plain(content))
        html = _rendered("reviews.html", content, linked=False, made=now()[:16], version=__version__)
        (temporary / "reviews.html").write_text(html, encoding="utf-8")
    say(f"report on {counted(content['n_verdicts'], 'verdict')}: {folder / 'reviews.html'}")
    return folder


def content_of(store: ReviewStore, standing: Sequence[StoredVerdict]) -> dict[str, Any]:
    """All that the report says.

    Args:
        standing: the verdicts that stand.
    """
    with store.reading() as connection:
        return {
            "cases": _counts(connection),
            "n_verdicts": len(standing),
            "agreement": figures.agreement_by_week(standing),
            "drift": _drifts(connection),
            "inputs": _inputs(connection),
            "kappas": figures.kappas(standing),
            "paces": figures.paces(standing),
            "next": _to_read(connection),
        }


def sections(content: dict[str, Any]) -> str:
    """The report's sections as HTML, without a page around them; cases to read next are buttons with `data-case`."""
    return _rendered("reviews_sections.html", content, linked=True)


def _counts(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(CASES.c.status, func.count()).group_by(CASES.c.status).order_by(CASES.c.status))
    return {str(status): int(count) for status, count in rows}


def _drifts(connection: Connection) -> list[dict[str, Any]]:
    """Of each bundle and finding, in the order in which they came."""
    wanted = select(SCORES.c.bundle_id, SCORES.c.finding, CASES.c.received_at, SCORES.c.probability).join(CASES)
    by_name: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for bundle_id, finding, received_at, probability in connection.execute(wanted.order_by(CASES.c.received_at)):
        by_name.setdefault((bundle_id, finding), []).append((received_at, probability))
    return [
        {"bundle_id": bundle_id, "finding": finding, "weeks": figures.drift_by_week(scores)}
        for (bundle_id, finding), scores in by_name.items()
    ]


def _inputs(connection: Connection) -> dict[str, list[figures.Inputs]]:
    """What the scans were, by respect and week."""
    rows = connection.execute(select(CASES.c.received_at, CASES.c.facts))
    return figures.inputs_by_week((received_at, json.loads(facts)) for received_at, facts in rows)


def _to_read(connection: Connection) -> list[dict[str, Any]]:
    """The open, free cases with the largest distance from the labeled scans, times doubt; one of each patient.

    Uploads are left out: they are in memory only.

    Doubt is 1 where the probability of a finding is 1/2 and 0 where it is 0 or 1. It is not taken at the operating
    point, which few labels place by chance. Cases whose distance is not known come last, by doubt.
    """
    doubt = func.max(1 - func.abs(2 * SCORES.c.probability - 1))
    value = (func.coalesce(CASES.c.distance, 0) * doubt).desc()
    current = and_(SCORES.c.case_id == CASES.c.id, SCORES.c.bundle_id == CASES.c.bundle_id)
    columns = (CASES.c.id, CASES.c.patient_id, CASES.c.scan_id, CASES.c.distance, CASES.c.nearest_scan_id)
    free = (
        select(*columns, doubt.label("doubt"))
        .join(SCORES, current)
        .where(CASES.c.status == "open", not_(held()), on_disk())
    )
    chosen: dict[str | int, Any] = {}
    for row in connection.execute(free.group_by(*columns).order_by(value, doubt.desc(), CASES.c.id)):
        chosen.setdefault(row.patient_id or row.id, row)
        if len(chosen) == NEXT:
            break
    return [
        {"case": row.id, "scan_id": row.scan_id, "doubt": row.doubt,
         "distance": math.nan if row.distance is None else row.distance, "nearest_scan_id": row.nearest_scan_id}
        for row in chosen.values()
    ]  # fmt: skip


def _rendered(template: str, content: dict[str, Any], **more: Any) -> str:
    pictures = [plots.drift(each["weeks"], f"d{i}") for i, each in enumerate(content["drift"])]
    return (
        environment("medtl.review")
        .get_template(template)
        .render(
            **content,
            agreement_plot=plots.agreement(content["agreement"], "a") if content["agreement"] else None,
            drift_plots=pictures,
            **more,
        )
    )


def _plain(value: Any) -> Any:
    """As JSON has it: records as objects, days as text, nan as null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if hasattr(value, "isoformat") else value
