"""What a study says first of each start: whether it is worth anything over what it went on from."""

from collections.abc import Sequence
from dataclasses import dataclass

from medtl.evaluation.study.results import Gain, StudyReport
from medtl.evaluation.study.words import SHOWN, UNCLEAR, WORSE, called

IMAGENET = "imagenet"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of one start.

    Args:
        against: ImageNet where the start went on from it and it is among the starts; else the base.
        gains: over that, fewest labels first.
        included: gains over the base, which hold what ImageNet brings; none where `against` is the base.
        note: what else must be known, or nothing.
    """

    start: str
    against: str
    gains: Sequence[Gain]
    included: Sequence[Gain] = ()
    note: str = ""

    @property
    def verdict(self) -> str:
        """With any number of labels better, else with any worse, else not shown."""
        found = {each.verdict for each in self.gains}
        return next(each for each in (SHOWN, WORSE, UNCLEAR) if each in found)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it, what matters first."""
        brought = f"With what {called(self.against)} brings: "
        included = (brought + each.sentence for each in self.included)
        return (*(each.sentence for each in self.gains), *included, *([self.note] if self.note else []))


def answers(report: StudyReport) -> tuple[Answer, ...]:
    """An answer for each start but the base."""
    names = dict.fromkeys(each.start for each in report.over_base)
    return tuple(_answer(report, name) for name in names)


def _answer(report: StudyReport, name: str) -> Answer:
    starts = {each.name: each for each in report.measured.starts}
    over_base = [each for each in report.over_base if each.start == name]
    if not starts[name].went_on_from_imagenet or report.base == IMAGENET:
        return Answer(start=name, against=report.base, gains=over_base)
    if IMAGENET not in starts:
        note = (
            f"{name} went on from ImageNet, which is not among the starts: how much of this is ImageNet's cannot be "
            "told. Add imagenet to --starts."
        )
        return Answer(start=name, against=report.base, gains=over_base, note=note)
    gains = [each for each in report.gains if (each.start, each.against) == (name, IMAGENET)]
    return Answer(start=name, against=IMAGENET, gains=gains, included=over_base)
