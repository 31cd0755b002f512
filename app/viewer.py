"""The picture on the page and its controls: window, inversion, heatmap and, of volumes, orientation and slice."""

from typing import Any

import gradio as gr

from app import panels
from app.case import Case
from app.events import DRAWS
from app.planes import PLANES, hottest, seen, seen_spacing
from app.render import WINDOWS, displayed, heat_png, scan_png, windows_of
from medtl.inference.runtime import Detector

HEAD = ""
"""For the page's head."""
NO_HEAT = ""
"""In place of a finding: no heatmap."""


class Viewer:
    """The viewer of one page, to be made where it shall stand in the layout.

    Args:
        detector: whose heatmaps are shown.
        case: the state that holds the case on the screen, or None.

    Attributes are its components: `controls` are what a page's own event needs to call `show`, `outputs` what that and
    `cleared` change, and `region` holds the reader's mark.
    """

    def __init__(self, detector: Detector, case: gr.State) -> None:
        self.detector = detector
        self.volumes = detector.bundle.spec.dims == 3
        with gr.Column(elem_id="left", elem_classes="volumes" if self.volumes else None):
            self._layout()
        self.controls = [self.window, self.invert, self.plane]
        self.outputs = [self.finding, self.window, self.region, self.scan, self.heat, self.caption, self.slice]
        self._events(case)

    def _layout(self) -> None:
        findings = [(panels.words(name), name) for name in self.detector.bundle.findings]
        with gr.Row(elem_id="tools"):
            self.finding = gr.Dropdown(
                [*findings, ("No heatmap", NO_HEAT)],
                value=findings[0][1],
                label="Heatmap for",
                filterable=False,
                elem_id="finding",
            )
            gr.HTML(panels.SLIDER, elem_id="slider")
            self.window = gr.Dropdown(
                list(WINDOWS), value="As read", label="Window", filterable=False, elem_id="window"
            )
            self.invert = gr.Checkbox(False, label="Invert", interactive=True, elem_id="invert")
        with gr.Row(elem_id="turn", visible=self.volumes):
            self.plane = gr.Radio(list(PLANES), value="Axial", show_label=False, label="Orientation", elem_id="plane")
            self.slice = gr.Slider(1, 2, value=1, step=1, label="Slice", interactive=False, buttons=[], elem_id="slice")
        with gr.Column(elem_id="viewer"):
            self.scan = gr.HTML(panels.empty(self.detector.bundle.spec.dims), elem_id="scan")
            self.heat = gr.HTML("", elem_id="heat")
        self.caption = gr.HTML(panels.caption(""), elem_id="caption")
        self.region = gr.Textbox("", visible="hidden", label="Marked region", elem_id="region")

    def _events(self, case: gr.State) -> None:
        shown = [case, self.finding, *self.controls]
        for control, answer, inputs in (
            (self.finding, self.explain, shown),
            (self.window, self.redraw, shown),
            (self.invert, self.redraw, shown),
            (self.plane, self.turn, shown),
            (self.slice, self.slide, [*shown, self.slice]),
        ):
            control.input(answer, inputs, self.outputs, **DRAWS)

    def cleared(self, picture: str = "") -> dict[Any, Any]:
        """No case on the screen; in the scan's place a fragment such as a refusal."""
        return {
            self.scan: picture,
            self.heat: "",
            self.region: "",
            self.caption: panels.caption(""),
            self.slice: gr.update(interactive=False),
        }

    def show(self, case: Case, *chosen: Any, finding: str) -> dict[Any, Any]:
        """A case as it is opened: of a volume where the finding's heatmap is hottest.

        Args:
            finding: whose heatmap is shown; with `NO_HEAT` nothing that the detector says is in the answer.
        """
        window, invert, plane = chosen
        windows = windows_of(case.prediction.scan)
        window = window if window in windows else "As read"
        settings = {self.finding: finding, self.region: "", self.window: gr.update(choices=windows, value=window)}
        shown: dict[Any, Any] = self.explain(case, finding, window, invert, plane)
        return settings | shown

    def explain(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The heatmap of a finding and the line that says what it shows; of a volume, where it is hottest."""
        if case is None:
            return gr.skip()
        if self.volumes and finding != NO_HEAT:
            case.at[:] = hottest(case.heat(self.detector, finding))
        elif self.volumes and not case.at:
            case.at[:] = [side // 2 for side in case.prediction.scan.pixels.shape]
        return self.turn(case, finding, *chosen)

    def turn(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The slice of another orientation through the voxel that is looked at."""
        if case is None:
            return gr.skip()
        turned: dict[Any, Any] = {}
        if self.volumes:
            axis = PLANES[chosen[2]].axis
            count = case.prediction.scan.pixels.shape[axis]
            turned[self.slice] = gr.update(value=case.at[axis] + 1, maximum=count, interactive=True)
        return turned | self._picture(case, *chosen) | self._heat(case, finding, chosen[2])

    def slide(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """Another slice, whose number, counted from 1, is chosen last."""
        if case is None:
            return gr.skip()
        *rest, number = chosen
        axis = PLANES[rest[2]].axis
        case.at[axis] = min(max(int(number) - 1, 0), case.prediction.scan.pixels.shape[axis] - 1)
        return self._picture(case, *rest) | self._heat(case, finding, rest[2])

    def redraw(self, case: Case | None, finding: str, *chosen: Any) -> Any:
        """The scan in another window."""
        return gr.skip() if case is None else self._picture(case, *chosen)

    def _picture(self, case: Case, window: str, invert: bool, plane: str) -> dict[Any, Any]:
        """An image, or the slice of a volume through the voxel `at`."""
        scan = case.prediction.scan
        pixels = displayed(scan, window, lambda whole: seen(whole, plane, case.at))
        png = scan_png(pixels, invert=invert, spacing_mm=seen_spacing(scan, plane))
        if scan.dims == 2:
            return {self.scan: panels.layer(png, kind="scan", alt="The scan")}
        said = f"{plane} slice {case.at[PLANES[plane].axis] + 1}"
        return {self.scan: panels.layer(png, kind="scan", alt=said) + panels.edges(PLANES[plane].edges)}

    def _heat(self, case: Case, finding: str, plane: str) -> dict[Any, Any]:
        """The heatmap over what is shown, and the line below."""
        if finding == NO_HEAT:
            return {self.heat: "", self.caption: panels.caption("")}
        heat, plain = case.heat(self.detector, finding), finding.replace("_", " ")
        if not heat.any():
            said = f"Nothing in this scan speaks for {plain}: no heatmap."
            return {self.heat: "", self.caption: panels.caption(said)}
        said = f"Grad-CAM: brighter is where the detector looked for {plain}. It does not outline a lesion."
        png = heat_png(seen(heat, plane, case.at), spacing_mm=seen_spacing(case.prediction.scan, plane))
        layer = panels.layer(png, kind="heat", alt=f"Heatmap for {plain}")
        return {self.heat: layer, self.caption: panels.caption(said)}
