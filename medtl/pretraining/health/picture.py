"""`health.png`: the run at a glance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.files import atomic_file
from medtl.pretraining.health.neighbours import flat_map, nearest, queries_of
from medtl.pretraining.health.probe import LabeledSet
from medtl.pretraining.health.rules import OUTPUTS, Check, checks_of, sentence
from medtl.training.batches import Rows

QUERIES, NEIGHBOURS = 5, 4
PALETTE = ["#1f77b4", "#e4572e", "#2e9e5b", "#8b5fbf", "#c99700", "#5f6b6d"]
GREY = "#b0b7bd"
_SIDE, _GAP, _FRAME = 96, 6, 3
Thumbnails = Callable[[Rows], npt.NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The fixed sample of scans that the picture shows.

    Args:
        patients: (N,) a number for each patient.
        thumbnails: from places in the sample (B,) to pictures (B, S, S) or (B, S, S, 3).
        groups: (N,) what colours a scan: the name of its label, modality or scanner; empty where it has none.
        grouped_by: what that is; empty for nothing.
        start: (N, D) embeddings before training.
    """

    patients: Rows
    thumbnails: Thumbnails
    groups: list[str]
    grouped_by: str
    start: Tensor


def grouping(data: Dataset, sample: Rows, labeled: LabeledSet | None) -> dict[str, Any]:
    """What colours the scans of the sample: their label, else their modality or scanner where there are several."""
    if labeled:
        absent = f"no {labeled.findings[0]}" if len(labeled.findings) == 1 else "no finding"
        names = [""] * len(sample)
        for i, values in enumerate(labeled.everything[sample]):
            if not np.isnan(values).all():
                present = np.flatnonzero(values == 1)
                names[i] = labeled.findings[present[0]] if len(present) else absent
        return {"groups": names, "grouped_by": "label"}
    for column in ("modality", "manufacturer", "scanner"):
        values = data.manifest[column].to_numpy(dtype=object, na_value="")[sample]
        if len(set(values) - {""}) > 1:
            return {"groups": [str(value) for value in values], "grouped_by": column}
    return {"groups": [""] * len(sample), "grouped_by": ""}


