"""How the page's events run: what waits for what, and what is said of those that fail."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from app import panels
from medtl.errors import ReviewError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = QUIET | {"concurrency_id": "case", "concurrency_limit": 1}
"""Whatever reads or draws a scan, so that readers do not fight over the processor and answers keep their order."""
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


def sentence(problem: ReviewError) -> str:
    """A message as it stands by itself."""
    text = str(problem)
    return text[:1].upper() + text[1:]
