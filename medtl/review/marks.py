"""Findings that the detector does not know, marked by readers until there are enough scans to teach them.

A mark is a verdict like any other, in the same chain, with an empty `bundle_id` (`records.UNASKED`). Verdicts on
findings of an earlier bundle, which the one at work does not know, count as well.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from medtl.review.export import FEWEST, settled
from medtl.review.records import StoredVerdict
from medtl.review.schema import VERDICTS
from medtl.review.store import ReviewStore
from medtl.review.verdicts import stored, unsuperseded

RECOMMENDED = (10, 50)
"""Labeled scans between which an instant head is at its best."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finding that could be taught.

    Args:
        finding: its name.
        present, absent: cases that are settled so.
        undecided: cases about which nobody is sure, or as many are for as against; nothing is taught from them.
    """

    finding: str
    present: int
    absent: int
    undecided: int

    @property
    def missing(self) -> tuple[int, int]:
        """How many more cases with it, and without it, are needed at least."""
        return max(0, FEWEST - self.present), max(0, FEWEST - self.absent)


def name_of(text: str) -> str:
    """A finding's name as a column is called, from what somebody typed: "Rib  fracture" is `rib_fracture`."""
    return "_".join(text.lower().split())


def names(store: ReviewStore) -> list[str]:
    """Findings that somebody has marked, in alphabetical order."""
    with store.reading() as connection:
        rows = connection.execute(select(VERDICTS).where(VERDICTS.c.bundle_id == "").order_by(VERDICTS.c.id))
        return sorted({row.finding for row in unsuperseded(stored(rows.mappings()))})


def candidates(standing: Sequence[StoredVerdict], known: Collection[str]) -> list[Candidate]:
    """What could be taught to a detector that knows these findings; the best prepared first."""
    labels: dict[str, list[int | None]] = {}
    for (_, finding), label in settled(standing).items():
        if finding not in known:
            labels.setdefault(finding, []).append(label)
    found = [
        Candidate(finding=name, present=said.count(1), absent=said.count(0), undecided=said.count(None))
        for name, said in labels.items()
    ]
    return sorted(found, key=lambda each: (sum(each.missing), -min(each.present, each.absent), each.finding))


def examples(standing: Sequence[StoredVerdict], finding: str) -> dict[int, int]:
    """The cases that are settled on a finding: 1 present, 0 absent."""
    of_it = [row for row in standing if row.finding == finding]
    case_of = {row.scan_id: row.case_id for row in of_it}
    return {case_of[scan]: label for (scan, _), label in settled(of_it).items() if label is not None}