def draw_health(
    path: Path,
    lines: Sequence[Check],
    scene: Scene,
    now: Tensor,
    *,
    title: str,
    method: str,
    steps: int,
    thorough: bool,
) -> None:
    """Draw the curves so far, and the sample as the network sees it now.

    Args:
        lines: of `metrics.jsonl`.
        now: (N, D) embeddings of the sample.
        title: what is being trained, and with which method.
        steps: planned.
        thorough: take the time for a better map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checks = checks_of(lines)
    probed = "knn_auroc" in checks[0]
    figure = Figure(figsize=(15, 9.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(sentence(checks, steps=steps, method=method), fontsize=15, fontweight="bold", x=0.01, ha="left")
    parts: Any = figure.subfigures(2, 1, height_ratios=[1, 1.7])
    top, bottom = parts
    axes = top.subplots(1, 4 if probed else 3)
    top.suptitle(f"{title}: step {checks[-1]['step']:,} of {steps:,}", fontsize=10, x=0.01, ha="left", color="#555555")
    trained = [line for line in lines if "loss" in line]
    _curves(
        axes[0], trained, "loss", "grad_norm", names=("loss", "gradient norm"), title="Loss (says little by itself)"
    )
    twin = _curves(
        axes[1], checks, "rankme", "spread", names=("RankMe", "spread"), title="Richness (RankMe 1, spread 0: collapse)"
    )
    outputs = [(line["step"], line[key]) for line in trained for key in line if key.split(".")[-1] == OUTPUTS]
    if outputs:
        twin.plot(*zip(*outputs, strict=True), ".", color=PALETTE[1], alpha=0.6, markersize=4, label="of the outputs")
        highest = max([value for _, value in outputs] + [check["spread"] for check in checks])
        twin.set_ylim(0, 1.05 * highest or 1)
        twin.legend(fontsize=8, frameon=False, loc="lower right")
    _curves(
        axes[2], checks, "alignment", "uniformity", names=("alignment", "uniformity"),
        title="Views agree, scans differ (lower is better)",
    )  # fmt: skip
    if probed:
        _probes(axes[3], checks)
    for axis in axes:
        axis.set_xlim(0, max(int(checks[-1]["step"]), 1))
    left, right = bottom.subfigures(1, 2, width_ratios=[2, 1])
    colours = _colours(scene.groups)
    _neighbours(left, scene, now, colours)
    _map(right.subplots(), flat_map(now, thorough=thorough), scene, colours)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _curves(axis: Any, lines: Sequence[Check], first: str, second: str, *, names: tuple[str, str], title: str) -> Any:
    """Two figures against the step, each with its own scale; returns the right axis."""
    other = axis.twinx()
    for each, key, name, colour in ((axis, first, names[0], PALETTE[0]), (other, second, names[1], PALETTE[1])):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            each.plot(*zip(*points, strict=True), color=colour, marker="o" if len(points) < 40 else None, markersize=3)
        each.set_ylabel(name, color=colour, fontsize=10)
        each.tick_params(axis="y", colors=colour, labelsize=10)
        each.spines["top"].set_visible(False)
    if second in ("spread", "grad_norm"):
        other.set_ylim(bottom=0)
    if first == "rankme":
        axis.set_ylim(bottom=0)
    _finish(axis, title)
    return other


def _probes(axis: Any, checks: Sequence[Check]) -> None:
    for key, name, colour in (("knn_auroc", "kNN", PALETTE[2]), ("probe_auroc", "linear", PALETTE[3])):
        axis.plot(
            [c["step"] for c in checks], [c[key] for c in checks], color=colour, marker="o", markersize=3, label=name
        )
        axis.axhline(checks[0][key], color=colour, linestyle=":", linewidth=1.2)
    axis.plot([], [], color="black", linestyle=":", label="at the start")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.15 * (high - low))
    axis.legend(fontsize=8, frameon=False, ncols=3, loc="upper center")
    axis.tick_params(axis="y", labelsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    _finish(axis, "AUROC of probes on the given labels")


def _finish(axis: Any, title: str) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("step", fontsize=10)
    axis.xaxis.set_major_locator(
        MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True)
    )  # few enough to be read beside each other
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.tick_params(axis="x", labelsize=10)
    axis.grid(alpha=0.25)


def _colours(groups: Sequence[str]) -> dict[str, str]:
    """The most frequent groups have a colour of their own; the others, and those of none, are grey."""
    names = sorted(
        {name for name in groups if name},
        key=lambda name: (
            not name.startswith("no "),
            -list(groups).count(name),
            name,
        ),  # absence is the first, calm one
    )
    return {name: PALETTE[i] for i, name in enumerate(names[: len(PALETTE)])}


def _neighbours(figure: Any, scene: Scene, now: Tensor, colours: dict[str, str]) -> None:
    """Each row: a scan, its nearest of other patients before training, and its nearest now."""
    queries = queries_of(scene.patients, count=QUERIES)
    blocks = {
        "scan": queries[:, None],
        "nearest of other patients, at the start": nearest(scene.start, scene.patients, queries, count=NEIGHBOURS),
        "now": nearest(now, scene.patients, queries, count=NEIGHBOURS),
    }
    blocks = {title: block for title, block in blocks.items() if block.size}
    axes = figure.subplots(1, len(blocks), width_ratios=[block.shape[1] for block in blocks.values()], squeeze=False)[0]
    for axis, (title, block) in zip(axes, blocks.items(), strict=True):
        axis.imshow(_mosaic(block, scene, colours), interpolation="antialiased")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_axis_off()


def _mosaic(places: Rows, scene: Scene, colours: dict[str, str]) -> npt.NDArray[np.uint8]:
    """Thumbnails (R, C) as one picture (H, W, 3), framed in the colours of their groups."""
    from matplotlib.colors import to_rgb

    pictures = scene.thumbnails(places.ravel())
    larger = max(1, _SIDE // pictures.shape[1])
    pictures = pictures.repeat(larger, axis=1).repeat(larger, axis=2)
    side = pictures.shape[1] + 2 * _FRAME
    rows, columns = places.shape
    canvas = np.full((rows * (side + _GAP), columns * (side + _GAP), 3), 255, np.uint8)
    for i, (place, thumbnail) in enumerate(zip(places.ravel(), pictures, strict=True)):
        y, x = i // columns * (side + _GAP), i % columns * (side + _GAP)
        frame = to_rgb(colours.get(scene.groups[int(place)], "white"))
        canvas[y : y + side, x : x + side] = np.round(255 * np.array(frame))
        canvas[y + _FRAME : y + side - _FRAME, x + _FRAME : x + side - _FRAME] = np.atleast_3d(thumbnail)
    return canvas


def _map(axis: Any, places: npt.NDArray[np.float64], scene: Scene, colours: dict[str, str]) -> None:
    groups = np.array(scene.groups)
    if colours:
        others = ~np.isin(groups, list(colours))
        if others.any():
            axis.scatter(*places[others].T, s=12, color=GREY, linewidths=0, label="other or unknown")
        for name, colour in colours.items():
            axis.scatter(*places[groups == name].T, s=16, color=colour, alpha=0.75, linewidths=0, label=name)
        axis.legend(fontsize=8, frameon=False, markerscale=1.5, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)
    else:
        axis.scatter(*places.T, s=16, c=_density(places), cmap="viridis", linewidths=0)
    told = f"coloured by {scene.grouped_by}" if colours else "brighter where scans are dense"
    axis.set_title(f"Map of {len(places)} scans, {told}", fontsize=10, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color("#cccccc")


def _density(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) how close each scan's tenth nearest is on the map."""
    distances = np.sort(np.linalg.norm(places[:, None] - places[None, :], axis=2), axis=1)
    tenth: npt.NDArray[np.float64] = distances[:, min(10, len(places) - 1)]
    return np.asarray(-np.log(tenth + 1e-3 * (tenth.max() + 1e-12)))
