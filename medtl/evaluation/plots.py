"""The report's pictures: one finding, as SVG for an HTML page."""

import io
import re

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from medtl.evaluation.calibration import reliability
from medtl.evaluation.intervals import ROC_GRID
from medtl.evaluation.results import FindingResult

# Okabe & Ito's colours, which people with a colour-vision deficiency can tell apart.
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8a94a0", "#1c2733"
SIZE_IN = (4.5, 3.7)
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be selected, read aloud, and takes the page's font
    "svg.hashsalt": "medtl",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b6bec7",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "xtick.color": "#56616d",
    "ytick.color": "#56616d",
    "font.size": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
}


def roc(result: FindingResult, name: str) -> Markup:
    """ROC curve with its 95 % band and the operating point with its intervals."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _square("False-positive rate (1 − specificity)", "Sensitivity")
        found = result.intervals
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="Chance")
        axes.fill_between(
            ROC_GRID, found.roc_low, found.roc_high, color=BLUE, alpha=0.16, linewidth=0, label="95 % band"
        )
        rates = roc_curve(result.y, result.p)
        axes.plot(rates[0], rates[1], color=BLUE, label=f"ROC, area {found.auroc.value:.3f}")
        sensitivity, specificity = found.sensitivity, found.specificity
        axes.errorbar(
            1 - specificity.value,
            sensitivity.value,
            xerr=[[specificity.high - specificity.value], [specificity.value - specificity.low]],
            yerr=[[sensitivity.value - sensitivity.low], [sensitivity.high - sensitivity.value]],
            fmt="o",
            color=ORANGE,
            markersize=6,
            elinewidth=1.2,
            zorder=5,
            clip_on=False,
            label="Operating point",
        )
        axes.legend(loc="lower right")
        return svg(figure, name)


def precision_recall(result: FindingResult, name: str) -> Markup:
    """Precision-recall curve, against the precision of flagging blindly."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _square("Sensitivity (recall)", "Precision (PPV)")
        prevalence = result.n_positive / len(result.y)
        axes.axhline(
            prevalence, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"Flagging blindly, {prevalence:.2f}"
        )
        precision, recall, _ = precision_recall_curve(result.y, result.p, drop_intermediate=True)
        area = result.intervals.ap.value
        axes.plot(recall, precision, color=BLUE, drawstyle="steps-post", label=f"Curve, average precision {area:.3f}")
        if result.n_flagged:
            sensitivity, ppv = result.intervals.sensitivity.value, result.intervals.ppv.value
            axes.plot(
                sensitivity, ppv, "o", color=ORANGE, markersize=6, zorder=5, clip_on=False, label="Operating point"
            )
        axes.legend(loc="lower left")
        return svg(figure, name)


def calibration(result: FindingResult, name: str) -> Markup:
    """Observed rate against mean probability per bin, over the number of scans in each bin."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes, counts = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
        bins = reliability(result.y, result.p)
        predicted = np.array([each.mean_predicted for each in bins])
        observed = np.array([each.observed for each in bins])
        # Rounding may put a Wilson bound a hair inside the rate; matplotlib refuses negative lengths.
        below = np.maximum(0, observed - [each.low for each in bins])
        above = np.maximum(0, [each.high for each in bins] - observed)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="Perfect calibration")
        axes.errorbar(
            predicted,
            observed,
            yerr=[below, above],
            fmt="o-",
            color=BLUE,
            markersize=5,
            linewidth=1,
            elinewidth=1.2,
            clip_on=False,
            label="Observed, 95 % interval",
        )
        axes.set(ylim=(-0.02, 1.02), ylabel="Share with the finding")
        _legend_above(axes)
        heights = [each.count for each in bins]
        counts.bar(predicted, heights, width=0.04, color=BLUE, alpha=0.45)
        for x, height in zip(predicted, heights, strict=True):
            counts.annotate(f"{height:,}", (x, height), (0, 2), textcoords="offset points", ha="center", fontsize=7.5)
        counts.set(xlim=(-0.03, 1.03), ylim=(0, max(heights) * 1.35), xlabel="Predicted probability", ylabel="Scans")
        counts.locator_params(axis="y", nbins=2)
        counts.grid(axis="x", visible=False)
        return svg(figure, name)


def histogram(result: FindingResult, name: str) -> Markup:
    """How the scores of both classes lie on either side of the threshold; each class sums to 100 %."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.subplots()
        edges = np.linspace(0, 1, 26).tolist()
        for value, color, word in ((0, BLUE, "Without"), (1, ORANGE, "With")):
            scores = result.p[result.y == value]
            if len(scores):
                share = np.full(len(scores), 100 / len(scores))
                label = f"{word} the finding ({len(scores):,})"
                axes.hist(scores, edges, weights=share, color=color, alpha=0.3, linewidth=0)
                axes.hist(scores, edges, weights=share, color=color, histtype="step", linewidth=1.4, label=label)
        axes.axvline(
            result.threshold, color=INK, linewidth=1.2, label=f"Operating point {threshold_text(result.threshold)}"
        )
        axes.set(xlim=(-0.01, 1.01), xlabel="Predicted probability", ylabel="Share of the class (%)")
        _legend_above(axes)
        return svg(figure, name)


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y)
    return figure, axes


def _legend_above(axes: Axes) -> None:
    """Where bars and points may be anywhere, a legend inside would cover some."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.3, columnspacing=1.2)


def threshold_text(value: float) -> str:
    """Three decimals, and for a small threshold as many as it takes not to read as 0."""
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


def svg(figure: Figure, name: str) -> Markup:
    """The figure as an `<svg>` element; `name` keeps its ids apart from those of the page's other figures.

    Nothing that a user named goes into a figure: matplotlib would read a `$` in it as mathematics.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
    text = text[text.index("<svg") :]
    return Markup(re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text))
