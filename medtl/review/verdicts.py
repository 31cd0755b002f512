"""Verdicts: appended, chained, never changed. What `save` returned is on disk.

A correction and an undo are new rows that supersede old ones; a verdict that nothing supersedes stands.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from medtl.errors import ReviewError
from medtl.review import chain
from medtl.review.cases import hold
from medtl.review.moments import now
from medtl.review.records import UNASKED, WITHDRAWN, Region, StoredVerdict, Verdict
from medtl.review.schema import CASES, HEAD, READINGS, SCORES
from medtl.review.schema import VERDICTS as TABLE
from medtl.review.store import ReviewStore
from medtl.review.users import User


def save(store: ReviewStore, verdicts: Sequence[Verdict], *, by: User, token: str, done: bool = True) -> list[int]:
    """Append the verdicts on one case, all or none; they are on disk when this returns.

    What the same reader said before about the same finding is superseded. With the last reading that is wanted the
    case becomes done, or has to be adjudicated.

    Args:
        by: the reader; his role now is stored with the verdict.
        token: chosen by the caller for this act of saving. Saving again with it returns the same numbers and stores
            nothing, so a save may be repeated until it is answered.
        done: the reading is complete, and the reader lets go of the case.

    Returns:
        Their numbers, in order.

    Raises:
        ReviewError: nothing was stored; the message says why and what to do.
    """
    case_id = _one_case(verdicts, token)
    adjudicates = verdicts[0].adjudicates
    if adjudicates and not by.leads:
        raise ReviewError(f"{by.name} is a {by.role}; only a lead adjudicates")
    with store.transaction() as connection:
        if earlier := _saved_before(connection, token):
            return _same(earlier, verdicts, by)
        _check_may_read(connection, case_id, by, adjudicates)
        shown: dict[str, Mapping[Any, Any]] = {
            **_scores(connection, case_id, {verdict.bundle_id for verdict in verdicts}),
            **_unasked(connection, case_id, [each.finding for each in verdicts if not each.bundle_id], by),
        }
        before = {row.finding: row.id for row in unsuperseded(_of_case(connection, case_id))
                  if row.reader == by.name and row.adjudicates == adjudicates}  # fmt: skip
        rows = [_row(verdict, shown) | {"supersedes": before.get(verdict.finding)} for verdict in verdicts]
        ids = _append(connection, rows, by, token)
        if done:
            if not adjudicates:
                _finish(connection, case_id, by.name)
            connection.execute(CASES.update().where(CASES.c.id == case_id).values(claimed_by=None, claimed_until=None))
        _settle(connection, case_id)
    return ids


def undo(store: ReviewStore, ids: Sequence[int], *, by: User, token: str) -> list[int]:
    """Take verdicts back: rows that supersede them, and the case is this reader's again.

    What he had said before is not restored: he says nothing about these findings until he speaks anew.

    Raises:
        ReviewError: a verdict of somebody else, or one that no longer stands; nothing was stored.
    """
    with store.transaction() as connection:
        if earlier := _saved_before(connection, token):
            return [row["id"] for row in earlier]
        found = connection.execute(select(TABLE).where(TABLE.c.id.in_(list(ids)))).mappings().all()
        cases = {row["case_id"] for row in found}
        mine = {row.id for case_id in cases for row in unsuperseded(_of_case(connection, case_id))
                if row.reader == by.name}  # fmt: skip
        if not ids or len(cases) != 1 or not set(ids) <= mine:
            raise ReviewError(
                f"verdicts {', '.join(map(str, ids))}: cannot be taken back; expected verdicts of {by.name} on one "
                "case that nothing has superseded"
            )
        case_id = cases.pop()
        taken_back = {"verdict": WITHDRAWN, "relabel": None, "region": None, "note": "", "seconds": None}
        new = _append(connection, [dict(row) | taken_back | {"supersedes": row["id"]} for row in found], by, token)
        this = (READINGS.c.case_id == case_id, READINGS.c.reader == by.name)
        if any(row["bundle_id"] and not row["adjudicates"] for row in found):
            connection.execute(READINGS.delete().where(*this))
        holder = connection.execute(
            select(CASES.c.claimed_by, CASES.c.claimed_until).where(CASES.c.id == case_id)
        ).one()
        if holder.claimed_by is None or holder.claimed_until < now():
            hold(connection, case_id, by)
        _settle(connection, case_id)
    return new


def of_case(store: ReviewStore, case_id: int, *, by: User) -> list[StoredVerdict]:
    """The verdicts on a case that this user may see, oldest first, superseded ones too.

    His own, always. Those of others only a lead, and only once the case is done or has to be adjudicated: whoever may
    still read it must not know what another saw.
    """
    with store.reading() as connection:
        status = connection.execute(select(CASES.c.status).where(CASES.c.id == case_id)).scalar_one_or_none()
        all_of_them = by.leads and status in ("done", "adjudicate")
        return [row for row in _of_case(connection, case_id) if all_of_them or row.reader == by.name]


def of_scans(store: ReviewStore, scan_ids: Sequence[str]) -> list[StoredVerdict]:
    """What stands of the verdicts on those of these scans whose cases are done: nobody who may still read is told."""
    done = select(CASES.c.id).where(CASES.c.scan_id.in_(scan_ids), CASES.c.status == "done")
    with store.reading() as connection:
        rows = connection.execute(select(TABLE).where(TABLE.c.case_id.in_(done)).order_by(TABLE.c.id))
        return unsuperseded(stored(rows.mappings()))


def standing(store: ReviewStore, *, read: bool = False) -> list[StoredVerdict]:
    """Every verdict that stands, of all readers, oldest first.

    Args:
        read: only those on cases that all have read who should: whoever sees others may still have to read the rest.
            Marks of findings to be taught, which are no reading, come all the same.
    """
    with store.reading() as connection:
        rows = unsuperseded(stored(connection.execute(select(TABLE).order_by(TABLE.c.id)).mappings()))
        if not read:
            return rows
        wanted = select(CASES.c.id).where(CASES.c.status.in_(("done", "adjudicate")))
        finished = set(connection.execute(wanted).scalars())
    return [row for row in rows if not row.bundle_id or row.case_id in finished]


def unsuperseded(rows: Sequence[StoredVerdict]) -> list[StoredVerdict]:
    """Of all verdicts on some cases, those that nothing supersedes and that take nothing back."""
    superseded = {row.supersedes for row in rows}
    return [row for row in rows if row.id not in superseded and row.verdict != WITHDRAWN]


def _one_case(verdicts: Sequence[Verdict], token: str) -> int:
    """The case that all of them are about.

    Raises:
        ReviewError: there is none, they are about several, or two are about one finding.
    """
    if not verdicts:
        raise ReviewError("nothing to save; choose agree, disagree or unsure for at least one finding")
    if not 16 <= len(token) <= 200:
        raise ReviewError(f"a token of {len(token)} characters; expected 16 to 200, such as a UUID, for each save")
    bundles = {verdict.bundle_id for verdict in verdicts if verdict.bundle_id}
    if len({(v.case_id, v.adjudicates) for v in verdicts}) > 1 or len(bundles) > 1:
        raise ReviewError("verdicts on several cases, or on answers of several bundles; save each case by itself")
    findings = [verdict.finding for verdict in verdicts]
    if len(set(findings)) < len(findings):
        raise ReviewError(f"two verdicts on one finding of {', '.join(findings)}; keep one")
    return verdicts[0].case_id


def _saved_before(connection: Connection, token: str) -> Sequence[RowMapping]:
    return connection.execute(select(TABLE).where(TABLE.c.token == token).order_by(TABLE.c.id)).mappings().all()


def _same(earlier: Sequence[RowMapping], verdicts: Sequence[Verdict], by: User) -> list[int]:
    """The numbers of verdicts that were saved before.

    Raises:
        ReviewError: others were saved under this token.
    """
    names = [each.name for each in fields(Verdict)]
    said = [_plain(verdict) for verdict in verdicts]
    if [{name: row[name] for name in names} for row in earlier] != said or {r["reader"] for r in earlier} != {by.name}:
        raise ReviewError("other verdicts were saved with this token before; look at the case again, then save anew")
    return [row["id"] for row in earlier]


def _check_may_read(connection: Connection, case_id: int, by: User, adjudicates: bool) -> None:
    """Refuse a verdict on a case that is not this reader's.

    A claim that has run out is still his as long as nobody else took it: what he saw is not thrown away.
    """
    case = connection.execute(
        select(CASES.c.claimed_by, CASES.c.claimed_until).where(CASES.c.id == case_id)
    ).one_or_none()
    if case is None:
        raise ReviewError(f"there is no case {case_id}; the worklist shows all")
    if case.claimed_by == by.name:
        return
    if case.claimed_by is not None and case.claimed_until > now():
        raise ReviewError(
            f"case {case_id} is being read by {case.claimed_by} now; yours had run out. Claim it again later"
        )
    this = (READINGS.c.case_id == case_id, READINGS.c.reader == by.name)
    if not adjudicates and connection.execute(select(READINGS).where(*this)).first() is None:
        raise ReviewError(f"case {case_id} is not claimed by {by.name}; claim it first")


def _scores(connection: Connection, case_id: int, bundles: set[str]) -> dict[str, RowMapping]:
    these = (SCORES.c.case_id == case_id, SCORES.c.bundle_id.in_(bundles))
    wanted = select(SCORES, CASES.c.scan_id, CASES.c.sha256).join(CASES).where(*these)
    return {row["finding"]: row for row in connection.execute(wanted).mappings()}


def _unasked(connection: Connection, case_id: int, findings: Sequence[str], by: User) -> dict[str, Mapping[Any, Any]]:
    """What stands beside marks of findings that the detector does not know.

    Raises:
        ReviewError: it knows one of them, or a reader marks one that no lead has begun.
    """
    if not findings:
        return {}
    case = connection.execute(
        select(CASES.c.scan_id, CASES.c.sha256, CASES.c.bundle_id).where(CASES.c.id == case_id)
    ).one()
    known = _scores(connection, case_id, {case.bundle_id})
    for finding in findings:
        if finding in known:
            raise ReviewError(f"the detector knows {finding}; say beside its answer whether it is there")
        begun = select(TABLE.c.id).where(TABLE.c.bundle_id == "", TABLE.c.finding == finding).limit(1)
        if not by.leads and connection.execute(begun).first() is None:
            raise ReviewError(f"no lead has begun to mark {finding}; choose one of the findings that are to be taught")
    beside = {"scan_id": case.scan_id, "sha256": case.sha256, "probability": 0.0, "threshold": 0.0}
    return {finding: beside | {"decision": UNASKED} for finding in findings}


def _row(verdict: Verdict, shown: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """The verdict beside the detector's answer, which comes from the store and not from the page."""
    if verdict.finding not in shown:
        raise ReviewError(
            f"case {verdict.case_id} has no score of {verdict.finding} by bundle {verdict.bundle_id}; "
            f"it has {', '.join(shown) or 'none of this bundle'}. Open the case again"
        )
    answer = shown[verdict.finding]
    told = {name: answer[name] for name in ("scan_id", "sha256", "probability", "threshold", "decision")}
    return _plain(verdict) | told


