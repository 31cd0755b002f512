"""Verdicts: appended, chained, never changed. What `save` returned is on disk.

A correction and an undo are new rows that supersede old ones; a verdict that nothing supersedes stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medtl.review.store import ReviewStore
from medtl.review.users import User

VERDICTS = ("agree", "disagree", "unsure")
WITHDRAWN = "withdrawn"
"""The verdict of a row that takes back another one."""
LONGEST_NOTE = 2000
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where a reader sees the finding.

    Args:
        kind: "box" (two opposite corners) or "polygon" (three corners or more).
        points: (column, row) in pixels of the image as it was read, or of the slice.
        plane, slice_index: of a volume, such as "Axial" and 41, counted from 0.
    """

    kind: str
    points: tuple[tuple[float, float], ...]
    plane: str | None = None
    slice_index: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader says about one finding of one case.

    Args:
        case_id, bundle_id, finding: what was shown. The store adds the detector's answer from its own tables.
        verdict: "agree", "disagree" or "unsure".
        relabel: 1 or 0, what the finding really is, where agree and disagree do not say it (a decision "uncertain").
        region: where it is.
        note: free text.
        bad_image: too poor to judge; no label comes of it.
        verdict_first: spoken before the detector's answer was shown.
        adjudicates: a lead's decision between readers; it outweighs theirs.
        seconds: time from opening the case to saving.
    """

    case_id: int
    bundle_id: str
    finding: str
    verdict: str
    relabel: int | None = None
    region: Region | None = None
    note: str = ""
    bad_image: bool = False
    verdict_first: bool = False
    adjudicates: bool = False
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class StoredVerdict(Verdict):
    """A row of the table: what was said, by whom, about which answer of the detector, and its place in the chain."""

    id: int
    scan_id: str
    sha256: str
    probability: float
    threshold: float
    decision: str
    reader: str
    role: str
    supersedes: int | None
    token: str
    created_at: str
    prev_hash: str
    hash: str

    @property
    def label(self) -> int | None:
        """1, 0, or None where it says nothing."""
        raise NotImplementedError


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
    raise NotImplementedError


def undo(store: ReviewStore, ids: Sequence[int], *, by: User, token: str) -> list[int]:
    """Take verdicts back: rows that supersede them, and the case is this reader's again.

    Raises:
        ReviewError: a verdict of somebody else, or one that no longer stands; nothing was stored.
    """
    raise NotImplementedError


def of_case(store: ReviewStore, case_id: int, *, by: User) -> list[StoredVerdict]:
    """The verdicts on a case that this user may see, oldest first, superseded ones too.

    His own, always. Those of others only a lead, and only once the case is done or has to be adjudicated: whoever may
    still read it must not know what another saw.
    """
    raise NotImplementedError


def standing(store: ReviewStore) -> list[StoredVerdict]:
    """Every verdict that stands, of all readers, oldest first; for export and report, not for the page."""
    raise NotImplementedError
