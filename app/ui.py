"""The page: its layout, and what happens when a reader does something.

Everything that reads or draws the case runs in one queue, one event at a time, so that two readers do not fight over
the processor and a late answer about one scan can never land beside another.
"""

import logging
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from app import panels
from app.case import Case, take
from app.planes import PLANES, hottest, seen, seen_spacing
from app.render import WINDOWS, displayed, heat_png, scan_png, windows_of
from medtl.data.scan import Scan
from medtl.data.sources import read_uploads
from medtl.errors import ReviewError, ScanError
from medtl.inference.runtime import Detector
from medtl.review import cases, verdicts
from medtl.review.records import LONGEST_NOTE, VERDICTS
from medtl.review.store import ReviewStore
from medtl.review.users import LONGEST_NAME, User

log = logging.getLogger("medtl.page")

HOURS_8 = 8 * 3600
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "case", "concurrency_limit": 1}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# The slider moves the heatmap in the browser, without asking the server.
HEAD = """<meta name="referrer" content="no-referrer"><script>
document.addEventListener("input", (event) => {
  if (event.target.id !== "opacity") return;
  document.documentElement.style.setProperty("--heat", event.target.value / 100);
  document.getElementById("opacity-shown").textContent = event.target.value + " %";
});
// The wheel over a volume turns its slices.
document.addEventListener("wheel", (event) => {
  const slider = document.querySelector("#slice input[type=range]");
  if (!slider || slider.disabled || !event.target.closest("#viewer")) return;
  slider.value = Number(slider.value) + (event.deltaY > 0 ? -1 : 1);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
});
</script>"""
THEME_CSS = Path(__file__).with_name("theme.css")


