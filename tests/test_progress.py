"""The progress line: plain and seldom when piped, live on a terminal, with the time that is left."""

import sys

import pytest

from medtl import progress as module
from medtl.progress import clock, progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7810, "2 h 10 min"),
    ],
)
def test_clock_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_plain_lines_when_piped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("pretraining", 100, unit="steps", start=20) as update:
        for done in range(21, 101):
            now[0] += 1.0
            update(done, loss="0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pretraining: 30/100 steps  loss 0.5  1 min 10 s left", (
        "only steps of this call count for the rate"
    )
    assert lines[-1] == "pretraining: 100/100 steps  loss 0.5  0 s left"
    assert len(lines) == 8, "one line every ten seconds"


def test_a_live_line_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("reading", 3) as update:
        for done in (1, 2, 3):
            update(done, rejected=0)
    assert "reading: 3/3 files  rejected 0" in capsys.readouterr().err
