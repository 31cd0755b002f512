"""The findings of a case with the reader's choices, and what he signs below them."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import panels
from app.choices import TRUTH, Choices, choice_of, offered, verdict_on
from app.reading import Reading
from medtl.inference.bundle import Bundle
from medtl.review.records import LONGEST_NOTE, UNASKED, VERDICTS, Region

NEXT, SPEAK, DECIDE, CORRECT = "Save and next", "Save and show answer", "Decide and next", "Next case"


class VerdictView:
    """A choice for each finding; relabel, bad image, note; save, skip, undo.

    `choices` are the inputs of a save, in the order of `chosen`; `outputs` all that a case changes.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.rows: list[gr.HTML] = []
        self.radios: list[gr.Radio] = []

    def place_findings(self) -> None:
        """A row a finding."""
        for name in self.bundle.findings:
            with gr.Column(elem_classes="one"):
                self.rows.append(gr.HTML(panels.nothing_row(name), elem_classes="score"))
                self.radios.append(
                    gr.Radio(
                        _labelled(VERDICTS),
                        show_label=False,
                        label=f"Verdict on {panels.words(name)}",
                        container=False,
                        elem_classes="choice",
                    )
                )

    def place_signing(self) -> None:
        """What is said about the whole case."""
        with gr.Row(elem_id="more"):
            self.instead = gr.Dropdown(
                [("–", ""), *((panels.words(name), name) for name in self.bundle.findings)],
                value="",
                label="It is instead",
                filterable=False,
                elem_id="instead",
                interactive=True,
            )
            self.bad_image = gr.Checkbox(False, label="Bad image", elem_id="bad", interactive=True)
        with gr.Row(elem_id="mark", visible=False) as self.mark_row:
            self.to_teach = gr.Dropdown(
                [], value="", label="To teach", allow_custom_value=True, elem_id="to-teach", interactive=True
            )
            self.marked = gr.Radio(
                _labelled(TRUTH),
                show_label=False,
                label="The finding to be taught is",
                container=False,
                elem_id="marked",
                elem_classes="choice",
                interactive=True,
            )
        self.note = gr.Textbox(
            label="Note", lines=2, max_lines=2, max_length=LONGEST_NOTE, elem_id="note", placeholder="Note, optional"
        )
        with gr.Row(elem_id="sign"):
            self.undo = gr.Button("Undo", elem_id="undo", interactive=False)
            self.skip = gr.Button("Skip", elem_id="skip", interactive=False)
            self.save = gr.Button(NEXT, variant="primary", elem_id="save", interactive=False)
        self.saved = gr.HTML("", elem_id="saved")
        self.choices = [self.note, self.instead, self.bad_image, self.to_teach, self.marked, *self.radios]
        self.outputs = [*self.rows, *self.choices, self.save, self.skip]

    def offer(self, names: Sequence[str], *, leads: bool) -> dict[Any, Any]:
        """The findings that are being marked; only a lead begins another one."""
        choices = [(panels.words(name), name) for name in names if name not in self.bundle.findings]
        return {
            self.mark_row: gr.update(visible=leads or bool(choices)),
            self.to_teach: gr.update(choices=choices, value=choices[0][1] if choices else ""),
        }

    def chosen(
        self, note: str, instead: str, bad_image: bool, to_teach: str, marked: str | None, *said: str | None,
        region: Region | None, looked_at: str,
    ) -> Choices:  # fmt: skip
        """What stands on the page."""
        return Choices(
            said=dict(zip(self.bundle.findings, said, strict=True)),
            instead=instead or "",
            bad_image=bool(bad_image),
            note=note or "",
            region=region,
            looked_at=looked_at,
            to_teach=to_teach or "",
            marked=marked,
        )

    def empty(self) -> dict[Any, Any]:
        """No case: nothing to choose."""
        rows = {row: panels.nothing_row(name) for row, name in zip(self.rows, self.bundle.findings, strict=True)}
        return rows | {
            **{radio: gr.update(value=None) for radio in self.radios},
            self.note: "",
            self.instead: "",
            self.bad_image: False,
            self.marked: gr.update(value=None),
            self.save: gr.update(interactive=False, value=NEXT),
            self.skip: gr.update(interactive=False),
        }

    def shown(self, reading: Reading, kept: Choices | None = None) -> dict[Any, Any]:
        """A case with what this reader had said about it before, or with choices that were kept.

        Args:
            kept: what he had chosen before he took it back.
        """
        changes: dict[Any, Any] = {}
        beside = not (reading.blind or reading.decides or reading.shown_after)
        scores = {score.finding: score for score in reading.stored.scores}
        for row, radio, name in zip(self.rows, self.radios, self.bundle.findings, strict=True):
            score = scores.get(name)
            if score is None:  # of another bundle, and the scan is not there to be scored by this one
                changes |= {row: panels.nothing_row(name), radio: gr.update(value=None)}
                continue
            of_it = [said for said in reading.said if said.finding == name]
            html = panels.hidden_row(name) if reading.blind else panels.finding_row(name, score.threshold, score)
            readers = [said for said in of_it if not said.adjudicates]
            changes[row] = html + (panels.readers_said(readers) if reading.decides else "")
            choices = offered(score.decision, beside_the_answer=beside)
            mine = [said for said in of_it if said.adjudicates or not reading.decides]
            before = choice_of(mine[-1], choices) if mine else None
            if kept is not None:
                before = _fitting(kept.said.get(name), score.decision, choices)
            changes[radio] = gr.update(choices=_labelled(choices), value=before)
        changes |= self._mark(reading, kept)
        own = [said for said in reading.said if said.reader == reading.by.name]
        notes = kept.note if kept is not None else own[-1].note if own else ""
        bad = kept.bad_image if kept is not None else bool(own) and own[-1].bad_image
        save = SPEAK if reading.blind else DECIDE if reading.decides else CORRECT if reading.shown_after else NEXT
        return changes | {
            self.note: notes,
            self.instead: kept.instead if kept is not None else "",
            self.bad_image: bad,
            self.save: gr.update(interactive=reading.scan is not None, value=save),
            self.skip: gr.update(interactive=True),
        }

    def _mark(self, reading: Reading, kept: Choices | None) -> dict[Any, Any]:
        """What he had said about a finding to be taught; which one is looked for stays from case to case."""
        if kept is not None and kept.marked:
            return {self.to_teach: kept.to_teach, self.marked: gr.update(value=kept.marked)}
        own = [said for said in reading.said if said.reader == reading.by.name and said.decision == UNASKED]
        if own and own[-1].finding not in self.bundle.findings:
            return {self.to_teach: own[-1].finding, self.marked: gr.update(value=choice_of(own[-1], TRUTH))}
        return {self.marked: gr.update(value=None)}


def _labelled(choices: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(word.capitalize(), word) for word in choices]


def _fitting(choice: str | None, decision: str, choices: tuple[str, ...]) -> str | None:
    """A choice that was kept, in the words that are offered now: once the answer was shown they may be others."""
    if choice is None or choice in choices:
        return choice
    return verdict_on(choice, decision)[0] if choices == VERDICTS else None
