"""From what a study measured to `study.json` and `study.html`."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from medtl.evaluation.caveats import data_caveats
from medtl.evaluation.intervals import Estimate
from medtl.evaluation.study.areas import Areas, difference, resampled_areas, scores_of
from medtl.evaluation.study.page import render_page
from medtl.evaluation.study.results import Fitted, Gain, Mark, Measured, Point, StudyReport
from medtl.evaluation.study.savings import label_saving
from medtl.evaluation.study.words import UNCLEAR, called, sentence, verdict
from medtl.files import atomic_file, write_json

MARKER = "study.json"
FEW_SCANS = 10
FEW_DRAWS = 3
FIRST = ("random", "imagenet")
"""What others are compared with, where they are among the starts."""


def build_report(measured: Measured) -> StudyReport:
    """Compare the starts."""
    names = [each.name for each in measured.starts]
    order = sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    base = order[0]
    fits = measured.fits
    areas = resampled_areas(
        measured.y,
        [scores_of(each.logits, exclusive=measured.exclusive) for each in fits.values()],
        measured.patients,
    )
    place = {key: i for i, key in enumerate(fits)}
    of = {
        (start, labels): areas.of([place[start, labels, seed] for seed in measured.seeds])
        for start in names
        for labels in measured.labels
    }
    points = tuple(_point(measured, start, labels, of[start, labels]) for start in order for labels in measured.labels)
    by = {(each.start, each.labels): each for each in points}
    gains = tuple(
        _gain(measured, by, of, start, against, labels)
        for against, start in combinations(order, 2)
        for labels in measured.labels
    )
    return StudyReport(
        measured=measured,
        base=base,
        points=points,
        gains=gains,
        fit_aurocs={key: _each(measured, areas.of([i])) for key, i in place.items()},
        caveats=tuple(_caveats(measured, comparisons=len(gains))),
    )


def write_report(report: StudyReport, folder: Path) -> None:
    """Write `study.html`, then `study.json`, in place of earlier ones."""
    with atomic_file(folder / "study.html") as temporary:
        temporary.write_text(render_page(report), encoding="utf-8")
    write_json(folder / MARKER, report.as_json())


def _point(measured: Measured, start: str, labels: str, areas: Areas) -> Point:
    fits = [measured.fits[start, labels, seed] for seed in measured.seeds]
    return Point(
        start=start,
        labels=labels,
        n_labels=float(np.mean([each.n_labels for each in fits])),
        auroc=areas.mean(),
        findings=_each(measured, areas),
        draws=tuple(float(each) for each in areas.points.mean(axis=1)),
        curve=_mean_curve(fits),
        strategies=_counted([each.strategy for each in fits]),
        steps=float(np.mean([each.steps for each in fits])),
        minutes=float(np.mean([each.minutes for each in fits])),
    )


def _mean_curve(fits: Sequence[Fitted]) -> tuple[Mark, ...]:
    """Mark by mark, and over the findings; a linear probe has its end only."""
    most = max(len(each.marks) for each in fits)
    return tuple(
        Mark(
            step=round(np.mean([mark.step for mark in marks])),
            minutes=float(np.mean([mark.minutes for mark in marks])),
            aurocs=(float(np.mean([mark.aurocs for mark in marks])),),
        )
        for marks in zip(*(each.marks for each in fits if len(each.marks) == most), strict=True)
    )


def _counted(names: Sequence[str]) -> str:
    """Such as `lp-ft`, or `lp-ft 3, linear 2`."""
    found = Counter(names).most_common()
    return names[0] if len(found) == 1 else ", ".join(f"{name} {count}" for name, count in found)


def _gain(
    measured: Measured,
    points: dict[tuple[str, str], Point],
    of: dict[tuple[str, str], Areas],
    start: str,
    against: str,
    labels: str,
) -> Gain:
    ours, base = of[start, labels], of[against, labels]
    point = points[start, labels]
    curve = [points[against, name] for name in measured.labels]
    gain = difference(ours, base)
    saving = None
    if verdict(gain) != UNCLEAR:
        saving = label_saving(
            point.n_labels,
            point.auroc.value,
            base_labels=[each.n_labels for each in curve],
            base=[each.auroc.value for each in curve],
        )
    detectors = range(len(measured.seeds))
    return Gain(
        start=start,
        against=against,
        labels=labels,
        n_labels=point.n_labels,
        auroc=gain,
        findings={
            name: difference(ours.of(detectors, f), base.of(detectors, f)) for f, name in enumerate(measured.findings)
        },
        wins=int((ours.points.mean(axis=1) > base.points.mean(axis=1)).sum()),
        draws=len(measured.seeds),
        saving=saving,
        sentence=sentence(gain, saving, start=start, against=against, n_labels=point.n_labels),
    )


def _each(measured: Measured, areas: Areas) -> dict[str, Estimate]:
    """The mean for each finding."""
    detectors = range(len(areas.points))
    return {name: areas.of(detectors, f).mean() for f, name in enumerate(measured.findings)}


def _cut_short(measured: Measured) -> list[str]:
    """Starts that were trained for fewer steps than they need."""
    usual = {
        start.name: max(each.usual_steps for each in measured.fits.values() if each.start == start.name)
        for start in measured.starts
    }
    short = [f"{called(name)} {steps:,}" for name, steps in usual.items() if steps]
    if not short:
        return []
    return [
        f"The settings ask for fewer steps than fine-tuning takes by default ({', '.join(short)}). A start that learns "
        "slowly, above all random weights, is made to look worse than it is: leave steps out of --set to compare "
        "starts as they would be used."
    ]


def _caveats(measured: Measured, *, comparisons: int) -> list[str]:
    found = [text for start in measured.starts for text in start.caveats]
    found += _cut_short(measured)
    found += [
        f"{name}: the test part has only {count} scan{'s' * (count != 1)} {kind} the finding; AUROCs are rough, and so "
        "are their intervals. Label more scans of the test part."
        for name, column in zip(measured.findings, measured.y.T, strict=True)
        for count, kind in ((int((column == 1).sum()), "with"), (int((column == 0).sum()), "without"))
        if count < FEW_SCANS
    ]
    draws = len(measured.seeds)
    if draws < FEW_DRAWS:
        found.append(
            f"Only {draws} draw{'s' * (draws != 1)} of labels. Which scans happen to be labeled matters as much as the "
            "start where labels are few: with other draws the result may turn. Use --seeds 5."
        )
    for labels in measured.labels:
        repeated = max(each.n_repeated for each in measured.fits.values() if each.labels == labels)
        if repeated:
            found.append(
                f"{labels}: up to {repeated} of the scans to learn from are of a patient of whom another was drawn, "
                "because there are not enough patients; they teach less than scans of other patients would."
            )
    if comparisons > 1:
        found.append(
            f"This page makes {comparisons} comparisons at 95 % each: about one in twenty intervals leaves out 0 by "
            "chance alone. A benefit that shows with one number of labels and not with its neighbours is doubtful."
        )
    return found + data_caveats([str(name) for name in measured.patients], missing=0)
