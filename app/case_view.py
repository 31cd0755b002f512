"""The case on the page: the picture at the left; findings, reasons, facts and verdict at the right."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from app import panels, reasons, tables
from app.choices import Choices, text_of
from app.desk import Desk, Sheet
from app.events import DRAWS
from app.pictures import Pictures
from app.priors import Other
from app.reading import Reading
from app.verdict_view import VerdictView
from app.viewer import NO_HEAT, Viewer
from medtl.data.scan import Scan
from medtl.errors import ReviewError, ScanError
from medtl.review.users import User

HOURS_8 = 8 * 3600
HIDDEN = "Verdict first: what the detector says, and where it looked, is shown once you have spoken."
READERS = {1: "readers: present", 0: "readers: absent", None: "readers: not sure"}
PICKED = "(...given) => [...given.slice(0, -1), String(medtl.picked)]"
Changes = dict[Any, Any]


class CaseView:
    """What is shown of a case.

    `reading` is the case before the reader and `scan` its pixels, `token` is what his browser shows; `outputs` are all
    that another case changes.
    """

    def __init__(self, desk: Desk, pictures: Pictures) -> None:
        self.bundle, self._desk = desk.detector.bundle, desk
        self.reading = gr.State(None, time_to_live=HOURS_8)
        self.scan = gr.State(None, time_to_live=HOURS_8)
        self.token = gr.Textbox("", visible="hidden", elem_id="token")
        self.current = gr.Textbox("0", visible="hidden", elem_id="current")
        self.pick = gr.Button("Choose finding", visible="hidden", elem_id="pick")
        self.viewer = Viewer(desk.detector, self.scan, pictures)
        with gr.Column(elem_id="right"):
            self.verdict = VerdictView(self.bundle)
            with gr.Column(elem_id="facts"):
                self.verdict.place_findings()
                self.reasons = gr.HTML("", elem_id="reasons")
                self.priors = gr.HTML("", elem_id="priors")
                self.header = gr.HTML(panels.header(None), elem_id="header")
            with gr.Column(elem_id="verdict"):
                self.verdict.place_signing()
        self.settings = self.viewer.controls
        self.outputs = [
            *(self.reading, self.scan, self.token, self.current, self.reasons, self.priors, self.header),
            *self.viewer.outputs,
            *self.verdict.outputs,
        ]
        self._events()

    def _events(self) -> None:
        self.current.change(None, self.current, None, js="(place) => medtl.mark(place)", **DRAWS)
        given = [self.reading, *self.settings, self.current]
        changed = [self.current, self.reasons, *self.viewer.outputs]
        self.pick.click(self.look_at, given, changed, js=PICKED, **DRAWS)
        chosen = [self.reading, self.viewer.finding]
        self.viewer.finding.input(self.follow, chosen, [self.current, self.reasons], **DRAWS)

    def look_at(self, reading: Reading | None, *given: Any) -> Any:
        """Another finding, whose place comes last: its heatmap, if the reader may see it."""
        *settings, place = given
        if reading is None or reading.scan is None or not 0 <= int(place) < len(self.bundle.findings):
            return gr.skip()
        if reading.blind:
            return {self.current: place}
        name = self.bundle.findings[int(place)]
        shown: Changes = self.viewer.explain(reading.scan, name, *settings)
        return {self.current: place, self.viewer.finding: name, self.reasons: self._reasons(reading, name)} | shown

    def follow(self, reading: Reading | None, finding: str) -> Any:
        """The finding whose heatmap was chosen is the one that the keys and the reasons speak about."""
        if reading is None or finding == NO_HEAT:
            return gr.skip()
        return {self.current: str(self.bundle.findings.index(finding)), self.reasons: self._reasons(reading, finding)}

    def finding_at(self, place: int) -> str:
        """The finding that a region was marked for.

        Raises:
            ReviewError: there are fewer findings.
        """
        if place >= len(self.bundle.findings):
            raise ReviewError(f"a region is marked for finding {place + 1}, and there is none; mark it again")
        return self.bundle.findings[place]

    def empty(self, picture: str = "") -> Changes:
        """No case; in the scan's place a fragment such as a refusal."""
        return {
            self.reading: None,
            self.scan: None,
            self.token: "",
            self.reasons: "",
            self.priors: "",
            self.header: panels.header(None),
            **self.viewer.cleared(picture),
            **self.verdict.empty(),
        }

    def refused(self, problem: ScanError) -> Changes:
        """An upload that could not be used."""
        return self.empty(panels.refusal(problem))

    def pictured(self, scan: Scan, by: User, *settings: Any) -> Changes:
        """The scan alone, while the detector is at work; nothing of a volume, whose slice follows from the heatmap."""
        if scan.dims == 3:
            return {}
        header = {self.header: panels.header(scan, masked=not by.leads)}
        return header | self.viewer.picture(scan, by.name, *settings)

    def draw(self, by: User, settings: Sequence[Any], sheet: Sheet) -> None:
        """Draw what will be shown of a case that is being opened, so that it is there by then."""
        if sheet.pixels is not None:
            self.pictured(sheet.pixels, by, *settings)
        if sheet.scan is not None:
            self.viewer.draw(replace(sheet.scan, owner=by.name), *settings)

    def shown(self, reading: Reading, *settings: Any, others: Sequence[Other], kept: Choices | None) -> Changes:
        """A case as this reader may see it.

        Args:
            others: other cases of the same patient.
            kept: choices that he took back.
        """
        findings, marked = list(self.bundle.findings), reading.marked(kept)
        name, region = (reading.looked_at(), None) if marked is None or marked[0] not in findings else marked
        changes = {
            self.reading: reading,
            self.scan: reading.scan,
            self.token: reading.token,
            self.current: str(findings.index(name)) if name in findings else "0",
            self.reasons: self._reasons(reading, name),
            self.priors: tables.prior_list(others),
            **self.verdict.shown(reading, kept),
        }
        if reading.scan is None:
            assert reading.problem is not None
            why = panels.without_pixels(f"Case {reading.stored.id}", reading.problem)
            return changes | {self.header: panels.header(None), **self.viewer.cleared(why)}
        changes[self.header] = panels.header(reading.scan.prediction.scan, masked=not reading.by.leads)
        if reading.blind:
            changes |= self.viewer.show(reading.scan, *settings, finding=NO_HEAT)
            return changes | {
                self.viewer.caption: panels.caption(HIDDEN),
                self.viewer.finding: gr.update(value=NO_HEAT, interactive=False),
            }
        changes |= self.viewer.show(reading.scan, *settings, finding=name)
        if region is not None:
            changes[self.viewer.region] = text_of(region, findings.index(name))
        return changes | {self.viewer.finding: gr.update(value=name, interactive=True)}

    def _reasons(self, reading: Reading, finding: str) -> str:
        """What speaks for and against the detector's answer on one finding; nothing while that is hidden."""
        if reading.scan is None or reading.blind:
            return ""
        detector, prediction = self._desk.detector, reading.scan.prediction
        alike = detector.similar(prediction)
        said = self._desk.settled([each.scan_id for each in alike])
        readers = {scan_id: READERS[label] for (scan_id, name), label in said.items() if name == finding}
        found = detector.doubts(prediction)
        return (
            reasons.wording(prediction[finding], found, named=len(self.bundle.findings) > 1)
            + reasons.doubts(found)
            + reasons.similar_cases(alike, finding, said=readers)
        )
