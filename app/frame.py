"""What is around every view: who is at the page, where one is, what went wrong."""

from dataclasses import dataclass

import gradio as gr


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
