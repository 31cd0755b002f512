"""What leads see of the work: agreement between readers and with the detector, and the verdicts as labels."""

from typing import Any

import gradio as gr

from app import panels, tables
from app.auth import user_of
from app.events import LISTS
from medtl.errors import ReviewError
from medtl.review import figures, verdicts
from medtl.review.export import as_csv, settled
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


class LeadView:
    """Kappa by finding, agreement with the detector by week, and the export."""

    def __init__(self, store: ReviewStore, notice: gr.HTML) -> None:
        self.store, self.notice = store, notice
        with gr.Row(elem_id="export-row"):
            gr.HTML("<h2>Agreement between readers</h2>")
            self.export = gr.Button("Export labels (labels.csv)", size="sm", elem_id="export")
        self.kappas = gr.HTML("", elem_id="kappas")
        gr.HTML("<h2>Agreement with the detector</h2>")
        self.weeks = gr.HTML("", elem_id="weeks")
        self.labels = gr.Textbox("", visible="hidden", elem_id="labels")
        self.outputs = [self.kappas, self.weeks, self.notice]
        exported = self.export.click(self.csv, None, [self.labels, self.notice], **LISTS)
        exported.then(None, self.labels, self.labels, js=DOWNLOAD, **LISTS)

    def shown(self, by: User) -> dict[Any, Any]:
        """Agreement as it is now.

        Raises:
            ReviewError: he is no lead, or the store cannot be read.
        """
        _check(by)
        standing = verdicts.standing(self.store)
        return {
            self.kappas: tables.agreement_table(figures.kappas(standing)),
            self.weeks: tables.weeks_table(figures.agreement_by_week(standing)),
            self.notice: "",
        }

    def csv(self, request: gr.Request) -> dict[Any, Any]:
        """The labels that readers settled on."""
        try:
            _check(user_of(request))
            standing = verdicts.standing(self.store)
            if not standing:
                raise ReviewError("there are no verdicts yet; save one first")
            return {self.labels: as_csv(settled(standing)), self.notice: ""}
        except ReviewError as problem:
            return {self.labels: "", self.notice: panels.banner(str(problem))}


def _check(by: User) -> None:
    if not by.leads:
        raise ReviewError(f"{by.name} is a {by.role}; only a lead sees what other readers said")
