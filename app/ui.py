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

from app import panels, viewer
from app.case import Case, take
from app.events import ONE_AT_A_TIME, QUIET, SAVES
from app.viewer import Viewer
from medtl.data.sources import read_uploads
from medtl.errors import ReviewError, ScanError
from medtl.inference.runtime import Detector
from medtl.review import cases, verdicts
from medtl.review.records import LONGEST_NOTE, VERDICTS
from medtl.review.store import ReviewStore
from medtl.review.users import LONGEST_NAME, User

log = logging.getLogger("medtl.page")

HOURS_8 = 8 * 3600
HEAD = '<meta name="referrer" content="no-referrer">' + viewer.HEAD
THEME_CSS = Path(__file__).with_name("theme.css")


class Page:
    """The Gradio page of one detector and one review store.

    `blocks` is what is launched; the other attributes are its components, named by what they show.
    """

    def __init__(self, detector: Detector, store: ReviewStore) -> None:
        self.detector, self.store, self.bundle = detector, store, detector.bundle
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
                file_count="multiple" if self.bundle.spec.dims == 3 else "single",
                variant="primary",
                size="sm",
                elem_id="upload",
            )
            self.status = gr.HTML(panels.status("No scan open"), elem_id="status")
        with gr.Row(elem_id="main"):
            self.viewer = Viewer(self.detector, self.case)
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
            [self.upload, *self.viewer.controls],
            [
                *(self.case, self.token, self.status, self.header, *self.viewer.outputs),
                *(self.note, self.save, self.saved, *self.rows, *self.choices),
            ],
            trigger_mode="multiple",
            **ONE_AT_A_TIME,
        )
        self.save.click(
            self.keep,
            [self.case, self.token, self.note, self.reader, *self.choices],
            self.saved,
            **SAVES,
        )
        # What was saved is no longer what is chosen.
        for control in (*self.choices, self.note):
            control.input(None, None, self.saved, js="() => ''", **QUIET)

    def _row(self, finding: str) -> str:
        return panels.finding_row(finding, self.bundle.thresholds[finding], None)

    def _cleared(self, text: str, *, busy: bool, picture: str = "") -> dict[Any, Any]:
        """The page with no case on it; the reader's name stays."""
        return self.viewer.cleared(picture) | {
            self.case: None,
            self.token: "",
            self.status: panels.status(text, busy=busy),
            self.header: panels.header(None),
            self.note: "",
            self.save: gr.update(interactive=False),
            self.saved: "",
            **{row: self._row(name) for row, name in zip(self.rows, self.bundle.findings, strict=True)},
            **dict.fromkeys(self.choices),
        }

    def _refused(self, problem: ScanError) -> dict[Any, Any]:
        return self._cleared("No scan open", busy=False, picture=panels.refusal(problem))

    def open(self, upload: str | list[str] | None, *chosen: Any) -> Iterator[dict[Any, Any]]:
        """Read, show and score an upload."""
        if not upload:
            return
        files = take([upload] if isinstance(upload, str) else upload)
        name = files[0][0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        yield self._cleared(f"Reading {name}", busy=True)
        try:
            scan = read_uploads(files, dims=self.bundle.spec.dims)
            del files
            yield self.viewer.preview(scan, *chosen) | {
                self.header: panels.header(scan),
                self.status: panels.status(f"Scoring {name}", busy=True),
            }
            case = Case(name=name, prediction=self.detector.predict(scan))
            shown = self.viewer.show(case, *chosen, finding=case.leading())
        except ScanError as problem:
            yield self._refused(problem)
            return
        except Exception:
            log.exception("an upload could not be scored")
            yield self._refused(ScanError("internal", name, "medtl failed on this file; the server's log says where"))
            return
        yield shown | {
            self.case: case,
            self.token: case.token,
            self.status: panels.status(name),
            self.save: gr.update(interactive=True),
            **{
                row: panels.finding_row(score.finding, score.threshold, score)
                for row, score in zip(self.rows, case.prediction.scores, strict=True)
            },
        }

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
