"""The page without a browser: its handlers, called as the page calls them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from app.reading import Reading
from app.ui import Page
from medtl.inference.runtime import Detector
from medtl.review import cases
from medtl.review.records import NewCase, Score
from medtl.review.store import ReviewStore
from tests.app.people import PEOPLE, as_user

SCANS = ((0.9, 0.1), (0.7, 0.2), (0.5, 0.1), (0.2, 0.1), (0.1, 0.1))
"""Probabilities of pneumonia and large nodule; the most urgent first."""


def write_scan(path: Path, seed: int) -> Path:
    grey = np.random.default_rng(seed).integers(30, 220, (40, 48)).astype(np.uint8)
    Image.fromarray(grey).save(path)
    return path


def new_case(path: Path, bundle_id: str, probabilities: tuple[float, float], **more: Any) -> NewCase:
    """A case of a file, with what a detector may have said about it."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    scores = tuple(
        Score(finding=f, probability=p, threshold=t, decision="positive" if p >= t else "negative")
        for f, p, t in zip(("pneumonia", "large_nodule"), probabilities, (0.43, 0.5), strict=True)
    )
    known = {"scan_id": sha256[:16], "sha256": sha256, "path": str(path), "bundle_id": bundle_id, "scores": scores}
    return NewCase(**known | more)


def add_cases(store: ReviewStore, folder: Path, bundle_id: str, *, first_seed: int = 0, **more: Any) -> list[int]:
    """A worklist of five files; the first is the most urgent."""
    paths = [write_scan(folder / f"scan{first_seed + number}.png", first_seed + number) for number in range(len(SCANS))]
    return cases.add(store, [new_case(path, bundle_id, each, **more) for path, each in zip(paths, SCANS, strict=True)])


class Actor:
    """Somebody at the page, in one browser session: what his page shows, and what he does."""

    def __init__(self, detector: Detector, store: ReviewStore, name: str = "Dr A", **options: Any) -> None:
        self.page = Page(detector, store, **{"folder": Path("no-bundle")} | options)
        self.store = store
        self.be(name)

    def be(self, name: str) -> "Actor":
        """A new session of this person at the same server."""
        self.request, self.name = as_user(name, role=PEOPLE[name]), name
        self.shown: dict[Any, Any] = {self.page.flow.history: [], self.page.case.reading: None, self.page.flow.step: ""}
        self.sent: list[dict[Any, Any]] = []
        return self

    @property
    def reading(self) -> Reading | None:
        return self.shown[self.page.case.reading]

    @property
    def notice(self) -> str:
        return str(self.shown.get(self.page.frame.notice, ""))

    @property
    def settings(self) -> list[Any]:
        return [control.value for control in self.page.case.settings]

    def told(self) -> str:
        """All that was sent to the browser, as text."""
        states = (self.page.case.reading, self.page.case.scan, self.page.flow.history, self.page.worklist.where)
        return " ".join(str(value) for changes in self.sent for key, value in changes.items() if key not in states)

    def take(self, answers: Iterable[Any] | dict[Any, Any]) -> "Actor":
        for changes in [answers] if isinstance(answers, dict) else answers:
            self.sent.append(changes)
            self.shown |= {part: value for part, value in changes.items() if value != gr.skip()}
        return self

    def open(self, number: int) -> "Actor":
        return self.take(self.page.flow.open(self.request, number, self.reading, *self.settings))

    def next(self) -> "Actor":
        return self.take(self.page.flow.first_open(self.request, self._where(), self.reading, *self.settings))

    def decide(self) -> "Actor":
        return self.take(self.page.flow.first_to_decide(self.request, self._where(), self.reading, *self.settings))

    def skip(self) -> "Actor":
        return self.take(self.page.flow.skip(self.request, self._where(), self.reading, *self.settings))

    def undo(self) -> "Actor":
        history = self.shown[self.page.flow.history]
        return self.take(self.page.flow.undo(self.request, history, self.reading, *self.settings))

    def upload(self, path: Path) -> "Actor":
        return self.take(self.page.flow.take_in(self.request, str(path), self.reading, *self.settings))

    def save(
        self, *said: str | None, note: str = "", instead: str = "", bad: bool = False, region: str = "",
        token: str | None = None, place: str | None = None, to_teach: str = "", marked: str | None = None,
    ) -> "Actor":  # fmt: skip
        token = self.shown.get(self.page.case.token, "") if token is None else token
        place = self.shown.get(self.page.case.current, "0") if place is None else place
        region = f"{region}@{place}" if region and "@" not in region else region
        flow = self.page.flow
        history = self.shown[flow.history]
        return self.take(
            flow.keep(self.request, self.reading, history, token, region, note, instead, bad, to_teach, marked, *said)
        )

    def go(self) -> "Actor":
        step = self.shown[self.page.flow.step]
        return self.take(self.page.flow.go(self.request, step, self._where(), self.reading, *self.settings))

    def choices(self) -> list[str | None]:
        """What the radio buttons show."""
        return [self.shown[radio]["value"] for radio in self.page.case.verdict.radios]

    def rows(self) -> str:
        """The findings as they are shown."""
        return " ".join(str(self.shown[row]) for row in self.page.case.verdict.rows)

    def _where(self) -> Any:
        return self.shown.get(self.page.worklist.where, self.page.worklist.where.value)
