"""Whatever is clicked in whatever order, the store holds what the page says is saved."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from app.desk import Desk
from medtl.inference.runtime import Detector
from medtl.review import verdicts
from medtl.review.store import ReviewStore
from tests.app.acting import SCANS, Actor, add_cases

Said = dict[str, tuple[int | None, bool]]
"""By finding: the label, None where unsure, and whether the image is bad."""
THRESHOLDS = (0.43, 0.5)


def meant(word: str, detected: int) -> int | None:
    """What a choice beside the detector's answer comes to."""
    return {"agree": detected, "disagree": 1 - detected, "present": 1, "absent": 0, "unsure": None}[word]


class Clicks(RuleBasedStateMachine):
    """A reader who clicks faster than the server answers: what follows a save may come late."""

    detector: Detector
    verdict_first = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.reviews = ReviewStore(Path(self.folder.name) / "r.db")
        numbers = add_cases(self.reviews, Path(self.folder.name), self.detector.bundle.bundle_id)
        self.detected = dict(
            zip(numbers, ([int(p >= t) for p, t in zip(each, THRESHOLDS, strict=True)] for each in SCANS), strict=True)
        )
        self.actor = Actor(self.detector, self.reviews, verdict_first=self.verdict_first)
        self.bad, self.waiting = False, 0
        self.promised: dict[int, Said] = {number: {} for number in numbers}
        self.does(self.actor.next)

    def teardown(self) -> None:
        self.actor.page.desk.close()
        self.reviews.close()
        self.folder.cleanup()

    def does(self, act: Callable[[], Any]) -> None:
        """The server answers; what it draws replaces what was chosen."""
        before = len(self.actor.sent)
        act()
        for changes in self.actor.sent[before:]:
            self.bad = changes.get(self.actor.page.case.verdict.bad_image, self.bad)

    def number(self) -> int | None:
        return None if self.actor.reading is None else self.actor.reading.stored.id

    def on_the_page(self) -> Said:
        """What the controls of the case say."""
        number, found = self.number(), {}
        for place, (name, word) in enumerate(zip(self.detector.bundle.findings, self.actor.choices(), strict=True)):
            if word is not None or self.bad:
                label = None if word is None or self.bad else meant(word, self.detected[number][place])
                found[name] = (label, self.bad)
        return found

    @precondition(lambda self: self.number() is not None)
    @rule(place=st.integers(0, 1), word=st.integers(0, 2))
    def choose(self, place: int, word: int) -> None:
        radio = self.actor.page.case.verdict.radios[place]
        offered = self.actor.shown[radio]["choices"]
        self.actor.shown[radio] = self.actor.shown[radio] | {"value": offered[word][1]}

    @precondition(lambda self: self.number() is not None)
    @rule()
    def call_it_bad(self) -> None:
        self.bad = not self.bad

    @precondition(lambda self: self.number() is not None)
    @rule()
    def save(self) -> None:
        number, says = self.number(), self.on_the_page()
        self.does(lambda: self.actor.save(*self.actor.choices(), bad=self.bad))
        self.waiting += 1
        if "Not saved: " not in str(self.actor.sent[-1].get(self.actor.page.frame.notice, "")):
            self.promised[number] = says
            assert self.actor.shown[self.actor.page.flow.step], "something follows"

    @precondition(lambda self: self.waiting)
    @rule()
    def go(self) -> None:
        """What followed one of the saves comes at last; after the last one the page does not stand still."""
        self.waiting -= 1
        token, step = self.actor.shown[self.actor.page.case.token], self.actor.shown[self.actor.page.flow.step]
        self.does(self.actor.go)
        if step.endswith(f" {token}"):
            assert self.actor.shown[self.actor.page.case.token] != token

    @rule(number=st.integers(1, len(SCANS)))
    def open(self, number: int) -> None:
        self.does(lambda: self.actor.open(number))

    @rule()
    def skip(self) -> None:
        self.does(self.actor.skip)

    @rule()
    def undo(self) -> None:
        history = self.actor.shown[self.actor.page.flow.history]
        self.does(self.actor.undo)
        if history:
            self.promised[history[-1].case_id] = {}
            assert self.number() == history[-1].case_id

    @invariant()
    def the_store_holds_what_was_promised(self) -> None:
        found: dict[int, Said] = {number: {} for number in self.promised}
        for row in verdicts.standing(self.reviews):
            found[row.case_id][row.finding] = (row.label, row.bad_image)
        assert found == self.promised


@pytest.mark.parametrize("verdict_first", [False, True])
def test_any_order_of_clicks(verdict_first: bool, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desk, "read_ahead", lambda *_, **__: None)
    machine = type("These", (Clicks,), {"detector": detector, "verdict_first": verdict_first})
    some = settings(max_examples=12, stateful_step_count=14, deadline=None, database=None, derandomize=True)
    run_state_machine_as_test(machine, settings=some)
