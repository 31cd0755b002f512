"""From case to case: open, save, next, skip, take back. What a reader did is kept before the next case is opened."""

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from app import keeping, panels
from app.auth import user_of
from app.case import take
from app.case_view import CaseView, Changes
from app.choices import Choices, place_of, region_of
from app.desk import Desk
from app.events import DRAWS, ONE_AT_A_TIME, QUIET, SAVES, explained, sentence
from app.files import failed_on
from app.frame import Frame, Listed
from app.priors import others_of
from app.reading import Reading, Saved, begin
from medtl.errors import ReviewError, ScanError
from medtl.review import cases, records, verdicts, worklist
from medtl.review.store import ReviewStore
from medtl.review.users import User

log = logging.getLogger("medtl.page")
UNDONE_AT_MOST = 20
WANTED = "(wanted, ...given) => [medtl.wanted, ...given]"
NONE_LEFT = {
    "open": "No case is left to read here: all others are read, or are being read.",
    "adjudicate": "No case is left to decide here.",
}


class Flow:
    """The events that lead from one case to another.

    Args:
        where: a state, what the worklist shows and in which order; the next case is taken from there.
        verdict_first: hide the detector's answer until the reader has spoken.
    """

    def __init__(
        self, desk: Desk, store: ReviewStore, view: CaseView, frame: Frame, where: gr.State, *, verdict_first: bool
    ) -> None:
        self.desk, self.store, self.view, self.frame, self.where = desk, store, view, frame, where
        self.verdict_first = verdict_first
        self.step, self.history = gr.State(""), gr.State([])
        self.wanted = gr.Number(0, visible="hidden", elem_id="wanted")
        self.open_button = gr.Button("Open case", visible="hidden", elem_id="open")
        self.outputs = [
            *(*view.outputs, self.history, view.verdict.undo, view.verdict.saved),
            *(frame.notice, frame.status, frame.view),
        ]

    def listen(self, next_case: gr.Button, next_to_decide: gr.Button) -> None:
        """Bind the events; the buttons are the worklist's."""
        view, sign = self.view, self.view.verdict
        given = [view.reading, *view.settings]
        self.open_button.click(self.open, [self.wanted, *given], self.outputs, js=WANTED, **DRAWS)
        next_case.click(self.first_open, [self.where, *given], self.outputs, **ONE_AT_A_TIME)
        next_to_decide.click(self.first_to_decide, [self.where, *given], self.outputs, **ONE_AT_A_TIME)
        sign.skip.click(self.skip, [self.where, *given], self.outputs, **ONE_AT_A_TIME)
        sign.undo.click(self.undo, [self.history, *given], self.outputs, **ONE_AT_A_TIME)
        # What was refused before is not what is opened now; some uploads are turned away before they get here.
        refusal = view.viewer.scan
        self.frame.upload.click(
            None, [view.token, refusal], refusal, js="(token, scan) => (token ? scan : '')", **QUIET
        )
        self.frame.upload.upload(self.take_in, [self.frame.upload, *given], self.outputs, **ONE_AT_A_TIME)
        kept = sign.save.click(
            self.keep,
            [view.reading, self.history, view.token, view.viewer.region, *sign.choices],
            [self.step, self.history, view.reading, sign.undo, sign.saved, self.frame.notice],
            **SAVES,
        )  # fmt: skip
        kept.then(self.go, [self.step, self.where, *given], self.outputs, **ONE_AT_A_TIME)
        # What was saved is no longer what is chosen.
        for control in sign.choices:
            control.input(None, None, sign.saved, js="() => ''", **SAVES)

    @explained
    def open(self, request: gr.Request, wanted: float, reading: Reading | None, *settings: Any) -> Iterator[Changes]:
        """The case with this number, if nobody else holds it."""
        by = user_of(request)
        stored = cases.claim(self.store, int(wanted), by=by)
        self._let_go(reading, by, but=stored.id)
        yield from self._show(stored, by, settings)

    @explained
    def first_open(
        self, request: gr.Request, where: Listed, reading: Reading | None, *settings: Any
    ) -> Iterator[Changes]:
        """The first case to be read, in the chosen order, that nobody holds."""
        by = user_of(request)
        self._let_go(reading, by)
        yield from self._next(where, by, settings, status="open")

    @explained
    def first_to_decide(
        self, request: gr.Request, where: Listed, reading: Reading | None, *settings: Any
    ) -> Iterator[Changes]:
        """The first case, in the chosen order, about which readers disagree."""
        by = user_of(request)
        self._let_go(reading, by)
        yield from self._next(where, by, settings, status="adjudicate")

    @explained
    def skip(self, request: gr.Request, where: Listed, reading: Reading | None, *settings: Any) -> Iterator[Changes]:
        """The next case; one that was not read stays this reader's for a while, so as not to come back at once."""
        by = user_of(request)
        if reading is not None and reading.shown_after:
            self._let_go(reading, by)
        yield from self._next(where, by, settings, status=_kind(reading))

    @explained
    def take_in(
        self, request: gr.Request, upload: str | list[str] | None, reading: Reading | None, *settings: Any
    ) -> Iterator[Changes]:
        """A scan that was sent becomes a case."""
        if not upload:
            yield self._nothing()
            return
        files = take([upload] if isinstance(upload, str) else upload)
        name = files[0][0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        by = user_of(request)
        busy = {self.frame.status: panels.status(f"Reading {name}", busy=True), self.frame.view: "case"}
        yield self.view.empty() | busy | {self.frame.notice: "", self.view.verdict.saved: ""}
        nothing = {self.frame.status: panels.status("No case open")}
        try:
            self._let_go(reading, by)
            stored = self.desk.take_in(files, by=by)
        except ScanError as problem:
            yield self.view.refused(problem) | nothing
            return
        except ReviewError as problem:
            yield self.view.empty() | nothing | {self.frame.notice: panels.banner(sentence(problem))}
            return
        except Exception:
            log.exception("an upload could not be scored")
            yield self.view.refused(failed_on(name)) | nothing
            return
        yield from self._show(stored, by, settings, moves=False)

    def keep(
        self, request: gr.Request, reading: Reading | None, history: list[Saved], token: str, region: str,
        *chosen: Any,
    ) -> Changes:  # fmt: skip
        """Store the verdicts; says "saved" only of what is on disk, and never nothing. What comes next is for `go`."""
        before = next((each for each in history if each.token == token), None)
        onward = f"answer {token}" if reading is not None and reading.blind else f"next {token}"
        try:
            box = region_of(region or "")
            looked_at = "" if box is None else self.view.finding_at(place_of(region))
            choices = self.view.verdict.chosen(*chosen, region=box, looked_at=looked_at)
            if before is not None and before.choices == choices:  # a second click on what is saved
                return {self.step: onward}
            by = user_of(request)
            if reading is None or reading.token != token or reading.by.name != by.name:
                raise ReviewError("another case was opened meanwhile. Look again and choose")
            kept = keeping.keep(self.store, reading, choices, by=by, before=before)
        except ReviewError as problem:
            stays = before is None or not onward.startswith("answer")
            return {self.step: "" if stays else onward, self.frame.notice: panels.banner(f"Not saved: {problem}")}
        if kept is None:
            return {self.step: onward, self.view.verdict.saved: "", self.frame.notice: ""}
        saved, words = kept
        earlier = [each for each in history if each.case_id != saved.case_id]  # superseded, nothing to take back
        return {
            self.step: onward,
            self.history: [*earlier, saved][-UNDONE_AT_MOST:],
            self.view.verdict.undo: gr.update(interactive=True),
            self.view.verdict.saved: panels.saved(f"Saved case {saved.case_id} {words}"),
            self.frame.notice: "",
        }

    @explained
    def go(
        self, request: gr.Request, step: str, where: Listed, reading: Reading | None, *settings: Any
    ) -> Iterator[Changes]:
        """After a save: the detector's answer, or the next case; nothing where another case was opened meanwhile.

        Args:
            step: "answer" or "next", and the token of what was saved. Only `keep` writes it, so that nothing that is
                drawn meanwhile takes it away; a case that is shown anew has another token.
        """
        what, _, token = step.partition(" ")
        if not what or reading is None or reading.token != token:
            yield self._nothing()
            return
        by = user_of(request)
        if what == "next":
            self._let_go(reading, by)
            yield from self._next(where, by, settings, status=_kind(reading))
            return
        with contextlib.suppress(ReviewError):  # a second reader was faster: the answer is shown all the same
            cases.claim(self.store, reading.stored.id, by=by)
        rows = verdicts.of_case(self.store, reading.stored.id, by=by)
        mine = [row for row in verdicts.unsuperseded(rows) if row.reader == by.name]
        # What `keep` had to say stays on the page.
        yield self._drawn(reading.after_speaking(mine), by, settings) | {self.frame.notice: gr.skip()}

    @explained
    def undo(
        self, request: gr.Request, history: list[Saved], reading: Reading | None, *settings: Any
    ) -> Iterator[Changes]:
        """Take the last verdicts back and open their case again, with what was chosen."""
        if not history:
            yield self._nothing()
            return
        by, last = user_of(request), history[-1]
        rest = {self.history: history[:-1], self.view.verdict.undo: gr.update(interactive=len(history) > 1)}
        try:
            verdicts.undo(self.store, last.ids, by=by, token=f"undo-{last.token}")
        except ReviewError as problem:
            rows = verdicts.of_case(self.store, last.case_id, by=by)
            if set(last.ids) <= {row.id for row in verdicts.unsuperseded(rows)}:
                raise
            # Corrected from elsewhere meanwhile: it never can be taken back, and must not bar what was saved before.
            yield rest | {self.frame.notice: panels.banner(sentence(problem))}
            return
        rest[self.view.verdict.saved] = panels.saved(f"Taken back: case {last.case_id}")
        yield rest
        stored = cases.claim(self.store, last.case_id, by=by)
        self._let_go(reading, by, but=stored.id)
        for changes in self._show(stored, by, settings, kept=last.choices):
            yield changes | {self.view.verdict.saved: rest[self.view.verdict.saved]}

    def _nothing(self) -> Changes:
        """All stays as it is; an event that answers nothing at all would empty the page."""
        return {self.frame.notice: gr.skip()}

    def _next(self, where: Listed, by: User, settings: tuple[Any, ...], *, status: str) -> Iterator[Changes]:
        stored = worklist.next_case(self.store, by=by, status=status, **where.asked())
        if stored is None:
            left = {self.frame.notice: panels.banner(NONE_LEFT[status], good=True)}
            yield (
                self.view.empty()
                | left
                | {self.frame.status: panels.status("No case open"), self.frame.view: "worklist"}
            )
            return
        yield from self._show(stored, by, settings)
        self._read_ahead(where, by, settings, status)

    def _show(
        self, stored: records.Case, by: User, settings: tuple[Any, ...], *, kept: Choices | None = None,
        moves: bool = True,
    ) -> Iterator[Changes]:  # fmt: skip
        # Once, in the first answer: a reader who has gone back to the worklist meanwhile is not fetched from there.
        view: Changes = {self.frame.view: "case"} if moves else {}
        busy = {self.frame.status: panels.status(f"Reading case {stored.id}", busy=True)}
        blank = self.view.empty() | busy | view | {self.frame.notice: ""}
        emptied = not self.desk.is_ready(stored.id)
        seen: Changes = {}
        if emptied:
            yield blank
            seen = view
        for sheet in self.desk.open(stored, by=by, draw=partial(self.view.draw, by, settings)):
            if sheet.pixels is not None:
                picture = self.view.pictured(sheet.pixels, by, *settings)
                # Never this picture beside the case before, whose token would take the verdicts.
                yield (self._nothing() if emptied else blank) | picture
                seen = view | picture
        rows = verdicts.of_case(self.store, stored.id, by=by)
        reading = begin(sheet, rows, by=by, verdict_first=self.verdict_first)
        drawn = self._drawn(reading, by, settings, kept=kept) | view
        yield {part: value for part, value in drawn.items() if part not in seen or seen[part] != value}

    def _drawn(self, reading: Reading, by: User, settings: tuple[Any, ...], *, kept: Choices | None = None) -> Changes:
        others = others_of(self.store, reading.stored, by=by)
        what = " · to decide" if reading.decides else " · verdict first" if reading.blind else ""
        return self.view.shown(reading, *settings, others=others, kept=kept) | {
            self.frame.status: panels.status(f"Case {reading.stored.id}{what}"),
            self.frame.notice: "",
        }

    def _read_ahead(self, where: Listed, by: User, settings: tuple[Any, ...], status: str) -> None:
        """Begin to read what will probably be next, while this one is looked at, and draw it as this one is seen."""
        with contextlib.suppress(ReviewError):
            ahead = worklist.upcoming(self.store, by=by, status=status, **where.asked())
            if ahead is not None:
                self.desk.read_ahead(ahead, by=by, draw=partial(self.view.draw, by, settings))

    def _let_go(self, reading: Reading | None, by: User, *, but: int = 0) -> None:
        """Give back the case that is left, unless somebody else holds it by now."""
        if reading is None or reading.stored.id == but:
            return
        with contextlib.suppress(ReviewError):
            if cases.get(self.store, reading.stored.id, by=by).claimed_by == by.name:
                cases.release(self.store, reading.stored.id, by=by)


def _kind(reading: Reading | None) -> str:
    return "adjudicate" if reading is not None and reading.decides else "open"
