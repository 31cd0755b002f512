"""Cases of the worklist: one per scan, with what the detector said, and who reads it now.

A case is `open` until as many readers as wanted have read it, then `done`, or `adjudicate` where as many of them say
that a finding is there as say that it is not. While a reader holds it (30 minutes, renewed by claiming it again) it
shows as `claimed`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, Select, and_, bindparam, func, select

from medtl.errors import ReviewError
from medtl.review.moments import days, now
from medtl.review.records import Case, NewCase, Score
from medtl.review.schema import CASES, READINGS, SCORES
from medtl.review.store import ReviewStore
from medtl.review.users import User

CLAIMED_FOR = timedelta(minutes=30)
AGE_PER_DAY = 0.1
"""Urgency that a case gains by waiting a day: after ten days it stands a step higher, see `Score.suspicion`."""


def add(store: ReviewStore, cases: Sequence[NewCase]) -> list[int]:
    """Take up cases, all or none, and return their numbers, in order.

    A scan that is known already keeps its case, status and verdicts; scores of another bundle become its current ones.
    """
    by_scan = {case.scan_id: case for case in cases}
    with store.transaction() as connection:
        before = _found(connection, list(by_scan))
        fresh = [_row(case) | {"status": "open"} for scan, case in by_scan.items() if scan not in before]
        if before:
            _score_anew(connection, [(row, by_scan[scan]) for scan, row in before.items()])
        if fresh:
            connection.execute(CASES.insert(), fresh)
        ids = {scan: row.id for scan, row in _found(connection, list(by_scan)).items()}
        old = and_(SCORES.c.case_id == bindparam("b_case"), SCORES.c.bundle_id == bindparam("b_bundle"))
        if by_scan:
            connection.execute(
                SCORES.delete().where(old),
                [{"b_case": ids[scan], "b_bundle": case.bundle_id} for scan, case in by_scan.items()],
            )
            connection.execute(SCORES.insert(), [
                {"case_id": ids[scan], "bundle_id": case.bundle_id, "finding": score.finding, "place": place,
                 "probability": score.probability, "threshold": score.threshold, "decision": score.decision,
                 "uncertainty": score.uncertainty}
                for scan, case in by_scan.items() for place, score in enumerate(case.scores)
            ])  # fmt: skip
    return [ids[case.scan_id] for case in cases]


def get(store: ReviewStore, case_id: int, *, by: User) -> Case:
    """One case.

    Raises:
        ReviewError: no such case.
    """
    with store.reading() as connection:
        return _one(connection, case_id, by)


def find(store: ReviewStore, scan_id: str, *, by: User) -> Case | None:
    """The case of a scan; None where it has none."""
    with store.reading() as connection:
        return next(iter(read(connection, seen_by(by).where(CASES.c.scan_id == scan_id), by)), None)


def claim(store: ReviewStore, case_id: int, *, by: User) -> Case:
    """Take a case for 30 minutes, or hold on to it for 30 more.

    Raises:
        ReviewError: another reader holds it (his name and until when), or there is no such case.
    """
    with store.transaction() as connection:
        check_free(_one(connection, case_id, by), by)
        hold(connection, case_id, by)
        return _one(connection, case_id, by)


def release(store: ReviewStore, case_id: int, *, by: User) -> None:
    """Give a case back unread; a lead may give back anybody's.

    Raises:
        ReviewError: another reader holds it.
    """
    with store.transaction() as connection:
        case = _one(connection, case_id, by)
        if not by.leads:
            check_free(case, by)
        connection.execute(CASES.update().where(CASES.c.id == case_id).values(claimed_by=None, claimed_until=None))


def priors(store: ReviewStore, case_id: int, *, by: User) -> list[Case]:
    """Other cases of the same patient, newest first; none where the patient is not known."""
    with store.reading() as connection:
        case = _one(connection, case_id, by)
        if not case.patient_id:
            return []
        same = and_(CASES.c.patient_id == case.patient_id, CASES.c.id != case_id)
        return read(connection, seen_by(by).where(same).order_by(CASES.c.received_at.desc(), CASES.c.id.desc()), by)


def seen_by(by: User) -> Select[Any]:
    """All cases, each with whether this user has read it."""
    mine = and_(READINGS.c.case_id == CASES.c.id, READINGS.c.reader == by.name)
    return select(CASES, READINGS.c.finished_at).select_from(CASES.outerjoin(READINGS, mine))


def read(connection: Connection, wanted: Select[Any], by: User) -> list[Case]:
    """The cases of a selection that `seen_by` began, with their scores: two queries."""
    rows = connection.execute(wanted).mappings().all()
    current = and_(SCORES.c.case_id == CASES.c.id, SCORES.c.bundle_id == CASES.c.bundle_id)
    scores: dict[int, list[Score]] = {row["id"]: [] for row in rows}
    if rows:
        found = select(SCORES).join(CASES, current).where(CASES.c.id.in_(list(scores))).order_by(SCORES.c.place)
        for score in connection.execute(found):
            scores[score.case_id].append(_score(score))
    return [_case(row, tuple(scores[row["id"]]), by) for row in rows]


def check_free(case: Case, by: User) -> None:
    """Refuse a case that another reader holds.

    Raises:
        ReviewError: his name and until when.
    """
    if case.claimed_by not in (None, by.name):
        raise ReviewError(
            f"case {case.id} is being read by {case.claimed_by} until {str(case.claimed_until)[11:16]} UTC; "
            "take another one"
        )


def hold(connection: Connection, case_id: int, by: User) -> None:
    """Let this user hold a case from now on."""
    held = {"claimed_by": by.name, "claimed_until": now(plus=CLAIMED_FOR)}
    connection.execute(CASES.update().where(CASES.c.id == case_id).values(held))


def _one(connection: Connection, case_id: int, by: User) -> Case:
    found = read(connection, seen_by(by).where(CASES.c.id == case_id), by)
    if not found:
        raise ReviewError(f"there is no case {case_id}; the worklist shows all")
    return found[0]


def _found(connection: Connection, scan_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Number and arrival of those scans that have a case."""
    found: dict[str, Row[Any]] = {}
    wanted = select(CASES.c.scan_id, CASES.c.id, CASES.c.received_at, CASES.c.facts)
    for first in range(0, len(scan_ids), 500):  # databases bound the parameters of a query
        some = scan_ids[first : first + 500]
        found |= {row.scan_id: row for row in connection.execute(wanted.where(CASES.c.scan_id.in_(some)))}
    return found


