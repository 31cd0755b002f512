"""The case on the page: the picture at the left; findings, reasons, facts and verdict at the right."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import panels, tables
from app.choices import Choices
from app.desk import Desk
from app.events import DRAWS
from app.picture import Picture
from app.reading import Reading
from app.verdict_view import VerdictView
from medtl.errors import ScanError
from medtl.review.records import Case

HOURS_8 = 8 * 3600
PICKED = "(...given) => [...given.slice(0, -1), String(medtl.picked)]"
Changes = dict[Any, Any]


class CaseView:
    """What is shown of a case.

    `reading` is the case before the reader, `token` what his browser shows, `outputs` all that another case changes.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk, self.bundle = desk, desk.detector.bundle
        self.reading = gr.State(None, time_to_live=HOURS_8)
        self.token = gr.Textbox("", visible="hidden", elem_id="token")
        self.current = gr.Textbox("0", visible="hidden", elem_id="current")
        self.pick = gr.Button("Choose finding", visible="hidden", elem_id="pick")
        with gr.Column(elem_id="left", elem_classes="volumes" if self.bundle.spec.dims == 3 else None):
            self.picture = Picture(desk.detector)
        with gr.Column(elem_id="right"):
            self.verdict = VerdictView(self.bundle)
            with gr.Column(elem_id="facts"):
                self.verdict.place_findings()
                self.reasons = gr.HTML("", elem_id="reasons")
                self.header = gr.HTML(panels.header(None), elem_id="header")
            with gr.Column(elem_id="verdict"):
                self.verdict.place_signing()
        self.settings = self.picture.inputs
        self.outputs = [
            *(self.reading, self.token, self.current, self.reasons, self.header),
            *self.picture.outputs,
            *self.verdict.outputs,
        ]
        self._events()

    def _events(self) -> None:
        self.picture.listen(self.reading)
        self.current.change(None, self.current, None, js="(place) => medtl.mark(place)", **DRAWS)
        looked = [self.current, *self.picture.outputs]
        given = [self.reading, *self.settings]
        self.pick.click(self.look_at, [*given, self.current], looked, js=PICKED, **DRAWS)
        self.picture.finding.input(self.look_at, [*given, self.picture.finding], looked, **DRAWS)

    def look_at(self, reading: Reading | None, window: str, invert: bool, plane: str, which: str) -> Any:
        """Another finding, by its name or its place."""
        findings = list(self.bundle.findings)
        if reading is None or reading.scan is None:
            return gr.skip()
        name = which if which in findings else findings[int(which)]
        place = str(findings.index(name))
        return {self.current: place} | self.picture.shown(reading, name, window, invert, plane)

    def empty(self) -> Changes:
        """No case."""
        return {
            self.reading: None,
            self.token: "",
            self.reasons: "",
            self.header: panels.header(None),
            **self.picture.empty(),
            **self.verdict.empty(),
        }

    def refused(self, problem: ScanError) -> Changes:
        """An upload that could not be used."""
        return self.empty() | {self.picture.scan: panels.refusal(problem)}

    def shown(
        self, reading: Reading, window: str, invert: bool, plane: str, *, priors: Sequence[Case], kept: Choices | None
    ) -> Changes:
        """A case as this reader may see it.

        Args:
            priors: other cases of the same patient.
            kept: choices that he took back.
        """
        name, findings = reading.looked_at(), list(self.bundle.findings)
        changes = {
            self.reading: reading,
            self.token: reading.token,
            self.current: str(findings.index(name)) if name in findings else "0",
            self.reasons: self.reasons_panel(reading, priors),
            **self.verdict.shown(reading, kept),
        }
        if reading.scan is None:
            assert reading.problem is not None
            why = panels.without_pixels(f"Case {reading.stored.id}", reading.problem)
            return changes | {self.header: panels.header(None), **self.picture.empty(), self.picture.scan: why}
        scan = reading.scan.prediction.scan
        return changes | {
            self.header: panels.header(scan, masked=not reading.by.leads),
            **self.picture.shown(reading, name, window, invert, plane),
        }

    def reasons_panel(self, reading: Reading, priors: Sequence[Case]) -> str:
        """What speaks for and against the detector's answer; while that is hidden, only what does not give it away."""
        return tables.prior_list(reading.stored, priors)
