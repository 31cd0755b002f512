"""The worklist: which cases there are, in the order in which they should be read."""

from typing import Any

import gradio as gr

from app import panels, tables
from app.auth import user_of
from app.events import LISTS
from app.frame import Listed
from medtl.errors import ReviewError
from medtl.inference.bundle import Bundle
from medtl.review import users, worklist
from medtl.review.records import DECISIONS
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.worklist import Filter

ROWS = 50
SORTS = {"urgency": "Most urgent", "uncertainty": "Least sure", "oldest": "Oldest", "newest": "Newest"}
TELLING = ("uncertainty",)
"""Orders that tell what the detector said."""


class WorklistView:
    """Filters, a page of cases, and the way to the next page.

    Args:
        verdict_first: what the detector said is not shown of cases that the user has not read, and cannot be asked for.

    `where` is what was applied last, a state.
    """

    def __init__(self, bundle: Bundle, store: ReviewStore, notice: gr.HTML, *, verdict_first: bool) -> None:
        self.store, self.notice, self.verdict_first = store, notice, verdict_first
        self.where, self.ends, self.after = gr.State(Listed()), gr.State([]), gr.State(None)
        told = not verdict_first
        with gr.Row(elem_id="filters"):
            found = [(panels.words(name), name) for name in bundle.findings]
            self.finding = _menu("Finding", [("Any", ""), *found], visible=told)
            self.decision = _menu("Decision", [("Any", ""), *((w.capitalize(), w) for w in DECISIONS)], visible=told)
            self.status = _menu("Status", [("Any", ""), *((w.capitalize(), n) for n, w in tables.STATUS.items())])
            self.reader = _menu("Read by", [("Anybody", "")])
            self.begin = gr.Textbox(label="Received from", placeholder="YYYY-MM-DD", elem_classes="day", max_lines=1)
            self.end = gr.Textbox(label="Before", placeholder="YYYY-MM-DD", elem_classes="day", max_lines=1)
            orders = [(said, name) for name, said in SORTS.items() if told or name not in TELLING]
            self.sort = _menu("Order", orders, value="urgency")
        with gr.Row(elem_id="takes"):
            self.next_case = gr.Button("Next case", size="sm", variant="primary", elem_id="next-case")
            self.next_to_decide = gr.Button("Next to decide", size="sm", elem_id="next-to-decide", visible=False)
            self.refresh = gr.Button("Refresh", size="sm", elem_id="refresh")
            self.position = gr.HTML("", elem_id="position")
            self.newer = gr.Button("Previous page", size="sm", interactive=False, elem_id="newer")
            self.older = gr.Button("Next page", size="sm", interactive=False, elem_id="older")
        self.table = gr.HTML("", elem_id="table")
        self.filters = [self.finding, self.decision, self.status, self.reader, self.begin, self.end, self.sort]
        self.outputs = [
            *(self.table, self.position, self.newer, self.older, self.where, self.ends, self.after, self.notice),
        ]
        self._events()

    def _events(self) -> None:
        for menu in (self.finding, self.decision, self.status, self.reader, self.sort):
            menu.input(self.first, self.filters, self.outputs, **LISTS)
        for day in (self.begin, self.end):
            day.submit(self.first, self.filters, self.outputs, **LISTS)
            day.blur(self.first, self.filters, self.outputs, **LISTS)
        self.refresh.click(self.first, self.filters, self.outputs, **LISTS)
        turned = (
            self.older.click(self.forward, [self.ends, self.after, *self.filters], self.outputs, **LISTS),
            self.newer.click(self.back, [self.ends, *self.filters], self.outputs, **LISTS),
        )
        for each in turned:
            each.then(None, None, None, js="() => medtl.top()", **LISTS)

    def first(self, request: gr.Request, *filters: str) -> dict[Any, Any]:
        """The first page."""
        return self._listed(request, [], filters)

    def forward(self, request: gr.Request, ends: list[str], after: str | None, *filters: str) -> dict[Any, Any]:
        """The page that begins after the one that is shown."""
        return self._listed(request, [*ends, after] if after is not None else ends, filters)

    def back(self, request: gr.Request, ends: list[str], *filters: str) -> dict[Any, Any]:
        """The page before."""
        return self._listed(request, ends[:-1], filters)

    def readers(self, by: User) -> dict[Any, Any]:
        """Whose cases this user may ask for."""
        names = [user.name for user in users.listing(self.store)] if by.leads else [by.name]
        return gr.update(choices=[("Anybody", ""), *(("you" if name == by.name else name, name) for name in names)])

    def _listed(self, request: gr.Request, ends: list[str], filters: tuple[str, ...]) -> dict[Any, Any]:
        try:
            return self.page(user_of(request), ends, *filters) | {self.notice: ""}
        except ReviewError as problem:
            return {self.notice: panels.banner(str(problem))}

    def page(
        self, by: User, ends: list[str], finding: str, decision: str, status: str, reader: str, begin: str, end: str,
        sort: str,
    ) -> dict[Any, Any]:  # fmt: skip
        """A page of cases as one user sees it.

        Args:
            ends: where each page before this one ended.

        Raises:
            ReviewError: a filter that cannot be used, or the store cannot be read.
        """
        where = Filter(
            finding="" if self.verdict_first else finding or "",
            decision="" if self.verdict_first else decision or "",
            status=status or "",
            reader=reader or "",
            received_from=(begin or "").strip(),
            received_before=(end or "").strip(),
        )
        sort = "urgency" if self.verdict_first and sort in TELLING else sort
        found = worklist.page(self.store, by=by, where=where, sort=sort, after=ends[-1] if ends else None, limit=ROWS)
        count = worklist.count(self.store, by=by, where=where)
        first = len(ends) * ROWS
        said = f"Cases {first + 1:,} to {first + len(found.cases):,} of {count:,}" if found.cases else "No cases"
        return {
            self.table: tables.case_table(found.cases, by=by, told=lambda case: not self.verdict_first or case.read),
            self.position: panels.status(said),
            self.newer: gr.update(interactive=bool(ends)),
            self.older: gr.update(interactive=found.after is not None),
            self.where: Listed(filter=where, sort=sort),
            self.ends: ends,
            self.after: found.after,
        }


def _menu(label: str, choices: list[tuple[str, str]], *, value: str = "", visible: bool = True) -> gr.Dropdown:
    return gr.Dropdown(
        choices, value=value, label=label, filterable=False, interactive=True, visible=visible, elem_classes="menu"
    )