class Page:
    """The Gradio page of one detector and one review store.

    `blocks` is what is launched; the other attributes are its components, named by what they show.
    """

    def __init__(self, detector: Detector, store: ReviewStore) -> None:
        self.detector, self.store, self.bundle = detector, store, detector.bundle
        self.volumes = self.bundle.spec.dims == 3
        with gr.Blocks(title="medtl review", analytics_enabled=False, fill_width=True, delete_cache=(60, 60)) as blocks:
            self._layout()
            self._events()
        self.blocks = blocks

    def _layout(self) -> None:
        findings = list(self.bundle.findings)
        self.case = gr.State(None, time_to_live=HOURS_8)
        self.token = gr.Textbox("", visible="hidden", elem_id="token")
        with gr.Row(elem_id="top"):
            gr.HTML("<h1>medtl review</h1>", elem_id="title")
            self.upload = gr.UploadButton(
                "Open scan",
                file_count="multiple" if self.volumes else "single",
                variant="primary",
                size="sm",
                elem_id="upload",
            )
            self.status = gr.HTML(panels.status("No scan open"), elem_id="status")
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="left", elem_classes="volumes" if self.volumes else None):
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
                    self.plane = gr.Radio(
                        list(PLANES), value="Axial", show_label=False, label="Orientation", elem_id="plane"
                    )
                    self.slice = gr.Slider(
                        1, 2, value=1, step=1, label="Slice", interactive=False, buttons=[], elem_id="slice"
                    )
                with gr.Column(elem_id="viewer"):
                    self.scan = gr.HTML(panels.empty(self.bundle.spec.dims), elem_id="scan")
                    self.heat = gr.HTML("", elem_id="heat")
                self.caption = gr.HTML(panels.caption(""), elem_id="caption")
            with gr.Column(elem_id="right"):
                self.rows, self.choices = [], []
                for name in findings:
                    self.rows.append(gr.HTML(self._row(name), elem_classes="score"))
                    self.choices.append(
                        gr.Radio(
                            [(word.capitalize(), word) for word in VERDICTS],
                            show_label=False,
                            label=f"Verdict on {panels.words(name)}",
                            container=False,
                            elem_classes="choice",
                        )
                    )
                with gr.Column(elem_id="verdict"):
                    self.note = gr.Textbox(
                        label="Note",
                        lines=2,
                        max_lines=2,
                        max_length=LONGEST_NOTE,
                        elem_id="note",
                        placeholder="Optional",
                    )
                    with gr.Row(elem_id="sign"):
                        self.reader = gr.Textbox(label="Reader", max_length=LONGEST_NAME, elem_id="reader")
                        self.save = gr.Button("Save verdict", variant="primary", interactive=False, elem_id="save")
                    self.saved = gr.HTML("", elem_id="saved")
                self.header = gr.HTML(panels.header(None), elem_id="header")
        gr.HTML(panels.footer(self.bundle), elem_id="footer")

    def _events(self) -> None:
        self.upload.upload(
            self.open,
            [self.upload, self.window, self.invert, self.plane],
            [
                *(self.case, self.token, self.status, self.scan, self.heat, self.caption, self.finding, self.header),
                *(self.window, self.slice),
                *(self.note, self.save, self.saved, *self.rows, *self.choices),
            ],
            trigger_mode="multiple",
            **ONE_AT_A_TIME,
            **QUIET,
        )
        shown = [self.case, self.finding, self.window, self.invert, self.plane]
        self.finding.input(
            self.explain,
            shown,
            [self.scan, self.heat, self.caption, self.slice],
            trigger_mode="always_last",
            **ONE_AT_A_TIME,
            **QUIET,
        )
        for control in (self.window, self.invert):
            control.input(
                self.redraw,
                [self.case, self.window, self.invert, self.plane],
                self.scan,
                trigger_mode="always_last",
                **ONE_AT_A_TIME,
                **QUIET,
            )
        self.plane.input(
            self.turn,
            shown,
            [self.scan, self.heat, self.caption, self.slice],
            trigger_mode="always_last",
            **ONE_AT_A_TIME,
            **QUIET,
        )
        self.slice.input(
            self.slide,
            [*shown, self.slice],
            [self.scan, self.heat, self.caption],
            trigger_mode="always_last",
            **ONE_AT_A_TIME,
            **QUIET,
        )
        self.save.click(
            self.keep,
            [self.case, self.token, self.note, self.reader, *self.choices],
            self.saved,
            concurrency_id="store",
            concurrency_limit=1,
            **QUIET,
        )
        # What was saved is no longer what is chosen.
        for control in (*self.choices, self.note):
            control.input(None, None, self.saved, js="() => ''", **QUIET)

    def _row(self, finding: str) -> str:
        return panels.finding_row(finding, self.bundle.thresholds[finding], None)

    def _cleared(self, text: str, *, busy: bool) -> dict[Any, Any]:
        """The page with no case on it; the reader's name stays."""
        return {
            self.case: None,
            self.token: "",
            self.status: panels.status(text, busy=busy),
            self.heat: "",
            self.caption: panels.caption(""),
            self.header: panels.header(None),
            self.slice: gr.update(interactive=False),
            self.note: "",
            self.save: gr.update(interactive=False),
            self.saved: "",
            **{row: self._row(name) for row, name in zip(self.rows, self.bundle.findings, strict=True)},
            **dict.fromkeys(self.choices),
        }

    def _refused(self, problem: ScanError) -> dict[Any, Any]:
        return self._cleared("No scan open", busy=False) | {self.scan: panels.refusal(problem)}

    def open(self, upload: str | list[str] | None, window: str, invert: bool, plane: str) -> Iterator[dict[Any, Any]]:
        """Read, show and score an upload."""
        if not upload:
            return
        files = take([upload] if isinstance(upload, str) else upload)
        name = files[0][0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        yield self._cleared(f"Reading {name}", busy=True) | {self.scan: ""}
        try:
            scan = read_uploads(files, dims=self.bundle.spec.dims)
            del files
            window = window if window in windows_of(scan) else "As read"
            yield {
                self.scan: self._picture(scan, [side // 2 for side in scan.pixels.shape], window, invert, plane),
                self.window: gr.update(choices=windows_of(scan), value=window),
                self.header: panels.header(scan),
                self.status: panels.status(f"Scoring {name}", busy=True),
            }
            case = Case(name=name, prediction=self.detector.predict(scan))
            leading = case.leading()
            picture, heat, caption, slider = self.explain(case, leading, window, invert, plane)
        except ScanError as problem:
            yield self._refused(problem)
            return
        except Exception:
            log.exception("an upload could not be scored")
            yield self._refused(ScanError("internal", name, "medtl failed on this file; the server's log says where"))
            return
        yield {
            self.case: case,
            self.token: case.token,
            self.status: panels.status(name),
            self.scan: picture,
            self.heat: heat,
            self.caption: caption,
            self.slice: slider,
            self.finding: leading,
            self.save: gr.update(interactive=True),
            **{
                row: panels.finding_row(score.finding, score.threshold, score)
                for row, score in zip(self.rows, case.prediction.scores, strict=True)
            },
        }

    def explain(
        self, case: Case | None, finding: str, window: str, invert: bool, plane: str
    ) -> tuple[Any, str, str, Any]:
        """The heatmap of a finding and the line that says what it shows; of a volume, where it is hottest."""
        if case is None:
            return gr.skip(), "", panels.caption(""), gr.skip()
        if self.volumes:
            case.at[:] = hottest(case.heat(self.detector, finding))
        return self.turn(case, finding, window, invert, plane)

    def turn(self, case: Case | None, finding: str, window: str, invert: bool, plane: str) -> tuple[Any, str, str, Any]:
        """The slice of another orientation through the voxel that is looked at."""
        if case is None:
            return gr.skip(), "", panels.caption(""), gr.skip()
        slider = gr.skip()
        if self.volumes:
            axis = PLANES[plane].axis
            count = case.prediction.scan.pixels.shape[axis]
            slider = gr.update(value=case.at[axis] + 1, maximum=count, interactive=True)
        picture = self._picture(case.prediction.scan, case.at, window, invert, plane)
        return picture, *self._heat(case, finding, plane), slider

    def slide(
        self, case: Case | None, finding: str, window: str, invert: bool, plane: str, number: float
    ) -> tuple[Any, str, str]:
        """Another slice, counted from 1."""
        if case is None:
            return gr.skip(), "", panels.caption("")
        axis = PLANES[plane].axis
        case.at[axis] = min(max(int(number) - 1, 0), case.prediction.scan.pixels.shape[axis] - 1)
        picture = self._picture(case.prediction.scan, case.at, window, invert, plane)
        return picture, *self._heat(case, finding, plane)

    def redraw(self, case: Case | None, window: str, invert: bool, plane: str) -> Any:
        """The scan in another window."""
        if case is None:
            return gr.skip()
        return self._picture(case.prediction.scan, case.at, window, invert, plane)

    def _picture(self, scan: Scan, at: list[int], window: str, invert: bool, plane: str) -> str:
        """An image, or the slice of a volume through the voxel `at`."""
        pixels = displayed(scan, window, lambda whole: seen(whole, plane, at))
        png = scan_png(pixels, invert=invert, spacing_mm=seen_spacing(scan, plane))
        if scan.dims == 2:
            return panels.layer(png, kind="scan", alt="The scan")
        said = f"{plane} slice {at[PLANES[plane].axis] + 1}"
        return panels.layer(png, kind="scan", alt=said) + panels.edges(PLANES[plane].edges)

    def _heat(self, case: Case, finding: str, plane: str) -> tuple[str, str]:
        """The heatmap over what is shown, and the line below."""
        heat, plain = case.heat(self.detector, finding), finding.replace("_", " ")
        if not heat.any():
            return "", panels.caption(f"Nothing in this scan speaks for {plain}: no heatmap.")
        said = f"Grad-CAM: brighter is where the detector looked for {plain}. It does not outline a lesion."
        png = heat_png(seen(heat, plane, case.at), spacing_mm=seen_spacing(case.prediction.scan, plane))
        return panels.layer(png, kind="heat", alt=f"Heatmap for {plain}"), panels.caption(said)

    def keep(self, case: Case | None, token: str, note: str, reader: str, *choices: str | None) -> str:
        """Store the verdicts; says "saved" only of what is on disk."""
        if case is None or case.token != token:
            return panels.saved("Not saved: another scan was opened meanwhile. Look again and choose.", good=False)
        try:
            if not any(choices):
                raise ReviewError("choose agree, disagree or unsure for at least one finding first")
            if not (reader or "").strip():
                raise ReviewError("enter the reader's name first")
            by = User(name=reader.strip(), role="reader")
            said = dict(zip(self.bundle.findings, choices, strict=True))
            case_id = cases.add(self.store, [case.record()])[0]
            cases.claim(self.store, case_id, by=by)
            chosen = case.verdicts(case_id, said, note=note or "")
            ids = verdicts.save(self.store, chosen, by=by, token=uuid.uuid4().hex)
        except ReviewError as problem:
            return panels.saved(f"Not saved: {problem}", good=False)
        numbers = f"verdict {ids[0]}" if len(ids) == 1 else f"verdicts {ids[0]} to {ids[-1]}"
        return panels.saved(f"Saved at {datetime.now():%H:%M:%S} ({numbers})", good=True)
