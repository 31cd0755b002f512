"""One reader's reading of one case: what he may see of it, and how his verdict counts."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.case import Case
from app.choices import Choices
from app.desk import Sheet
from app.panels import plain
from medtl.errors import ScanError
from medtl.review import records
from medtl.review.records import Region, StoredVerdict, Verdict
from medtl.review.users import User
from medtl.review.verdicts import unsuperseded


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A case as it lies before a reader.

    Args:
        stored: the case.
        scan: its pixels; None where they cannot be shown.
        problem: why they cannot.
        by: who opened it.
        blind: the detector's answer is hidden until he has spoken.
        said: of a lead who decides, what the readers said; else what he himself had said.
        decides: he is a lead who decides between readers.
        token: tells this showing from every other one; his verdict is saved under it once.
        began: a moment of the monotonic clock.
        shown_after: he spoke first, and sees the answer now.
    """

    stored: records.Case
    scan: Case | None = None
    problem: ScanError | None = None
    by: User
    blind: bool = False
    said: tuple[StoredVerdict, ...] = ()
    decides: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.monotonic)
    shown_after: bool = False

    def looked_at(self) -> str:
        """The finding to look at first; while the answer is hidden it must not follow from it."""
        findings = [score.finding for score in self.stored.scores]
        return findings[0] if self.blind or self.scan is None else self.scan.leading()

    def marked(self, kept: Choices | None) -> tuple[str, Region] | None:
        """The finding that this reader had marked a box for, and the box; of several the one to look at first.

        Args:
            kept: choices that he took back, which count instead of what he had said.
        """
        if kept is not None:
            return None if kept.region is None else (kept.looked_at, kept.region)
        own = {row.finding: row.region for row in self.said
               if row.reader == self.by.name and row.region is not None and row.region.kind == "box"}  # fmt: skip
        first = self.looked_at()
        return next(((name, own[name]) for name in (first, *own) if name in own), None)

    def after_speaking(self, said: Sequence[StoredVerdict]) -> "Reading":
        """The same case with the detector's answer; a correction is a new act of saving."""
        scan = None if self.scan is None else replace(self.scan, hidden=False, at=[])
        return replace(self, scan=scan, blind=False, shown_after=True, said=tuple(said), token=uuid.uuid4().hex)

    def own(self) -> list[StoredVerdict]:
        """What this reader had said himself."""
        return [row for row in self.said if row.reader == self.by.name]

    def repeats(self, verdicts: Sequence[Verdict]) -> bool:
        """Whether all of these were said already and stand."""
        stand = {(row.finding, row.verdict, row.relabel, row.bad_image, row.note, row.region) for row in self.said}
        return {(v.finding, v.verdict, v.relabel, v.bad_image, v.note, v.region) for v in verdicts} <= stand


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was saved of one showing and can be taken back; `token` is the showing's."""

    case_id: int
    token: str
    ids: tuple[int, ...]
    choices: Choices


def begin(sheet: Sheet, rows: Sequence[StoredVerdict], *, by: User, verdict_first: bool) -> Reading:
    """A reading of an opened case.

    Args:
        rows: the verdicts on the case that this user may see, superseded ones too.
        verdict_first: the detector's answer is hidden from who has not spoken about the case.
    """
    standing = unsuperseded(rows)
    mine = [row for row in standing if row.reader == by.name and not row.adjudicates]
    # Who opens a case that a lead has decided may correct that.
    decides = by.leads and (sheet.stored.to_decide or any(row.adjudicates for row in standing))
    blind = verdict_first and not decides and not any(row.reader == by.name for row in rows)
    marked = [(f"{row.reader}: {plain(row.finding)}", row.region) for row in standing
              if decides and not row.adjudicates and row.region is not None]  # fmt: skip
    shown: dict[str, Any] = {"owner": by.name, "hidden": blind, "at": [], "marked": tuple(marked)}
    return Reading(
        stored=sheet.stored,
        scan=None if sheet.scan is None else replace(sheet.scan, **shown),
        problem=sheet.problem,
        by=by,
        blind=blind,
        said=tuple([row for row in standing if row.reader != by.name or row.adjudicates] if decides else mine),
        decides=decides,
    )
