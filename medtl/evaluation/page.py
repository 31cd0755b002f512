"""The report as one HTML file that asks nothing of the network."""

import math
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medtl import __version__
from medtl.evaluation import plots
from medtl.evaluation.intervals import RESAMPLES, Estimate
from medtl.evaluation.results import FindingResult, MulticlassResult, Report

OTHER_PREVALENCES = (0.01, 0.05, 0.20)


def render_page(report: Report) -> str:
    """The HTML of a report: pictures inline, no script, every name escaped."""
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            sections=[_section(result, f"f{i}") for i, result in enumerate(report.findings)],
            confusion=_confusion(report.multiclass) if report.multiclass else None,
            resamples=RESAMPLES,
            version=__version__,
        )
    )


def environment(*packages: str) -> Environment:
    """Templates whose every name is escaped, with the filters for numbers.

    Args:
        packages: where templates are besides those of this room.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in ("medtl.evaluation", *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "score": score,
        "percent": percent,
        "between": between,
        "number": number,
        "threshold": plots.threshold_text,
        "count": lambda n: f"{n:,}",
    }
    return found


def score(estimate: Estimate) -> Markup:
    """A number from 0 to 1 with its interval, three decimals."""
    return _with_interval(estimate, lambda value: f"{value:.3f}")


def percent(estimate: Estimate) -> Markup:
    """A share with its interval, whole percent."""
    return _with_interval(estimate, lambda value: f"{100 * value:.0f}", unit=" %")


def between(estimate: Estimate) -> str:
    """The interval of a share in a sentence, whole percent."""
    if not math.isfinite(estimate.low):
        return "no interval"
    if estimate.low == estimate.high:
        return "the interval has no width: see the note above"
    return f"95 % interval {100 * estimate.low:.0f} to {100 * estimate.high:.0f}"


def number(value: float) -> str:
    """Three decimals, or a dash for what cannot be computed."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _with_interval(estimate: Estimate, show: Any, unit: str = "") -> Markup:
    if not math.isfinite(estimate.value):
        return Markup('<span class="none" title="cannot be computed">–</span>')
    interval = f"{show(estimate.low)}–{show(estimate.high)}" if math.isfinite(estimate.low) else "no interval"
    if estimate.low == estimate.high:
        interval = "no width"
    return Markup('<b>{}{}</b> <span class="ci">{}</span>').format(show(estimate.value), unit, interval)


def _section(result: FindingResult, name: str) -> dict[str, Any]:
    drawn = len(result.y) > 0
    both = result.n_positive > 0 and result.n_negative > 0
    sensitivity, specificity = result.intervals.sensitivity.value, result.intervals.specificity
    return {
        "anchor": name,
        "result": result,
        "roc": plots.roc(result, f"{name}-roc") if both else None,
        "precision_recall": plots.precision_recall(result, f"{name}-pr") if both else None,
        "calibration": plots.calibration(result, f"{name}-cal") if drawn else None,
        "histogram": plots.histogram(result, f"{name}-hist") if drawn else None,
        "prevalence": result.n_positive / len(result.y) if drawn else math.nan,
        "false_alarms": Estimate(1 - specificity.value, 1 - specificity.high, 1 - specificity.low),
        "elsewhere": [elsewhere(sensitivity, specificity.value, rate) for rate in OTHER_PREVALENCES] if both else [],
    }


def elsewhere(sensitivity: float, specificity: float, prevalence: float) -> dict[str, float]:
    """Predictive values where the finding is rarer or commoner than among the scans of this report (Bayes' rule)."""
    hits, misses = prevalence * sensitivity, prevalence * (1 - sensitivity)
    passed, alarms = (1 - prevalence) * specificity, (1 - prevalence) * (1 - specificity)
    return {
        "prevalence": prevalence,
        "flagged": hits + alarms,
        "ppv": hits / (hits + alarms) if hits + alarms else math.nan,
        "npv": passed / (passed + misses) if passed + misses else math.nan,
    }


def _confusion(multiclass: MulticlassResult) -> list[dict[str, Any]]:
    """Rows of the table of classes: the count and its share of the true class, which shades the cell."""
    rows = []
    for i, (name, counts) in enumerate(zip(multiclass.classes, multiclass.confusion, strict=True)):
        total = int(counts.sum())
        cells = [
            {"count": int(n), "share": float(n) / total if total else 0.0, "right": i == j}
            for j, n in enumerate(counts)
        ]
        rows.append({"name": name, "total": total, "cells": cells})
    return rows
