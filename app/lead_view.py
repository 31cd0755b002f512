"""What leads see of the work: findings to be taught, the report on the reviews, and the verdicts as labels."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from app import panels, teaching_html
from app.auth import user_of
from app.events import LISTS, TEACHES
from app.teaching import Teacher
from medtl.errors import ReviewError
from medtl.inference.bundle import Bundle
from medtl.review import marks, report, verdicts
from medtl.review.export import as_csv, labels_of
from medtl.review.records import StoredVerdict
from medtl.review.store import ReviewStore
from medtl.review.users import User

# The labels go from the server's answer into a file, and are never a file that the server hands out.
DOWNLOAD = """(text) => {
  if (!text) return "";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  URL.revokeObjectURL(link.href);
  return "";
}"""
LOOK_AGAIN_S = 1.0


class LeadView:
    """Findings to be taught, the report, and the export.

    Args:
        bundle: of the detector at work.
        teacher: teaches what is chosen.
    """

    def __init__(self, store: ReviewStore, bundle: Bundle, teacher: Teacher, notice: gr.HTML) -> None:
        self.store, self.bundle, self.teacher, self.notice = store, bundle, teacher, notice
        with gr.Row(elem_id="export-row"):
            gr.HTML("<h2>Teach a finding</h2>")
            self.export = gr.Button("Export labels (labels.csv)", size="sm", elem_id="export")
        gr.HTML(teaching_html.rule())
        self.candidates = gr.HTML("", elem_id="candidates")
        with gr.Row(elem_id="teach-row"):
            self.finding = gr.Dropdown([], label="Finding", filterable=False, elem_id="teach-what", interactive=True)
            self.teach = gr.Button("Teach", variant="primary", size="sm", elem_id="teach", interactive=False)
        self.lesson = gr.HTML("", elem_id="lesson")
        self.report = gr.HTML("", elem_id="report")
        self.labels = gr.Textbox("", visible="hidden", elem_id="labels")
        self.outputs = [self.candidates, self.finding, self.teach, self.lesson, self.report, self.notice]
        exported = self.export.click(self.csv, None, [self.labels, self.notice], **LISTS)
        exported.then(None, self.labels, self.labels, js=DOWNLOAD, **LISTS)
        self.teach.click(self.teach_it, self.finding, [self.teach, self.lesson, self.notice], **TEACHES)

    def shown(self, by: User) -> dict[Any, Any]:
        """The work as it is now.

        Raises:
            ReviewError: he is no lead, or the store cannot be read.
        """
        _check(by)
        standing = verdicts.standing(self.store, read=True)
        return {
            **self._to_teach(standing),
            **self._last_lesson(),
            self.report: f'<div class="report">{report.sections(report.content_of(self.store, standing))}</div>',
        }

    def teach_it(self, request: gr.Request, finding: str | None) -> Iterator[dict[Any, Any]]:
        """Teach a finding, and say how it goes until it is done."""
        try:
            by = user_of(request)
            _check(by)
            if not finding:
                raise ReviewError("choose a finding first")
            self.teacher.begin(finding, marks.examples(verdicts.standing(self.store, read=True), finding), by=by)
        except ReviewError as problem:
            yield {self.notice: panels.banner(str(problem))}
            return
        while doing := self.teacher.busy():
            yield {self.teach: gr.update(interactive=False), self.lesson: teaching_html.busy(doing), self.notice: ""}
            self.teacher.wait(LOOK_AGAIN_S)
        yield {self.teach: gr.update(interactive=True)} | self._last_lesson()

    def csv(self, request: gr.Request) -> dict[Any, Any]:
        """The labels that readers settled on."""
        try:
            _check(user_of(request))
            standing = verdicts.standing(self.store, read=True)
            if not standing:
                raise ReviewError("there are no verdicts yet; save one first")
            return {self.labels: as_csv(labels_of(standing)), self.notice: ""}
        except ReviewError as problem:
            return {self.labels: "", self.notice: panels.banner(str(problem))}

    def _to_teach(self, standing: Sequence[StoredVerdict]) -> dict[Any, Any]:
        found = marks.candidates(standing, self.bundle.findings)
        ready = [(panels.words(each.finding), each.finding) for each in found if each.missing == (0, 0)]
        return {
            self.candidates: teaching_html.candidates(found),
            self.finding: gr.update(choices=ready, value=ready[0][1] if ready else None),
            self.teach: gr.update(interactive=bool(ready) and not self.teacher.busy()),
        }

    def _last_lesson(self) -> dict[Any, Any]:
        if doing := self.teacher.busy():
            return {self.lesson: teaching_html.busy(doing), self.notice: ""}
        try:
            taught = self.teacher.lesson()
        except ReviewError as problem:
            return {self.lesson: "", self.notice: panels.banner(str(problem))}
        said = "" if taught is None else teaching_html.lesson(taught, reviews=self.store.name)
        return {self.lesson: said, self.notice: ""}


def _check(by: User) -> None:
    if not by.leads:
        raise ReviewError(f"{by.name} is a {by.role}; only a lead sees what other readers said")
