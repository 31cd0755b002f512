"""The picture on the page and its controls: window, heatmap, slice, prior and mark.

The server draws pixels; zoom, pan, inversion, opacity and the mark are the browser's (`viewer.js`).
"""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from app import panels
from app.case import Case
from app.events import DRAWS, QUIET
from app.outline import outlines
from app.pictures import Pictures
from app.planes import PLANES, hottest, same_place, seen, seen_spacing
from app.render import HEAT_PX, heat_png, shown_size
from app.viewer_html import BUTTONS, HINT, Look, beside_label, outline, pane
from app.windowing import AS_READ, BY_HAND, PERCENT, PERCENTILES, Window, preset, unit_of, windows_of
from medtl.data.scan import Scan
from medtl.errors import ScanError
from medtl.inference.explain import DEFAULT
from medtl.inference.runtime import Detector

HEAD = "".join(
    f"<{tag}>\n{Path(__file__).with_name(name).read_text(encoding='utf-8')}</{tag}>"
    for tag, name in (("style", "viewer.css"), ("script", "viewer.js"))
)
"""For the page's head."""
NO_HEAT = ""
"""In place of a finding: no heatmap."""
NOWHERE = "Nothing in this scan speaks for {}: no heatmap."
FINER = (
    "No heatmap: what speaks for {}, if anything, lies in finer levels, which Grad-CAM does not show; occlusion may."
)
"""In place of a heatmap where Grad-CAM's layer has nothing; of heads that read several levels it does not tell all."""
LOOKED = "{}: brighter is where the detector looked for {{}}; it does not outline a lesion."
METHODS = {"Grad-CAM": "grad-cam", "Grad-CAM++": "grad-cam++", "Occlusion": "occlusion"}
SAID = {method: LOOKED.format(name) for name, method in METHODS.items()} | {
    "occlusion": "Occlusion: brighter is where covering it lowers the score for {}; it does not outline a lesion."
}
"""Below a heatmap, by method."""
LEVEL = 0.5
"""Of a heatmap's largest value: what the outline surrounds."""


class Chosen(NamedTuple):
    """What the reader has set, in the order of `Viewer.controls`."""

    window: str
    centre: float
    width: float
    plane: str
    method: str
    prior: bool


