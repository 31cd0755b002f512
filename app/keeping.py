"""Verdicts into the store: the first ones of a showing, and corrections of them before the next case is drawn."""

import time
import uuid

from app.choices import Choices
from app.panels import plain
from app.reading import Reading, Saved
from medtl.errors import ReviewError
from medtl.review import cases, verdicts
from medtl.review.store import ReviewStore
from medtl.review.users import User


def keep(
    store: ReviewStore, reading: Reading, choices: Choices, *, by: User, before: Saved | None
) -> tuple[Saved, str] | None:
    """Store what was chosen on a case.

    Args:
        before: what was saved of this showing already; others are chosen now, and correct it.

    Returns:
        What can be taken back, and in words its numbers and what was passed over; None where all of it was said already
        and stands.

    Raises:
        ReviewError: nothing was stored; the message says why.
    """
    if reading.scan is None:
        raise ReviewError("the scan cannot be shown, and a verdict needs it; skip this case")
    if before is not None and reading.blind:
        raise ReviewError("what you said first is kept, and the answer is shown next; correct it then")
    said = choices.verdicts(
        reading.stored, blind=reading.blind, decides=reading.decides, seconds=time.monotonic() - reading.began
    )
    findings = {each.finding for each in said}
    stands = reading.own()
    if before is not None:
        rows = verdicts.unsuperseded(verdicts.of_case(store, before.case_id, by=by))
        stands = [row for row in rows if row.reader == by.name and row.adjudicates == reading.decides]
    asked = {score.finding for score in reading.stored.scores}
    if left := [row.finding for row in stands if row.finding in asked - findings]:
        names = ", ".join(map(plain, left))
        raise ReviewError(f"what you said before about {names} would stand unseen; choose there too, or unsure")
    if before is None:
        if reading.shown_after and reading.repeats(said):
            return None
        token = reading.token
    else:
        cases.claim(store, before.case_id, by=by)  # saving let go of it
        token = uuid.uuid4().hex
    # A mark of a finding to be taught is no reading: what the detector said was not looked at.
    ids = verdicts.save(store, said, by=by, token=token, done=any(each.bundle_id for each in said))
    others = (
        [] if before is None else [row.id for row in stands if row.id in before.ids and row.finding not in findings]
    )
    saved = Saved(case_id=reading.stored.id, token=reading.token, ids=(*others, *ids), choices=choices)
    numbers = f"verdict {ids[0]}" if len(ids) == 1 else f"verdicts {ids[0]} to {ids[-1]}"
    return saved, f"({numbers}){_unsaid(reading, choices, findings)}"


def _unsaid(reading: Reading, choices: Choices, findings: set[str]) -> str:
    """What the detector flags and the reader passed over: a case is read by what was said of any finding."""
    if reading.blind or reading.decides or choices.bad_image:
        return ""
    scores = reading.stored.scores
    names = [plain(score.finding) for score in scores if score.decision == "positive" and score.finding not in findings]
    return f"; nothing was said of {', '.join(names)}, which the detector flags" if names else ""
