"""Which case comes next: sorted, filtered, a page at a time.

Urgency is `suspicion + uncertainty / 2` of the most urgent finding plus `AGE_PER_DAY` for every day that the case
waits. Suspicion is 0 to 1 below the operating point and 1 to 2 above it, so that findings with different operating
points compare. Waiting raises all cases alike, so their order does not change with time and an index can hold it.
"""

from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, false, func, not_, or_, select

from medtl.config import closest
from medtl.errors import ReviewError
from medtl.review.cases import hold, read, seen_by
from medtl.review.moments import moment, now
from medtl.review.records import DECISIONS, STATUSES, WITHDRAWN, Case
from medtl.review.schema import CASES, READINGS, SCORES, VERDICTS
from medtl.review.store import ReviewStore
from medtl.review.users import User

SORTS = {
    "urgency": (CASES.c.urgency, "down"),
    "uncertainty": (CASES.c.uncertainty, "down"),
    "oldest": (CASES.c.received_at, "up"),
    "newest": (CASES.c.received_at, "down"),
}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which cases; what is None or empty does not matter.

    Args:
        finding, decision: what the detector said; a decision without a finding means any finding.
        status: one of `cases.STATUSES`.
        received_from, received_before: moments, or days as in "2026-11-25"; from this one on, and before this one.
        reader: read by him. A reader may ask for himself only.
    """

    finding: str = ""
    decision: str = ""
    status: str = ""
    received_from: str = ""
    received_before: str = ""
    reader: str = ""

    def __post_init__(self) -> None:
        for name, said, choices in (("status", self.status, STATUSES), ("decision", self.decision, DECISIONS)):
            if said and said not in choices:
                raise ReviewError(f"unknown {name} '{said}'{closest(said, choices)}")
        for name in ("received_from", "received_before"):
            if said := getattr(self, name):
                try:
                    object.__setattr__(self, name, moment(said))
                except ValueError:
                    raise ReviewError(f"'{said}' is no day; expected one as in 2026-11-25") from None


ALL = Filter()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some cases, and what to give as `after` for the next ones; None after the last."""

    cases: tuple[Case, ...]
    after: str | None


def page(
    store: ReviewStore,
    *,
    by: User,
    where: Filter = ALL,
    sort: str = "urgency",
    after: str | None = None,
    limit: int = 50,
) -> Page:
    """A page of the worklist as this user sees it, in two queries, whatever the page.

    Raises:
        ReviewError: an unknown sort or status, an `after` that no page gave, another reader's cases.
    """
    column, direction = _sorted_by(sort)
    wanted = seen_by(by).where(*_conditions(where, by))
    if after is not None:
        wanted = wanted.where(_beyond(column, direction, after))
    with store.reading() as connection:
        found = read(connection, wanted.order_by(*_order(sort)).limit(limit + 1), by)
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(
        cases=tuple(found[:limit]), after=f"{last.id} {getattr(last, column.name)!r}" if last is not None else None
    )


def count(store: ReviewStore, *, by: User, where: Filter = ALL) -> int:
    """How many cases there are, in one query."""
    with store.reading() as connection:
        inner = seen_by(by).where(*_conditions(where, by)).subquery()
        return int(connection.execute(select(func.count()).select_from(inner)).scalar_one())


def next_case(
    store: ReviewStore, *, by: User, where: Filter = ALL, sort: str = "urgency", status: str = "open"
) -> Case | None:
    """Claim the first case, in this order, that this user has not read and nobody holds; None where there is none.

    Of those that he has not read, the ones on which he marked a finding to be taught come last.

    Uploads do not come: they are in memory only, and who opened one holds it already.

    Args:
        where: further conditions; its own status does not matter.
        status: "open", or "adjudicate" for a lead.

    Raises:
        ReviewError: another status or sort, or a reader who wants to adjudicate.
    """
    with store.transaction() as connection:
        first = _first(connection, by, where, sort, status)
        if first is None:
            return None
        hold(connection, first, by)
        return _one(connection, first, by)


def upcoming(
    store: ReviewStore, *, by: User, where: Filter = ALL, sort: str = "urgency", status: str = "open"
) -> Case | None:
    """What `next_case` would claim now.

    Raises:
        ReviewError: as `next_case`.
    """
    with store.reading() as connection:
        first = _first(connection, by, where, sort, status)
        return None if first is None else _one(connection, first, by)


def _one(connection: Connection, case_id: int, by: User) -> Case:
    return read(connection, seen_by(by).where(CASES.c.id == case_id), by)[0]


