"""The picture of a case: its controls, and what they draw."""

from typing import Any

import gradio as gr

from app import panels
from app.case import Case
from app.events import DRAWS
from app.planes import PLANES, hottest, seen, seen_spacing
from app.reading import Reading
from app.render import WINDOWS, displayed, heat_png, scan_png, windows_of
from medtl.inference.runtime import Detector

HIDDEN = "Verdict first: the detector's answer and its heatmap are shown once you have spoken."


class Picture:
    """Scan, heatmap and the line below, with window, inversion and, of volumes, orientation and slice.

    `inputs` are the settings that a drawing depends on, `outputs` all that it changes.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector, self.bundle = detector, detector.bundle
        self.volumes = self.bundle.spec.dims == 3
        findings = list(self.bundle.findings)
        with gr.Row(elem_id="tools"):
            self.finding = gr.Dropdown(
                [(panels.words(name), name) for name in findings],
                value=findings[0],
                label="Heatmap for",
                filterable=False,
                elem_id="finding",
            )
            gr.HTML(panels.SLIDER, elem_id="slider")
            self.window = gr.Dropdown(
                list(WINDOWS), value="As read", label="Window", filterable=False, elem_id="window"
            )
            self.invert = gr.Checkbox(False, label="Invert", elem_id="invert")
        with gr.Row(elem_id="turn", visible=self.volumes):
            self.plane = gr.Radio(list(PLANES), value="Axial", show_label=False, label="Orientation", elem_id="plane")
            self.slice = gr.Slider(1, 2, value=1, step=1, label="Slice", interactive=False, buttons=[], elem_id="slice")
        with gr.Column(elem_id="viewer"):
            self.scan = gr.HTML(panels.empty(self.bundle.spec.dims), elem_id="scan")
            self.heat = gr.HTML("", elem_id="heat")
        self.caption = gr.HTML(panels.caption(""), elem_id="caption")
        self.region = gr.Textbox("", visible="hidden", elem_id="region")
        self.inputs = [self.window, self.invert, self.plane]
        drawn = [self.scan, self.heat, self.caption, self.slice]
        self.outputs = [self.finding, self.window, self.region, *drawn]

    def listen(self, reading: gr.State) -> None:
        """Draw anew when a control is moved."""
        drawn = [self.scan, self.heat, self.caption]
        for control in (self.window, self.invert):
            control.input(self.redraw, [reading, *self.inputs], self.scan, **DRAWS)
        self.plane.input(self.turn, [reading, self.finding, *self.inputs], [*drawn, self.slice], **DRAWS)
        self.slice.input(self.slide, [reading, self.finding, *self.inputs, self.slice], drawn, **DRAWS)

    def shown(self, reading: Reading, finding: str, window: str, invert: bool, plane: str) -> dict[Any, Any]:
        """A case from its beginning, with the heatmap of a finding."""
        case = reading.scan
        if case is None:
            return self.empty()
        scan = case.prediction.scan
        window = window if window in windows_of(scan) else "As read"
        if reading.blind:
            case.at[:] = [side // 2 for side in scan.pixels.shape]
        elif self.volumes:
            case.at[:] = hottest(case.heat(self.detector, finding))
        picture, heat, caption, slider = self.turn(reading, finding, window, invert, plane)
        return {
            self.finding: finding,
            self.window: gr.update(choices=windows_of(scan), value=window),
            self.region: "",
            self.scan: picture,
            self.heat: heat,
            self.caption: caption,
            self.slice: slider,
        }

    def empty(self) -> dict[Any, Any]:
        """No case."""
        return {
            self.region: "",
            self.scan: "",
            self.heat: "",
            self.caption: panels.caption(""),
            self.slice: gr.update(interactive=False),
        }

    def turn(
        self, reading: Reading | None, finding: str, window: str, invert: bool, plane: str
    ) -> tuple[Any, str, str, Any]:
        """The slice of another orientation through the voxel that is looked at."""
        if reading is None or reading.scan is None:
            return gr.skip(), "", panels.caption(""), gr.skip()
        case, slider = reading.scan, gr.skip()
        if self.volumes:
            axis = PLANES[plane].axis
            count = case.prediction.scan.pixels.shape[axis]
            slider = gr.update(value=case.at[axis] + 1, maximum=count, interactive=True)
        return self._picture(case, window, invert, plane), *self._heat(reading, finding, plane), slider

    def slide(
        self, reading: Reading | None, finding: str, window: str, invert: bool, plane: str, number: float
    ) -> tuple[Any, str, str]:
        """Another slice, counted from 1."""
        if reading is None or reading.scan is None:
            return gr.skip(), "", panels.caption("")
        case, axis = reading.scan, PLANES[plane].axis
        case.at[axis] = min(max(int(number) - 1, 0), case.prediction.scan.pixels.shape[axis] - 1)
        return self._picture(case, window, invert, plane), *self._heat(reading, finding, plane)

    def redraw(self, reading: Reading | None, window: str, invert: bool, plane: str) -> Any:
        """The scan in another window."""
        if reading is None or reading.scan is None:
            return gr.skip()
        return self._picture(reading.scan, window, invert, plane)

    def place(self, reading: Reading, plane: str) -> tuple[str | None, int | None]:
        """Of a volume, the orientation and the slice that are looked at, counted from 0."""
        if not self.volumes or reading.scan is None:
            return None, None
        return plane, reading.scan.at[PLANES[plane].axis]

    def _picture(self, case: Case, window: str, invert: bool, plane: str) -> str:
        """An image, or the slice of a volume through the voxel `at`."""
        scan = case.prediction.scan
        pixels = displayed(scan, window, lambda whole: seen(whole, plane, case.at))
        png = scan_png(pixels, invert=invert, spacing_mm=seen_spacing(scan, plane))
        if scan.dims == 2:
            return panels.layer(png, kind="scan", alt="The scan")
        said = f"{plane} slice {case.at[PLANES[plane].axis] + 1}"
        return panels.layer(png, kind="scan", alt=said) + panels.edges(PLANES[plane].edges)

    def _heat(self, reading: Reading, finding: str, plane: str) -> tuple[str, str]:
        """The heatmap over what is shown, and the line below."""
        case, plain = reading.scan, finding.replace("_", " ")
        if reading.blind or case is None:
            return "", panels.caption(HIDDEN)
        heat = case.heat(self.detector, finding)
        if not heat.any():
            return "", panels.caption(f"Nothing in this scan speaks for {plain}: no heatmap.")
        said = f"Grad-CAM: brighter is where the detector looked for {plain}. It does not outline a lesion."
        png = heat_png(seen(heat, plane, case.at), spacing_mm=seen_spacing(case.prediction.scan, plane))
        return panels.layer(png, kind="heat", alt=f"Heatmap for {plain}"), panels.caption(said)
