"""A patient's other scans, before and after: by the dates in their files, else by when they were received."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from app.files import recorded
from medtl.data.dicom_header import acquired_on
from medtl.errors import ScanError
from medtl.review import cases
from medtl.review.moments import days
from medtl.review.records import Case
from medtl.review.store import ReviewStore
from medtl.review.users import User

MOST = 20
"""Other cases whose files are asked for their dates, those received last: each is opened once."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """Another case of the patient.

    Args:
        apart: days from it to the case that is read; negative where it is the later one.
        dated: whether both files say when they were taken; else the days are those of being received.
        before: whether it came before, also on the same day.
    """

    case: Case
    apart: int
    dated: bool
    before: bool


def others_of(store: ReviewStore, case: Case, *, by: User) -> list[Other]:
    """The patient's other cases, the latest first; none where the patient is not known."""
    ours = _taken(case)
    found = [_beside(case, ours, other) for other in cases.priors(store, case.id, by=by)[:MOST]]
    return sorted(found, key=lambda other: (other.apart, other.before))


def _beside(case: Case, ours: date | None, other: Case) -> Other:
    theirs = _taken(other)
    came = (other.received_at, other.id) < (case.received_at, case.id)
    if ours is None or theirs is None:
        apart = int(days(case.received_at) - days(other.received_at))
        return Other(case=other, apart=apart, dated=False, before=came)
    apart = (ours - theirs).days
    return Other(case=other, apart=apart, dated=True, before=apart > 0 or (apart == 0 and came))


def _taken(case: Case) -> date | None:
    try:
        file = recorded(case)
        return _taken_at(str(file), file.stat().st_mtime_ns)
    except (ScanError, OSError):
        return None


@lru_cache(maxsize=4096)
def _taken_at(path: str, changed_ns: int) -> date | None:
    return acquired_on(path)
