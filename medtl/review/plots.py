"""The pictures of the report on the reviews, as SVG. No name goes into them: matplotlib would read a `$` in it."""

from collections.abc import Sequence
from datetime import date

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medtl.evaluation.plots import BLUE, ORANGE, SIZE_IN, STYLE, svg
from medtl.review.figures import Drift, Week


def agreement(weeks: Sequence[Week], name: str) -> Markup:
    """Share of verdicts that confirm the detector, by week, with 95 % intervals."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _by_week([week.begin for week in weeks], "Share that agrees with the detector")
        value, low, high = np.array([(w.agreement.value, w.agreement.low, w.agreement.high) for w in weeks]).T
        # Rounding may put a bound a hair inside the share; matplotlib refuses negative lengths.
        lengths = np.maximum(0, [value - low, high - value])
        axes.errorbar(range(len(weeks)), value, yerr=lengths, fmt="o-", color=BLUE, linewidth=1, elinewidth=1.2)
        axes.set(ylim=(-0.02, 1.02))
        return svg(figure, name)


def drift(weeks: Sequence[Drift], name: str) -> Markup:
    """Median and quartiles of the probabilities, by week; the reference week is marked."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _by_week([week.begin for week in weeks], "Probability: median, quartiles")
        at = np.arange(len(weeks))
        low, middle, high = np.array([week.quartiles for week in weeks]).T
        axes.fill_between(at, low, high, color=BLUE, alpha=0.16, linewidth=0)
        axes.plot(at, middle, "o-", color=BLUE, linewidth=1)
        for i, week in enumerate(weeks):
            axes.errorbar(i, middle[i], yerr=[[middle[i] - low[i]], [high[i] - middle[i]]], color=BLUE, elinewidth=1)
            if week.reference:
                axes.axvline(i, color=ORANGE, linewidth=1, label="Reference week")
                axes.legend(loc="upper right")
        axes.set(ylim=(-0.02, 1.02))
        return svg(figure, name)


def _by_week(begins: Sequence[date], what: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.subplots()
    shown = np.unique(np.linspace(0, len(begins) - 1, min(6, len(begins))).round().astype(int)).tolist()
    axes.set_xticks(shown, [f"{begins[i]:%d %b %y}" for i in shown], rotation=30, ha="right")
    axes.set(xlim=(-0.5, len(begins) - 0.5), xlabel="Week from", ylabel=what)
    return figure, axes