def _sorted_by(sort: str) -> tuple[ColumnElement[Any], str]:
    if sort not in SORTS:
        raise ReviewError(f"unknown sort '{sort}'{closest(sort, list(SORTS))}")
    return SORTS[sort]


def _order(sort: str) -> tuple[ColumnElement[Any], ...]:
    column, direction = _sorted_by(sort)
    return (column, CASES.c.id) if direction == "up" else (column.desc(), CASES.c.id.desc())


def _first(connection: Connection, by: User, where: Filter, sort: str, status: str) -> int | None:
    """The number of the case that comes next."""
    if status not in ("open", "adjudicate") or (status == "adjudicate" and not by.leads):
        raise ReviewError(
            f"{by.name} ({by.role}) cannot take the next case of status '{status}'; expected open, or "
            "adjudicate for a lead"
        )
    wanted = seen_by(by).where(
        *_conditions(replace(where, status=""), by), CASES.c.status == status, not_(held()), on_disk()
    )
    numbers = wanted.with_only_columns(CASES.c.id).order_by(*_order(sort)).limit(1)
    if status == "adjudicate":
        return _number(connection, numbers)
    unread = numbers.where(READINGS.c.finished_at.is_(None))
    found = _number(connection, unread.where(not_(_spoken_on(by))))
    return _number(connection, unread) if found is None else found


def _number(connection: Connection, numbers: Select[Any]) -> int | None:
    found: int | None = connection.execute(numbers).scalar_one_or_none()
    return found


def _spoken_on(by: User) -> ColumnElement[bool]:
    """Something that this user said about the case stands."""
    later = VERDICTS.alias("later")
    superseded = select(later.c.id).where(later.c.case_id == VERDICTS.c.case_id, later.c.supersedes == VERDICTS.c.id)
    his = (VERDICTS.c.case_id == CASES.c.id, VERDICTS.c.reader == by.name, VERDICTS.c.verdict != WITHDRAWN)
    return select(VERDICTS.c.id).where(*his, not_(superseded.exists())).exists()


def _conditions(where: Filter, by: User) -> Iterator[ColumnElement[bool]]:
    if where.finding or where.decision:
        said = [SCORES.c.case_id == CASES.c.id, SCORES.c.bundle_id == CASES.c.bundle_id]
        said += [SCORES.c.finding == where.finding] if where.finding else []
        said += [SCORES.c.decision == where.decision] if where.decision else []
        yield select(SCORES.c.case_id).where(*said).exists()
    if where.received_from:
        yield CASES.c.received_at >= where.received_from
    if where.received_before:
        yield CASES.c.received_at < where.received_before
    if where.reader:
        if not by.leads and where.reader != by.name:
            raise ReviewError("a reader sees what he read himself; only a lead may ask for other readers' cases")
        his = READINGS.alias("his")
        yield select(his.c.case_id).where(his.c.case_id == CASES.c.id, his.c.reader == where.reader).exists()
    if where.status:
        yield held() if where.status == "claimed" else and_(not_(held()), _has_status(where.status, by))


def _has_status(status: str, by: User) -> ColumnElement[bool]:
    """As `Case.status` shows it to this user."""
    if by.leads:
        return CASES.c.status == status
    done = or_(CASES.c.status.in_(("done", "adjudicate")), READINGS.c.finished_at.is_not(None))
    return {"done": done, "open": not_(done), "adjudicate": false()}[status]


def held() -> ColumnElement[bool]:
    """Somebody reads the case now."""
    return and_(CASES.c.claimed_until.is_not(None), CASES.c.claimed_until > now())


def on_disk() -> ColumnElement[bool]:
    """The case is no upload, of which the name is kept, and no place."""
    return CASES.c.path.like("/%")


def _beyond(column: ColumnElement[Any], direction: str, after: str) -> ColumnElement[bool]:
    """What comes after the case that `after` names: the page begins there, whatever was added or read meanwhile."""
    number, _, value = after.partition(" ")
    try:
        key, at = int(number), literal_eval(value)
        if not isinstance(at, column.type.python_type):
            raise ValueError
    except (ValueError, SyntaxError):
        raise ReviewError(
            f"'{after}' is not what a page of this sort gave as its end; begin with the first page"
        ) from None
    if direction == "up":
        return or_(column > at, and_(column == at, CASES.c.id > key))
    return or_(column < at, and_(column == at, CASES.c.id < key))