class Viewer:
    """The viewer of one page, to be made where it shall stand in the layout.

    Args:
        detector: whose heatmaps are shown.
        case: the state that holds the case on the screen, or None.
        pictures: keeps what is drawn of scans.

    Attributes are its components: `controls` are what a page's own event needs to call `show`, `outputs`
    what these and `cleared` change. `region` holds the reader's mark: "x0,y0,x1,y1" in pixels of the image, or
    "x0,y0,x1,y1,Axial,41" in pixels of that slice as it is shown, counted from 0; after it "@1", the place of the
    finding that it was marked for.
    """

    def __init__(self, detector: Detector, case: gr.State, pictures: Pictures) -> None:
        self.detector, self._drawn = detector, pictures
        self.volumes = detector.bundle.spec.dims == 3
        with gr.Column(elem_id="picture"):
            self._layout()
        self.controls = [self.window, self.centre, self.width, self.plane, self.method, self.beside]
        self.outputs = [
            *(self.scan, self.heat, self.contour, self.prior, self.caption, self.region),
            *(self.finding, self.method, self.window, self.centre, self.width, self.slice, self.beside),
        ]
        self._events(case)

    def _layout(self) -> None:
        findings = [(panels.words(name), name) for name in self.detector.bundle.findings]
        with gr.Row(elem_id="tools"):
            self.window = gr.Dropdown(
                [AS_READ, *PERCENTILES, BY_HAND], value=AS_READ, label="Window", filterable=False, elem_id="window"
            )
            self.centre, self.width = (
                gr.Slider(*limits, value=value, step=PERCENT.step, label=f"{name}, %", buttons=[], elem_id=name.lower(),
                          elem_classes="strip")
                for name, limits, value in (("Centre", PERCENT.centres, 50), ("Width", PERCENT.widths, 100))
            )  # fmt: skip
            self.invert = gr.Checkbox(False, label="Invert", interactive=True, elem_id="invert")
        with gr.Row(elem_id="over"):
            self.finding = gr.Dropdown(
                [*findings, ("No heatmap", NO_HEAT)],
                value=findings[0][1],
                label="Heatmap for",
                filterable=False,
                elem_id="finding",
            )
            self.method = gr.Dropdown(
                list(METHODS.items()), value=DEFAULT, label="by", filterable=False, elem_id="method"
            )
            gr.HTML(panels.SLIDER, elem_id="slider")
            self.outlined = gr.Checkbox(True, label="Outline", interactive=True, elem_id="outlined")
            self.beside = gr.Checkbox(False, label="Prior", interactive=False, elem_id="beside")
        with gr.Row(elem_id="turn", visible=self.volumes):
            self.plane = gr.Radio(list(PLANES), value="Axial", show_label=False, label="Orientation", elem_id="plane")
            self.slice = gr.Slider(
                1, 2, value=1, step=1, label="Slice", interactive=False, buttons=[], elem_id="slice",
                elem_classes="strip",
            )  # fmt: skip
        with gr.Row(elem_id="frame"):
            gr.HTML(BUTTONS, elem_id="buttons")
            with gr.Row(elem_id="viewer"):
                with gr.Column(elem_id="shown"):
                    self.scan = gr.HTML(panels.empty(self.detector.bundle.spec.dims), elem_id="scan")
                    self.heat = gr.HTML("", elem_id="heat")
                    self.contour = gr.HTML("", elem_id="contour")
                    gr.HTML(HINT, elem_id="hint")
                self.prior = gr.HTML("", elem_id="prior")
        self.caption = gr.HTML(panels.caption(""), elem_id="caption")
        self.region = gr.Textbox("", visible="hidden", label="Marked region", elem_id="region")

    def _events(self, case: gr.State) -> None:
        shown = [case, self.finding, *self.controls]
        for control, answer, inputs in (
            (self.finding, self.explain, shown),
            (self.method, self.explain, shown),
            (self.window, self.choose_window, shown),
            (self.centre, self.set_window, shown),
            (self.width, self.set_window, shown),
            (self.plane, self.turn, shown),
            (self.slice, self.slide, [*shown, self.slice]),
            (self.beside, self.compare, shown),
        ):
            control.input(answer, inputs, self.outputs, **DRAWS)
        # The field is the mark's one place: what the server or the reader writes into it is drawn.
        self.region.change(None, self.region, None, js="(text) => medtlViewer.draw(text)", **QUIET)

    def cleared(self, picture: str = "") -> dict[Any, Any]:
        """No case on the screen; in the scan's place a fragment such as a refusal."""
        gone = dict.fromkeys((self.heat, self.contour, self.prior, self.region), "")
        return gone | {
            self.scan: picture,
            self.caption: panels.caption(""),
            self.slice: gr.update(interactive=False),
            self.beside: gr.update(interactive=False),
        }

    def show(self, case: Case, *chosen: Any, finding: str) -> dict[Any, Any]:
        """A case as it is opened: of a volume where the finding's heatmap is hottest.

        Args:
            finding: whose heatmap is shown; with `NO_HEAT` nothing that the detector says is in the answer.
        """
        view = Chosen(*chosen)
        window, settings = self._adapted(case.prediction.scan, view)
        view = view._replace(window=window.name, centre=window.centre, width=window.width, method=DEFAULT)
        settings |= {
            self.finding: finding,
            self.method: DEFAULT,
            self.region: "",
            self.beside: gr.update(interactive=case.prior is not None),
        }
        shown: dict[Any, Any] = self.explain(case, finding, *view)
        return settings | shown

    def picture(self, scan: Scan, owner: str, *chosen: Any) -> dict[Any, Any]:
        """An image as `show` will show it, while what the detector says is not known yet.

        Args:
            owner: the user who sees it.
        """
        view = Chosen(*chosen)
        window, settings = self._adapted(scan, view)
        return settings | {self.scan: self._pane(owner, Look(scan=scan, window=window, plane=view.plane, at=[]))}

    def draw(self, case: Case, *chosen: Any) -> None:
        """Draw an image and its first heatmap ahead, as `show` will show them."""
        scan, view = case.prediction.scan, Chosen(*chosen)
        if not self.volumes:  # of a volume the slice is not known yet
            window = preset(scan, view.window)
            self._pictures(case, view._replace(window=window.name, centre=window.centre, width=window.width))
            self._heat(case, case.leading(), view._replace(method=DEFAULT))

    def explain(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The heatmap of a finding and the line that says what it shows; of a volume, where it is hottest."""
        if case is None:
            return gr.skip()
        shape = case.prediction.scan.pixels.shape
        if self.volumes and finding != NO_HEAT:
            case.at[:] = hottest(case.heat(self.detector, finding, Chosen(*chosen).method))
        elif self.volumes and not case.at:
            case.at[:] = [side // 2 for side in shape]
        return self.turn(case, finding, *chosen)

    def turn(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The slice of another orientation through the voxel that is looked at."""
        if case is None:
            return gr.skip()
        view = Chosen(*chosen)
        turned = {}
        if self.volumes:
            axis = PLANES[view.plane].axis
            count = case.prediction.scan.pixels.shape[axis]
            turned[self.slice] = gr.update(value=case.at[axis] + 1, maximum=count, interactive=True)
        return turned | self._pictures(case, view) | self._heat(case, finding, view)

    def slide(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """Another slice, whose number, counted from 1, is chosen last."""
        if case is None:
            return gr.skip()
        *rest, number = chosen
        view = Chosen(*rest)
        axis = PLANES[view.plane].axis
        case.at[axis] = min(max(int(number) - 1, 0), case.prediction.scan.pixels.shape[axis] - 1)
        return self._pictures(case, view) | self._heat(case, finding, view)

    def choose_window(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The scan in a preset window, and the sliders where the preset puts them."""
        if case is None:
            return gr.skip()
        view = Chosen(*chosen)
        if view.window == BY_HAND:
            return self._pictures(case, view)
        window = preset(case.prediction.scan, view.window)
        view = view._replace(window=window.name, centre=window.centre, width=window.width)
        return {self.centre: window.centre, self.width: window.width} | self._pictures(case, view)

    def set_window(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The scan in the window that the sliders set."""
        if case is None:
            return gr.skip()
        return {self.window: BY_HAND} | self._pictures(case, Chosen(*chosen)._replace(window=BY_HAND))

    def compare(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """With the prior beside it, or without."""
        return gr.skip() if case is None else self._pictures(case, Chosen(*chosen))

    def _adapted(self, scan: Scan, view: Chosen) -> tuple[Window, dict[Any, Any]]:
        """The window for the next scan, and the settings that follow; one that was set by hand was another scan's.

        A scan in colour has no window to choose.
        """
        unit, window = unit_of(scan), preset(scan, view.window)
        return window, {
            self.window: gr.update(choices=windows_of(scan), value=window.name, interactive=scan.rgb is None),
            **{
                slider: gr.update(
                    minimum=limits[0],
                    maximum=limits[1],
                    step=unit.step,
                    value=value,
                    label=f"{name}, {unit.name}",
                    interactive=scan.rgb is None,
                )
                for slider, limits, value, name in (
                    (self.centre, unit.centres, window.centre, "Centre"),
                    (self.width, unit.widths, window.width, "Width"),
                )
            },
        }

    def _pictures(self, case: Case, view: Chosen) -> dict[Any, Any]:
        """The scan, and the prior where it is wanted, in the same preset or the same window set by hand."""
        scan = case.prediction.scan
        window = Window(name=view.window, centre=view.centre, width=view.width)
        look = Look(scan=scan, window=window, plane=view.plane, at=case.at)
        if case.prior is None or not view.prior:
            return {self.scan: self._pane(case.owner, look, marked=case.marked), self.prior: ""}
        shown = {self.scan: self._pane(case.owner, look, label="this scan", marked=case.marked)}
        try:
            prior = case.prior()
        except ScanError as problem:  # changed or gone since the case was opened
            return shown | {self.prior: panels.no_prior(problem)}
        same_unit = unit_of(prior) == unit_of(scan)
        its = window if view.window == BY_HAND and same_unit else preset(prior, view.window)
        at = same_place(case.at, scan.pixels.shape, prior.pixels.shape) if self.volumes else []
        other = Look(scan=prior, window=its, plane=view.plane, at=at)
        return shown | {self.prior: self._pane(case.owner, other, label=beside_label(scan, prior))}

    def _pane(self, owner: str, look: Look, **more: Any) -> str:
        return pane(look, self._drawn.source(owner, look), **more)

    def _heat(self, case: Case, finding: str, view: Chosen) -> dict[Any, Any]:
        """The heatmap over what is shown, its outline, and the line below; of an image drawn once."""
        if finding == NO_HEAT:
            return {self.heat: "", self.contour: "", self.caption: panels.caption("")}
        if self.volumes or case.hidden:
            return self._layers(case, finding, view)
        if (finding, view.method) not in case.layers:
            case.layers[finding, view.method] = self._layers(case, finding, view)
        return case.layers[finding, view.method]

    def _layers(self, case: Case, finding: str, view: Chosen) -> dict[Any, Any]:
        none = {self.heat: "", self.contour: ""}
        heat, plain = case.heat(self.detector, finding, view.method), panels.plain(finding)
        if not heat.any():
            why = FINER if self.detector.bundle.levels and view.method != "occlusion" else NOWHERE
            return none | {self.caption: panels.caption(why.format(plain))}
        spacing_mm = seen_spacing(case.prediction.scan, view.plane)
        shown = seen(heat, view.plane, case.at).astype(np.float32)
        curves = outlines(shown, level=LEVEL * float(heat.max()), spacing_mm=spacing_mm)
        size = shown_size((shown.shape[0], shown.shape[1]), spacing_mm, longest=HEAT_PX)
        layer = panels.inline(heat_png(shown, spacing_mm=spacing_mm))
        said = SAID[view.method].format(plain)
        where = "" if curves or not self.volumes else " It stays below that on this slice."
        return {
            self.heat: panels.layer(layer, kind="heat layer", alt=f"Heatmap for {plain}"),
            self.contour: outline(curves, size, alt=f"Outline of the heatmap for {plain}"),
            self.caption: panels.caption(f"{said} Outline: half of the map's largest value.{where}"),
        }
