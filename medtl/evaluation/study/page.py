"""The study as one HTML file that asks nothing of the network."""

import math
from typing import Any

from medtl import __version__
from medtl.evaluation.intervals import RESAMPLES, Estimate
from medtl.evaluation.page import environment
from medtl.evaluation.study import plots
from medtl.evaluation.study.answers import answers
from medtl.evaluation.study.results import StudyReport
from medtl.evaluation.study.words import SHOWN, UNCLEAR, WORSE, called, saving_words, tag
from medtl.progress import clock

TONES = {SHOWN: "up", UNCLEAR: "even", WORSE: "down"}


def render_page(report: StudyReport) -> str:
    """The HTML of a study: pictures inline, no script, every name escaped."""
    study = report.measured
    names = list(dict.fromkeys(each.start for each in report.points))
    curves = {name: report.points_of(name) for name in names}
    pages = environment()
    pages.filters |= {
        "called": called,
        "signed": signed,
        "saving": saving_words,
        "tag": tag,
        "tone": lambda verdict: TONES[verdict],
        "minutes": minutes,
    }
    reach = max([0.01, *(abs(x) for each in report.gains for x in _finite(each.auroc))])
    by_name = {each.name: each for each in study.starts}
    return pages.get_template("study.html").render(
        report=report,
        study=study,
        answers=answers(report),
        legend=[{"name": name, "color": plots.look(i)[0], "mark": "●■▲◆▼✚✖"[i % 7]} for i, name in enumerate(names)],
        efficiency=plots.label_efficiency(curves, "all"),
        convergence=[
            {
                "labels": labels,
                "n_labels": report.points_of(report.base)[i].n_labels,
                "picture": plots.convergence({name: points[i] for name, points in curves.items()}, f"c{i}"),
            }
            for i, labels in enumerate(study.labels)
        ],
        findings=[
            {
                "name": finding,
                "picture": plots.label_efficiency(curves, f"f{i}", finding=finding),
                "gains": [(each, each.findings[finding]) for each in report.over_base],
            }
            for i, finding in enumerate(study.findings if len(study.findings) > 1 else ())
        ],
        bar=lambda estimate: _bar(estimate, reach),
        reach=reach,
        costs=[{"start": by_name[name], "points": curves[name], "total": _total(curves[name])} for name in names],
        others=[each for each in report.gains if each.against != report.base],
        n_patients=len(set(study.patients.tolist())),
        resamples=RESAMPLES,
        version=__version__,
    )


def signed(estimate: Estimate) -> str:
    """A difference with its sign, three decimals."""
    return f"{estimate.value:+.3f}".replace("-", "−") if math.isfinite(estimate.value) else "–"


def minutes(value: float | None) -> str:
    """A time as people read it."""
    return "not known" if value is None else clock(60 * value)


def _bar(estimate: Estimate, reach: float) -> dict[str, float] | None:
    """Places of an interval and its middle on a scale from -reach to reach, in percent."""
    if not math.isfinite(estimate.low):
        return None
    low, value, high = (50 + 50 * x / reach for x in (estimate.low, estimate.value, estimate.high))
    return {"left": low, "width": high - low, "value": value}


def _finite(estimate: Estimate) -> list[float]:
    return [x for x in (estimate.value, estimate.low, estimate.high) if math.isfinite(x)]


def _total(points: Any) -> float:
    return float(sum(each.minutes * len(each.draws) for each in points))
