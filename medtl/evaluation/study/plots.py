"""The study's pictures. Starts are told apart by colour and marker; the page's legend has their names."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from medtl.evaluation.intervals import Estimate
from medtl.evaluation.plots import STYLE, svg
from medtl.evaluation.study.results import Point

# Okabe & Ito's colours, the base in grey.
COLORS = ("#6b7682", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
APART = 1.035
"""Points of different starts stand side by side: on a logarithmic axis, by this factor."""

Curves = Mapping[str, Sequence[Point]]


def look(index: int) -> tuple[str, str]:
    """Colour and marker of a start; the base is number 0."""
    return COLORS[index % len(COLORS)], MARKERS[(index + index // len(COLORS)) % len(MARKERS)]


def label_efficiency(curves: Curves, name: str, *, finding: str | None = None) -> Markup:
    """AUROC against the number of labels, with 95 % intervals; of one finding, or the mean with its draws as dots."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2) if finding is None else (4.5, 3.4), layout="constrained")
        axes = figure.subplots()
        middle = (len(curves) - 1) / 2
        for index, points in enumerate(curves.values()):
            color, marker = look(index)
            estimates = [each.auroc if finding is None else each.findings[finding] for each in points]
            x = np.array([each.n_labels for each in points]) * APART ** (index - middle)
            value, low, high = (
                np.array([getattr(each, part) for each in estimates]) for part in Estimate.__match_args__
            )
            if finding is None:
                for at, point in zip(x, points, strict=True):
                    axes.plot(np.full(len(point.draws), at), point.draws, ".", color=color, alpha=0.4, markersize=5)
            reach = np.maximum(0, [value - low, high - value])
            axes.errorbar(
                x, value, yerr=reach, color=color, fmt=f"{marker}-", markersize=6, elinewidth=1.3, capsize=3,
                zorder=3 + index,
            )  # fmt: skip
        labels = sorted({point.n_labels for points in curves.values() for point in points})
        axes.set_xscale("log")
        axes.set(xlim=(labels[0] / 1.25, labels[-1] * 1.25), xlabel="Labeled scans to learn from", ylabel="AUROC")
        axes.set_xticks(labels, [f"{each:,.0f}" for each in labels])
        axes.xaxis.set_minor_locator(NullLocator())
        return svg(figure, name)


def convergence(curves: Mapping[str, Point], name: str) -> Markup:
    """AUROC while fine-tuning goes on: against steps, and against minutes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.5), layout="constrained")
        steps, minutes = figure.subplots(1, 2, sharey=True)
        for index, point in enumerate(curves.values()):
            color, marker = look(index)
            aurocs = [each.aurocs[0] for each in point.curve]
            style = {"color": color, "marker": marker, "markersize": 4.5}
            steps.plot([each.step for each in point.curve], aurocs, **style)
            minutes.plot([each.minutes for each in point.curve], aurocs, **style)
        first = min((point.curve[1].step for point in curves.values() if len(point.curve) > 1), default=1)
        steps.set_xscale("symlog", linthresh=max(1, first), linscale=0.5)
        steps.set(xlabel="Steps of fine-tuning", ylabel="AUROC", xlim=(-0.15 * first, None))
        _plain_ticks(steps, last=max(point.curve[-1].step for point in curves.values()), first=first)
        minutes.set(xlabel="Minutes of fine-tuning", xlim=(0, None))
        return svg(figure, name)


def _plain_ticks(axes: Axes, *, first: int, last: int) -> None:
    """0, and doublings up to the last step, as numbers that people read."""
    ticks = [0, *np.unique(np.geomspace(max(1, first), last, 5).round().astype(int)).tolist()]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
