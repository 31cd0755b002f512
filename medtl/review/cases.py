"""Cases of the worklist: one per scan, with what the detector said, and who reads it now.

A case is `open` until as many readers as wanted have read it, then `done`, or `adjudicate` where two of them
contradict each other. While a reader holds it (30 minutes, renewed by claiming it again) it shows as `claimed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from medtl.review.store import ReviewStore
from medtl.review.users import User

DECISIONS = ("positive", "negative", "uncertain")
STATUSES = ("open", "claimed", "done", "adjudicate")
CLAIMED_FOR = timedelta(minutes=30)
AGE_PER_DAY = 0.1
"""Urgency that a case gains by waiting a day: after ten days it stands a step higher, see `Score.suspicion`."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What the detector said about one finding.

    Args:
        probability, threshold: calibrated, and the operating point.
        decision: "positive", "negative" or "uncertain".
        uncertainty: 0 to 1; 1 is at the operating point. None: computed from the distance to it.
    """

    finding: str
    probability: float
    threshold: float
    decision: str
    uncertainty: float | None = None


@dataclass(frozen=True, kw_only=True)
class NewCase:
    """A scan that is to be read.

    Args:
        scan_id, sha256: the scan, and the digest of its file.
        path: where the server finds the file; of an upload its name.
        bundle_id: whose scores these are.
        scores: one for each finding, in the bundle's order.
        patient_id: a pseudonym, which leads to prior scans; may be empty.
        facts: what may be shown without naming anyone: age_years, sex, modality, view...
        received_at: ISO 8601 in UTC; empty: now.
        readings_wanted: how many readers have to read it, each without seeing the others' verdicts.
    """

    scan_id: str
    sha256: str
    path: str
    bundle_id: str
    scores: tuple[Score, ...]
    patient_id: str = ""
    facts: dict[str, str | int | float] = field(default_factory=dict)
    received_at: str = ""
    readings_wanted: int = 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case as one user sees it.

    Args:
        status: one of `STATUSES`; "claimed" while somebody holds it.
        claimed_by, claimed_until: who holds it, None where nobody does.
        read: whether this user has finished reading it.
        urgency: the higher the sooner; see `worklist`.
        uncertainty: the largest of its scores'.
    """

    id: int
    scan_id: str
    sha256: str
    path: str
    bundle_id: str
    scores: tuple[Score, ...]
    patient_id: str
    facts: dict[str, str | int | float]
    received_at: str
    readings_wanted: int
    status: str
    claimed_by: str | None
    claimed_until: str | None
    read: bool
    urgency: float
    uncertainty: float


def add(store: ReviewStore, cases: Sequence[NewCase]) -> list[int]:
    """Take up cases, all or none, and return their numbers, in order.

    A scan that is known already keeps its case, status and verdicts; scores of another bundle become its current ones.
    """
    raise NotImplementedError


def get(store: ReviewStore, case_id: int, *, by: User) -> Case:
    """One case.

    Raises:
        ReviewError: no such case.
    """
    raise NotImplementedError


def claim(store: ReviewStore, case_id: int, *, by: User) -> Case:
    """Take a case for 30 minutes, or hold on to it for 30 more.

    Raises:
        ReviewError: another reader holds it (his name and until when), or there is no such case.
    """
    raise NotImplementedError


def release(store: ReviewStore, case_id: int, *, by: User) -> None:
    """Give a case back unread; a lead may give back anybody's.

    Raises:
        ReviewError: another reader holds it.
    """
    raise NotImplementedError


def priors(store: ReviewStore, case_id: int, *, by: User) -> list[Case]:
    """Other cases of the same patient, newest first; none where the patient is not known."""
    raise NotImplementedError
