"""How the page's events run: what waits for what, and what is said of those that fail."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue

from app import panels
from medtl.errors import ReviewError

PAGES_AT_ONCE = 20
"""How many pages are answered at a time: each holds one of the 40 threads that all requests share. `Turns` says who
computes."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = QUIET | {"concurrency_id": "case", "concurrency_limit": PAGES_AT_ONCE}
"""Whatever reads or draws a scan: of each page one at a time, so that answers keep their order (`page_by_page`)."""
DRAWS: dict[str, Any] = ONE_AT_A_TIME | {"trigger_mode": "always_last"}
SAVES: dict[str, Any] = QUIET | {"concurrency_id": "store", "concurrency_limit": 1}
TEACHES: dict[str, Any] = QUIET | {"concurrency_id": "teach", "concurrency_limit": 4}
LISTS: dict[str, Any] = QUIET | {"concurrency_id": "lists", "concurrency_limit": 2}
Handler = Callable[..., Iterator[dict[Any, Any]]]


def explained(handler: Handler) -> Handler:
    """An event that says on the page what went wrong, and leaves everything else as it was.

    Its class has the page's `frame`.
    """

    @wraps(handler)
    def run(self: Any, *given: Any) -> Iterator[dict[Any, Any]]:
        try:
            yield from handler(self, *given)
        except ReviewError as problem:
            yield {self.frame.notice: panels.banner(sentence(problem))}
            return
        yield {self.frame.notice: gr.skip()}  # Gradio sends the last answer twice

    return run


def page_by_page(queue: Queue) -> None:
    """Let those events of a page that are one at a time wait for each other, and not for those of other pages.

    Gradio counts the events of all pages together. An event's states are looked up when it begins, so that of two at
    once the second would see the case before.
    """
    take = queue.get_events

    def next_events() -> tuple[list[Event], bool, str] | None:
        drawing = queue.event_queue_per_concurrency_id.get("case")
        if drawing is None:  # there was no such event yet
            return take()
        jobs = [event for job in queue.active_jobs for event in job or []]
        at_work = {event.session_hash for event in jobs if event.concurrency_id == "case"}
        first = next((event for event in drawing.queue if event.session_hash not in at_work), None)
        if first:
            drawing.queue.remove(first)
            drawing.queue.insert(0, first)
        else:
            drawing.concurrency_limit = 0
        try:
            return take()
        finally:
            drawing.concurrency_limit = PAGES_AT_ONCE

    queue.get_events = next_events


def sentence(problem: ReviewError) -> str:
    """A message as it stands by itself."""
    text = str(problem)
    return text[:1].upper() + text[1:]
