"""What the viewer puts on the page: layers of equal size over each other, in one pane or in two."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from app import panels
from app.planes import PLANES, seen, seen_spacing
from app.render import SHOWN_PX, scan_png, shown_size
from app.windowing import BY_HAND, Window, displayed, unit_of
from medtl.data.scan import Scan
from medtl.review.records import Region

BUTTONS = """<div class="buttons" role="toolbar" aria-label="Picture" aria-orientation="vertical">
<button type="button" data-do="in" aria-label="Zoom in" title="Zoom in (+)">+</button>
<button type="button" data-do="out" aria-label="Zoom out" title="Zoom out (-)">&minus;</button>
<button type="button" data-do="fit" title="Fit the picture (0, or a double click)">Fit</button>
<button type="button" data-do="mark" aria-label="Mark region" aria-pressed="false" title="Mark (M)">Mark</button>
<button type="button" data-do="unmark" aria-label="Clear mark" title="Remove the mark" disabled>Clear</button>
</div>"""
HINT = '<div class="hint" role="status" aria-live="polite"></div>'


@dataclass(frozen=True, kw_only=True)
class Look:
    """A scan as it is looked at.

    Args:
        window: the display window.
        plane: of a volume, a name of `PLANES`.
        at: the voxel of a volume that is looked at, one index an axis.
    """

    scan: Scan
    window: Window
    plane: str
    at: list[int]

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Row and column spacing of the picture."""
        return seen_spacing(self.scan, self.plane)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the picture, before it is brought to the body's proportions."""
        axis = PLANES[self.plane].axis if self.scan.dims == 3 else None
        rows, columns = (side for place, side in enumerate(self.scan.pixels.shape) if place != axis)
        return rows, columns

    @property
    def slice_index(self) -> int | None:
        """Of a volume, the number of the slice, from 0."""
        return self.at[PLANES[self.plane].axis] if self.scan.dims == 3 else None

    @property
    def slice_name(self) -> str:
        """Of a volume, the plane and the number of the slice, from 0."""
        return "" if self.slice_index is None else f"{self.plane},{self.slice_index}"

    def png(self) -> bytes:
        """The picture."""
        pixels = displayed(self.scan, self.window, lambda whole: seen(whole, self.plane, self.at))
        return scan_png(pixels, spacing_mm=self.spacing_mm)

    def said(self) -> str:
        """What a reader who does not see it is told."""
        if self.scan.rgb is not None:
            return "The scan, in colour"
        unit = unit_of(self.scan).name
        window = f"centre {self.window.centre:g}, width {self.window.width:g} {unit}"
        shown = f"window {window}" if self.window.name == BY_HAND else f"window {self.window.name}"
        if self.slice_index is None:
            return f"The scan, {shown}"
        count = self.scan.pixels.shape[PLANES[self.plane].axis]
        return f"{self.plane} slice {self.slice_index + 1} of {count}, {shown}"


def pane(look: Look, source: str, *, label: str = "", marked: Sequence[tuple[str, Region]] = ()) -> str:
    """A picture with what lies on it: the place for a mark, the edges of the patient, a scale bar and a label.

    Args:
        source: where the picture is to be had.
        label: in the corner; says which of two scans this is.
        marked: what others marked, each with whose it is.
    """
    said = f"{label}: {look.said()}" if label else look.said()
    layers = panels.layer(source, kind="scan layer", alt=said) + _place(look) + _marks(look, marked)
    if look.scan.dims == 3:
        layers += panels.edges(PLANES[look.plane].edges)
    if look.spacing_mm is not None:
        layers += '<div class="scale" aria-hidden="true"><span></span></div>'
    return layers + (f'<span class="which">{escape(label)}</span>' if label else "")


def _place(look: Look) -> str:
    """The geometry that the browser needs: of the picture, of its pixels and of the body; marks are drawn into it."""
    rows, columns = look.sides
    width, height = shown_size((rows, columns), look.spacing_mm, longest=SHOWN_PX)
    known = {
        "scan": look.scan.scan_id,
        "columns": columns,
        "rows": rows,
        "mm": columns * look.spacing_mm[1] if look.spacing_mm else "",
        "slice": look.slice_name,
    }
    data = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in known.items())
    return f'<svg class="place layer" viewBox="0 0 {width} {height}" aria-hidden="true" {data}></svg>'


def _marks(look: Look, marked: Sequence[tuple[str, Region]]) -> str:
    """Regions that lie on this image or slice, with the names of who marked them."""
    here = [(whose, region) for whose, region in marked
            if look.slice_name == ("" if region.plane is None else f"{region.plane},{region.slice_index}")]  # fmt: skip
    if not here:
        return ""
    rows, columns = look.sides
    width, height = shown_size((rows, columns), look.spacing_mm, longest=SHOWN_PX)
    size, drawn = max(width, height) / 40, ""
    for whose, region in here:
        (x0, y0), (x1, y1), *_ = points = [(x * width / columns, y * height / rows) for x, y in region.points]
        if region.kind == "box":
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
        left, top = (min(corner[axis] for corner in points) for axis in (0, 1))
        base = top - size / 3 if top > 1.5 * size else top + 1.2 * size  # above it, or within where there is no room
        drawn += (
            f'<path class="under" d="{path}"/><path class="over" d="{path}"/>'
            f'<text x="{left + size / 4:.1f}" y="{base:.1f}" font-size="{size:.1f}">{escape(whose)}</text>'
        )
    said = escape("Marked by readers: " + "; ".join(whose for whose, _ in here))
    return f'<svg class="marks layer" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{drawn}</svg>'


def outline(curves: list[npt.NDArray[np.float64]], size: tuple[int, int], *, alt: str) -> str:
    """Closed curves (N, 2) of x and y in a picture of `size` (width, height): light on dark, seen on any grey."""
    if not curves:
        return ""
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in curve) + "Z" for curve in curves)
    return (
        f'<svg class="outline layer" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(alt)}">'
        f'<path class="under" d="{path}"/><path class="over" d="{path}"/></svg>'
    )


def beside_label(scan: Scan, prior: Scan) -> str:
    """What the other scan is, by the dates in both headers: "prior, 61 days before"; "prior" where one has none."""
    if scan.header.acquired is None or prior.header.acquired is None:
        return "prior"
    days = (scan.header.acquired - prior.header.acquired).days
    counted = f"{abs(days)} day{'' if abs(days) == 1 else 's'}"
    if days == 0:
        return "prior, the same day"
    return f"prior, {counted} before" if days > 0 else f"other scan, {counted} later"
