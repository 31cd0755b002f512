"""The page's frame: who is at it, the views, and the footer."""

from pathlib import Path
from typing import Any

import gradio as gr

from app import panels, viewer
from app.auth import user_of
from app.case_view import CaseView
from app.desk import Desk
from app.events import LISTS
from app.flow import Flow
from app.frame import Frame
from app.lead_view import LeadView
from app.pictures import Pictures
from app.teaching import Teacher
from app.worklist_view import WorklistView
from medtl.errors import ReviewError
from medtl.inference.runtime import Detector
from medtl.review import marks
from medtl.review.store import ReviewStore

SCRIPT = Path(__file__).with_name("page.js")
# Gradio keeps style sheets to the inside of its container, and which view is shown is the root element's to say.
STYLE = """
:root:not([data-view="worklist"], #none) #worklist, :root:not([data-view="case"], #none) #case,
:root:not([data-view="agreement"], #none) #agreement { display: none !important; }
:root.no-heat:not(#none) :is(#heat, #contour) { visibility: hidden; }
"""
HEAD = (
    f'<meta name="referrer" content="no-referrer"><style>{STYLE}</style>'
    f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>{viewer.HEAD}"
)
STYLES = [Path(__file__).with_name(name) for name in ("theme.css", "reasons.css")]
SHOW = "(view) => medtl.show(view)"


class Page:
    """The Gradio page of one detector and one review store; `blocks` is what is launched.

    Args:
        folder: where the detector's bundle lies.
        readings: how many readers have to read a case that is uploaded.
        verdict_first: hide the detector's answer until the reader has spoken.
    """

    def __init__(
        self, detector: Detector, store: ReviewStore, *, folder: Path, readings: int = 1, verdict_first: bool = False
    ) -> None:
        self.store = store
        self.desk = Desk(detector, store, readings=readings)
        self.pictures = Pictures()
        self.teacher = Teacher(self.desk, folder)
        with gr.Blocks(title="medtl review", analytics_enabled=False, fill_width=True, delete_cache=(60, 60)) as blocks:
            frame = self._top(volumes=detector.bundle.spec.dims == 3)
            with gr.Column(elem_id="worklist"):
                self.worklist = WorklistView(detector.bundle, store, frame.notice, verdict_first=verdict_first)
            with gr.Row(elem_id="case"):
                self.case = CaseView(self.desk, self.pictures)
            with gr.Column(elem_id="agreement"):
                self.lead = LeadView(store, detector.bundle, self.teacher, frame.notice)
            gr.HTML(panels.footer(detector.bundle), elem_id="footer")
            gr.HTML(panels.KEYS, elem_id="help")
            self.frame = frame
            self.flow = Flow(self.desk, store, self.case, frame, self.worklist.where, verdict_first=verdict_first)
            self._events(blocks)
        self.blocks = blocks

    def _top(self, *, volumes: bool) -> Frame:
        with gr.Row(elem_id="top"):
            gr.HTML("<h1>medtl review</h1>", elem_id="title")
            self.to_worklist = gr.Button("Worklist", size="sm", elem_id="to-worklist")
            self.to_case = gr.Button("Case", size="sm", elem_id="to-case")
            self.to_agreement = gr.Button("Reviews", size="sm", elem_id="to-agreement", visible=False)
            count: Any = "multiple" if volumes else "single"
            upload = gr.UploadButton("Open scan", file_count=count, size="sm", elem_id="upload")
            status = gr.HTML(panels.status("No case open"), elem_id="status")
            self.who = gr.HTML("", elem_id="who")
        view = gr.Textbox("worklist", visible="hidden", elem_id="view")
        return Frame(view=view, status=status, notice=gr.HTML("", elem_id="notice"), upload=upload)

    def _events(self, blocks: gr.Blocks) -> None:
        work, view = self.worklist, self.frame.view
        self.flow.listen(work.next_case, work.next_to_decide)
        view.change(None, view, None, js=SHOW, **LISTS)
        view.change(self.arrive, [view, *work.filters], work.outputs, **LISTS)
        self.to_worklist.click(None, None, view, js="() => 'worklist'", **LISTS)
        self.to_case.click(None, None, view, js="() => 'case'", **LISTS)
        self.to_agreement.click(self.agreement, None, [view, *self.lead.outputs], **LISTS)
        sign = self.case.verdict
        greeted = [self.who, self.to_agreement, work.reader, work.next_to_decide, sign.mark_row, sign.to_teach]
        greeted += work.outputs
        blocks.load(None, None, None, js="() => medtl.show('worklist')", **LISTS)
        blocks.load(self.greet, work.filters, greeted, **LISTS)

    def greet(self, request: gr.Request, *filters: str) -> dict[Any, Any]:
        """The page is opened: say who is at it, and show what he has to read."""
        try:
            by = user_of(request)
            return {
                self.who: panels.who(by),
                self.to_agreement: gr.update(visible=by.leads),
                self.worklist.next_to_decide: gr.update(visible=by.leads),
                self.worklist.reader: self.worklist.readers(by),
                **self.case.verdict.offer(marks.names(self.store), leads=by.leads),
                **self.worklist.page(by, [], *filters),
            }
        except ReviewError as problem:
            return {self.frame.notice: panels.banner(str(problem))}

    def arrive(self, request: gr.Request, view: str, *filters: str) -> dict[Any, Any]:
        """The worklist as it is when one comes back to it."""
        return self.worklist.first(request, *filters) if view == "worklist" else gr.skip()

    def agreement(self, request: gr.Request) -> dict[Any, Any]:
        """What leads see."""
        try:
            return {self.frame.view: "agreement"} | self.lead.shown(user_of(request))
        except ReviewError as problem:
            return {self.frame.notice: panels.banner(str(problem))}