def _plain(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the table keeps it."""
    region = None if verdict.region is None else json.dumps(asdict(verdict.region), sort_keys=True)
    seconds = None if verdict.seconds is None else float(verdict.seconds)
    return {each.name: getattr(verdict, each.name) for each in fields(Verdict)} | {"region": region, "seconds": seconds}


def _append(connection: Connection, rows: Iterable[Mapping[str, Any]], by: User, token: str) -> list[int]:
    """Put rows at the end of the chain; the caller's transaction keeps all other writers away meanwhile."""
    count, head = connection.execute(select(HEAD.c.count, HEAD.c.hash)).one()
    last = connection.execute(select(func.max(TABLE.c.id))).scalar_one() or 0
    new: list[dict[str, Any]] = []
    common = {"reader": by.name, "role": by.role, "token": token, "created_at": now()}
    for number, row in enumerate(rows, last + 1):
        new.append(dict(row) | common | {"id": number, "prev_hash": head})
        head = new[-1]["hash"] = chain.row_hash(new[-1])
    connection.execute(TABLE.insert(), new)
    connection.execute(HEAD.update().values(count=count + len(new), hash=head))
    return [row["id"] for row in new]


def _of_case(connection: Connection, case_id: int) -> list[StoredVerdict]:
    rows = connection.execute(select(TABLE).where(TABLE.c.case_id == case_id).order_by(TABLE.c.id))
    return stored(rows.mappings())


def stored(rows: Iterable[RowMapping]) -> list[StoredVerdict]:
    """Rows of the table as records."""
    return [StoredVerdict(**dict(row) | {"region": _region(row["region"])}) for row in rows]


def _region(text: str | None) -> Region | None:
    if text is None:
        return None
    content = json.loads(text)
    return Region(**content | {"points": tuple((x, y) for x, y in content["points"])})


def _finish(connection: Connection, case_id: int, reader: str) -> None:
    """This reader has read the case."""
    connection.execute(READINGS.delete().where(READINGS.c.case_id == case_id, READINGS.c.reader == reader))
    connection.execute(READINGS.insert().values(case_id=case_id, reader=reader, finished_at=now()))


def _settle(connection: Connection, case_id: int) -> None:
    """Set the status of a case after its verdicts or readings changed."""
    wanted = connection.execute(select(CASES.c.readings_wanted).where(CASES.c.id == case_id)).scalar_one()
    readers = connection.execute(select(READINGS.c.reader).where(READINGS.c.case_id == case_id)).scalars().all()
    rows = unsuperseded(_of_case(connection, case_id))
    adjudicated = {row.finding for row in rows if row.adjudicates}
    said: dict[str, list[int]] = {}
    for row in rows:
        # Marks are no answer of the detector's to agree about, and nobody need decide between them.
        if row.reader in readers and not row.adjudicates and row.label is not None and row.decision != UNASKED:
            said.setdefault(row.finding, []).append(row.label)
    # Equal numbers for and against: a majority settles it without a lead.
    tied = any(2 * sum(labels) == len(labels) for name, labels in said.items() if name not in adjudicated)
    status = "open" if len(readers) < wanted else "adjudicate" if tied else "done"
    connection.execute(CASES.update().where(CASES.c.id == case_id).values(status=status))
