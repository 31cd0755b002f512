"""What the store keeps, as records: cases with scores, and verdicts. Valid once constructed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from medtl.config import closest
from medtl.errors import ReviewError
from medtl.review.moments import moment, now

DECISIONS = ("positive", "negative", "uncertain")
STATUSES = ("open", "claimed", "done", "adjudicate")
VERDICTS = ("agree", "disagree", "unsure")
UNASKED = "unasked"
"""The decision beside a mark: a verdict on a finding that no detector was asked about. Its `bundle_id` is empty, and
its probability and operating point, which the chain's format needs, are 0 and mean nothing."""
LONGEST_FINDING = 60
NO_FINDINGS = ("path", "scan_id", "patient_id", "split")
"""Columns of a labels file that are no findings."""
WITHDRAWN = "withdrawn"
"""The verdict of a row that takes back another one."""
LONGEST_NOTE = 2000
REGIONS = {"box": (2, 2), "polygon": (3, 1000)}
"""Kinds of region, with the least and the most points."""


def file_of(path: str) -> Path:
    """The file of a case's path, also where it names an image inside of one: `file.dcm#frame/2`."""
    whole = Path(path)
    return whole if whole.exists() else Path(path.rpartition("#")[0] or path)


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

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ReviewError(f"decision '{self.decision}' on {self.finding}: expected one of {', '.join(DECISIONS)}")
        if not (0 <= self.probability <= 1 and 0 <= self.threshold <= 1):
            raise ReviewError(
                f"{self.finding}: probability {self.probability} and threshold {self.threshold}; expected 0 to 1"
            )
        if self.uncertainty is None:
            object.__setattr__(self, "uncertainty", 1 - abs(self.suspicion - 1))
        elif not 0 <= self.uncertainty <= 1:
            raise ReviewError(f"{self.finding}: uncertainty {self.uncertainty}; expected 0 to 1")

    @property
    def suspicion(self) -> float:
        """0 to 1 below the operating point, 1 to 2 from it on: comparable between findings."""
        if self.probability < self.threshold:
            return self.probability / self.threshold
        return 1 + (self.probability - self.threshold) / (1 - self.threshold) if self.threshold < 1 else 1.0


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
        nearest_scan_id: of the bundle's labeled scans the one most alike to its encoder; may be empty.
        distance: how far it is from those, as `Reference.distance` has it; None where that is not known.
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
    nearest_scan_id: str = ""
    distance: float | None = None
    received_at: str = ""
    readings_wanted: int = 1

    def __post_init__(self) -> None:
        if not self.scan_id or not self.scores:
            raise ReviewError(
                f"{self.path}: a case needs a scan_id and a score; this one has '{self.scan_id}' and {len(self.scores)}"
            )
        if self.distance is not None and not 0 <= self.distance < math.inf:
            raise ReviewError(f"{self.path}: distance {self.distance}; expected 0 or more")
        if not 1 <= self.readings_wanted <= 9:
            raise ReviewError(f"{self.path}: {self.readings_wanted} readings wanted; expected 1 to 9")
        try:
            object.__setattr__(self, "received_at", moment(self.received_at) if self.received_at else now())
        except ValueError:
            raise ReviewError(
                f"{self.path}: received at '{self.received_at}'; expected a moment as in 2026-11-25T14:30:00+00:00"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case as one user sees it.

    Args:
        status: one of `STATUSES`; "claimed" while somebody holds it.
        claimed_by, claimed_until: who holds it, None where nobody does.
        read: whether this user has finished reading it.
        to_decide: whether readers disagree about it; told to leads only, also while somebody holds it.
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
    to_decide: bool = False
    urgency: float
    uncertainty: float


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

    def __post_init__(self) -> None:
        least, most = REGIONS.get(self.kind, (0, 0))
        if not most:
            raise ReviewError(f"unknown kind of region '{self.kind}'{closest(self.kind, list(REGIONS))}")
        if not least <= len(self.points) <= most:
            raise ReviewError(f"a {self.kind} of {len(self.points)} points; expected {least} to {most}")
        if not all(len(point) == 2 and all(0 <= at < 1e6 for at in point) for point in self.points):
            raise ReviewError(f"a {self.kind} needs (column, row) in pixels, from 0 on; found {self.points}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader says about one finding of one case.

    Args:
        case_id, bundle_id, finding: what was shown. The store adds the detector's answer from its own tables. An empty
            `bundle_id` marks a finding that the detector does not know, so that it can be taught.
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

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ReviewError(f"verdict '{self.verdict}' on {self.finding}: expected one of {', '.join(VERDICTS)}")
        if not self.bundle_id and not _may_be_a_finding(self.finding):
            raise ReviewError(
                f"'{self.finding[: LONGEST_FINDING + 10]}' is no name for a finding; expected 1 to {LONGEST_FINDING} "
                f"letters, digits, spaces, - and _, and none of {', '.join(NO_FINDINGS)}"
            )
        if self.relabel not in (None, 0, 1) or (self.relabel is not None and self.verdict == "unsure"):
            raise ReviewError(
                f"label {self.relabel} on {self.finding} beside '{self.verdict}': expected 0 or 1, and none when unsure"
            )
        if len(self.note) > LONGEST_NOTE:
            raise ReviewError(f"the note has {len(self.note):,} characters; shorten it to {LONGEST_NOTE:,}")
        if "\0" in self.note or any("\ud800" <= letter <= "\udfff" for letter in self.note):
            raise ReviewError("the note holds characters that are no text; remove them")
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise ReviewError(f"{self.seconds} seconds on {self.finding}; expected 0 or more")


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

    def __post_init__(self) -> None:
        """Nothing is checked: it was when it was stored, and what was changed since is for `verify` to find."""

    @property
    def label(self) -> int | None:
        """1, 0, or None where it says nothing."""
        return None if self.bad_image else label(self.verdict, self.decision, self.relabel)


def _may_be_a_finding(name: str) -> bool:
    """Whether a column of a labels file, and a part of a folder's name, can be called so."""
    letters = name.replace("_", "").replace("-", "").replace(" ", "")
    return letters.isalnum() and len(name) <= LONGEST_FINDING and name == name.strip() and name not in NO_FINDINGS


def label(verdict: str, decision: str, relabel: int | None) -> int | None:
    """What a verdict on a decision means: 1 there, 0 not there, None unknown."""
    if verdict not in ("agree", "disagree") or relabel is not None:
        return relabel
    positive = {"positive": 1, "negative": 0}.get(decision)
    return positive if positive is None or verdict == "agree" else 1 - positive