def _score_anew(connection: Connection, cases: Sequence[tuple[Row[Any], NewCase]]) -> None:
    """Known cases get new scores, and what was not known about them; they wait since they first arrived."""
    names = ("path", "bundle_id", "urgency", "uncertainty", "nearest_scan_id", "distance")
    changes: dict[str, Any] = {name: bindparam(f"b_{name}") for name in names}
    changes["facts"] = bindparam("b_facts")
    changes["patient_id"] = func.coalesce(func.nullif(bindparam("b_patient_id"), ""), CASES.c.patient_id)
    rows = [
        {"id": row.id} | _row(replace(case, received_at=row.received_at, facts=json.loads(row.facts) | case.facts))
        for row, case in cases
    ]
    connection.execute(
        CASES.update().where(CASES.c.id == bindparam("b_id")).values(changes),
        [{f"b_{name}": row[name] for name in ("id", *names, "patient_id", "facts")} for row in rows],
    )


def _row(case: NewCase) -> dict[str, Any]:
    uncertainty = [score.uncertainty or 0.0 for score in case.scores]
    urgency = max(score.suspicion + more / 2 for score, more in zip(case.scores, uncertainty, strict=True))
    return {
        "scan_id": case.scan_id, "sha256": case.sha256, "path": case.path, "patient_id": case.patient_id,
        "facts": json.dumps(case.facts), "received_at": case.received_at, "bundle_id": case.bundle_id,
        "urgency": urgency - AGE_PER_DAY * days(case.received_at), "uncertainty": max(uncertainty),
        "nearest_scan_id": case.nearest_scan_id, "distance": case.distance,
        "readings_wanted": case.readings_wanted,
    }  # fmt: skip


def _score(row: Row[Any]) -> Score:
    return Score(
        finding=row.finding,
        probability=row.probability,
        threshold=row.threshold,
        decision=row.decision,
        uncertainty=row.uncertainty,
    )


def _case(row: RowMapping, scores: tuple[Score, ...], by: User) -> Case:
    held = row["claimed_until"] is not None and row["claimed_until"] > now()
    read_by_him = row["finished_at"] is not None
    status = row["status"]
    if held:
        status = "claimed"
    elif not by.leads and (read_by_him or status == "adjudicate"):
        status = "done"  # that another reader contradicted him, or is still to read it, is not for a reader to know
    names = ("id", "scan_id", "sha256", "path", "bundle_id", "patient_id", "received_at", "readings_wanted", "urgency",
             "uncertainty")  # fmt: skip
    return Case(
        **{name: row[name] for name in names},
        scores=scores,
        facts=json.loads(row["facts"]),
        status=status,
        claimed_by=row["claimed_by"] if held else None,
        claimed_until=row["claimed_until"] if held else None,
        read=read_by_him,
        to_decide=by.leads and row["status"] == "adjudicate",
    )
