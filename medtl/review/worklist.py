"""Which case comes next: sorted, filtered, a page at a time.

Urgency is `suspicion + uncertainty / 2` of the most urgent finding plus `AGE_PER_DAY` for every day that the case
waits. Suspicion is 0 to 1 below the operating point and 1 to 2 above it, so that findings with different operating
points compare. Waiting raises all cases alike, so their order does not change with time and an index can hold it.
"""

from dataclasses import dataclass

from medtl.review.cases import Case
from medtl.review.store import ReviewStore
from medtl.review.users import User

SORTS = ("urgency", "uncertainty", "oldest", "newest")


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


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some cases, and what to give as `after` for the next ones; None after the last."""

    cases: tuple[Case, ...]
    after: str | None


def page(
    store: ReviewStore, *, by: User, where: Filter = Filter(), sort: str = "urgency", after: str | None = None,  # noqa: B008
    limit: int = 50,
) -> Page:  # fmt: skip
    """A page of the worklist as this user sees it, in two queries, whatever the page.

    Raises:
        ReviewError: an unknown sort or status, an `after` that no page gave, another reader's cases.
    """
    raise NotImplementedError


def count(store: ReviewStore, *, by: User, where: Filter = Filter()) -> int:  # noqa: B008
    """How many cases there are, in one query."""
    raise NotImplementedError


def next_case(store: ReviewStore, *, by: User, where: Filter = Filter(), status: str = "open") -> Case | None:  # noqa: B008
    """Claim the most urgent case that this user has not read and nobody holds; None where there is none.

    Args:
        status: "open", or "adjudicate" for a lead.
    """
    raise NotImplementedError
