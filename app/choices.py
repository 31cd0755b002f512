"""From what a reader chose on the page to verdicts for the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.panels import plain
from medtl.errors import ReviewError
from medtl.review.marks import name_of
from medtl.review.records import UNASKED, VERDICTS, Case, Region, StoredVerdict, Verdict, label

TRUTH = ("present", "absent", "unsure")
"""What is asked where there is no answer to agree with: it is hidden, the detector is uncertain, or a lead decides."""
_LABELS = {"present": 1, "absent": 0}


def offered(decision: str, *, beside_the_answer: bool) -> tuple[str, ...]:
    """The choices on one finding."""
    return VERDICTS if beside_the_answer and decision in ("positive", "negative") else TRUTH


def verdict_on(choice: str, decision: str) -> tuple[str, int | None]:
    """A choice as the store keeps it: a verdict on the decision, and the label where it was said outright."""
    if choice not in _LABELS:
        return choice, None
    relabel = _LABELS[choice]
    agrees = relabel == {"positive": 1, "negative": 0}.get(decision)
    return ("agree" if agrees else "disagree"), relabel


def label_of(choice: str, decision: str) -> int | None:
    """What a choice beside a decision means: 1 there, 0 not there, None unknown."""
    verdict, relabel = verdict_on(choice, decision)
    return label(verdict, decision, relabel)


def choice_of(said: StoredVerdict, choices: Sequence[str]) -> str | None:
    """Which of the offered choices a stored verdict was, or comes to."""
    if said.bad_image:
        return None
    if said.verdict in choices and (said.verdict == "unsure" or choices == VERDICTS):
        return said.verdict
    return {1: "present", 0: "absent"}.get(said.label) if said.label is not None else None


def region_of(text: str) -> Region | None:
    """The box that the viewer's hidden field holds; None where nothing is marked.

    Args:
        text: "x0,y0,x1,y1" in pixels of the image, or "x0,y0,x1,y1,Axial,41" in pixels of that slice, counted from 0;
            after it "@1", the place of the finding that it was marked for, which `place_of` reads.

    Raises:
        ReviewError: it is no box.
    """
    if not text.strip():
        return None
    numbers = text.partition("@")[0].split(",")
    corners, cut = numbers[:4], numbers[4:]
    try:
        x0, y0, x1, y1 = map(float, corners)
        plane, index = (cut[0], int(cut[1])) if cut else (None, None)
        if len(cut) not in (0, 2) or not (x0 < x1 and y0 < y1):
            raise ValueError
    except (ValueError, IndexError):
        raise ReviewError(f"the marked region '{text[:80]}' is none; mark it again") from None
    return Region(kind="box", points=((x0, y0), (x1, y1)), plane=plane, slice_index=index)


def place_of(text: str) -> int:
    """The place among the findings of the one that a region was marked for.

    Raises:
        ReviewError: the text names none.
    """
    place = text.partition("@")[2]
    if not place.isdecimal():
        raise ReviewError(f"the marked region '{text[:80]}' belongs to no finding; mark it again")
    return int(place)


def text_of(box: Region, place: int) -> str:
    """What `region_of` and `place_of` read."""
    cut = [] if box.plane is None else [box.plane, str(box.slice_index)]
    return ",".join([*(str(at) for point in box.points for at in point), *cut]) + f"@{place}"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What stands on the page when a reader saves.

    Args:
        said: by finding, one of `offered`, or None.
        instead: a finding that is there instead of one he disagreed with; may be empty.
        bad_image: the scan is too poor to judge.
        note: about the whole case.
        region: where the finding `looked_at` is, the one that it was marked for.
        to_teach, marked: a finding that the detector does not know, and one of `TRUTH` about it, or None.
    """

    said: Mapping[str, str | None]
    instead: str = ""
    bad_image: bool = False
    note: str = ""
    region: Region | None = None
    looked_at: str = ""
    to_teach: str = ""
    marked: str | None = None

    def verdicts(self, case: Case, *, blind: bool, decides: bool, seconds: float) -> list[Verdict]:
        """The verdicts on a case, in the order of its findings.

        Args:
            blind: the detector's answer is hidden still; every finding needs a choice, for it is shown next.
            decides: a lead decides between readers.
            seconds: since the case was opened.

        Raises:
            ReviewError: nothing was chosen, or what was chosen contradicts itself.
        """
        said = self._complete(case)
        missing = [score.finding for score in case.scores if score.finding not in said]
        if blind and missing:
            raise ReviewError(
                f"say present, absent or unsure on every finding first; {', '.join(map(plain, missing))} not yet"
            )
        if not said and not self.marked:
            raise ReviewError("choose for at least one finding first, or mark the image as bad")
        if self.region is not None and self.looked_at not in said:
            raise ReviewError(f"a region is marked for {plain(self.looked_at)}; say whether it is there, or clear it")
        found = []
        for score in case.scores:
            if score.finding in said:
                verdict, relabel = verdict_on(said[score.finding], score.decision)
                region = self.region if score.finding == self.looked_at else None
                if region is not None and label(verdict, score.decision, relabel) == 0:
                    raise ReviewError(
                        f"a region is marked for {plain(score.finding)}, which you say is absent; clear the region, "
                        "or mark it anew with another finding chosen"
                    )
                found.append(
                    Verdict(
                        case_id=case.id,
                        bundle_id=case.bundle_id,
                        finding=score.finding,
                        verdict=verdict,
                        relabel=relabel,
                        region=region,
                        note=self.note.strip(),
                        bad_image=self.bad_image,
                        verdict_first=blind,
                        adjudicates=decides,
                        seconds=round(seconds, 1),
                    )
                )
        return found + self._mark(case, decides=decides, seconds=seconds)

    def _mark(self, case: Case, *, decides: bool, seconds: float) -> list[Verdict]:
        """What was said about a finding that is to be taught."""
        if not self.marked:
            return []
        finding = name_of(self.to_teach)
        if not finding:
            raise ReviewError(
                f"{self.marked} is chosen for a finding to be taught; say which, or choose it from the list"
            )
        verdict, relabel = verdict_on(self.marked, UNASKED)
        return [
            Verdict(
                case_id=case.id,
                bundle_id="",
                finding=finding,
                verdict=verdict,
                relabel=relabel,
                bad_image=self.bad_image,
                adjudicates=decides,
                seconds=round(seconds, 1),
            )
        ]

    def _complete(self, case: Case) -> dict[str, str]:
        """The choices, with what "instead" and "bad image" say about the other findings."""
        said = {finding: choice for finding, choice in self.said.items() if choice}
        if self.instead:
            decision = {score.finding: score.decision for score in case.scores}[self.instead]
            spoken = said.get(self.instead)
            if spoken is not None and label_of(spoken, decision) != 1:
                raise ReviewError(
                    f"{plain(self.instead)} is chosen as what it is instead, but is not confirmed above; change one"
                )
            said.setdefault(self.instead, "present")
        if self.bad_image:
            said = {score.finding: said.get(score.finding, "unsure") for score in case.scores}
        return said
