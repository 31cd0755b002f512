"""What is around every view: who is at the page, where one is, what went wrong."""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from medtl.review.worklist import ALL, Filter


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The components that all views share.

    Args:
        view: the view that is shown: "worklist", "case" or "agreement".
        status: the line at the top.
        notice: what went wrong, until the next thing is done.
        upload: opens a scan.
    """

    view: gr.Textbox
    status: gr.HTML
    notice: gr.HTML
    upload: gr.UploadButton


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What the worklist shows, and in which order: a name of `worklist.SORTS`."""

    filter: Filter = ALL
    sort: str = "urgency"

    def asked(self) -> dict[str, Any]:
        """From which cases the next one is taken, and in which order; who has read them does not matter."""
        return {"where": replace(self.filter, reader=""), "sort": self.sort}
