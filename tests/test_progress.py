"""The progress line: plain and seldom when piped, live on a terminal, with the time that is left."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl import progress as module
from medtl.progress import LEAST_ITEMS, LEAST_S, clock, counted, progress


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


@given(
    st.lists(st.floats(0.001, 100), min_size=1, max_size=8),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_no_time_is_left_by_the_first_item_alone(seconds: list[float], more: int, start: int) -> None:
    """Whatever the first item takes, nothing is said after it, and later it does not count."""
    now, said = [0.0], io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "monotonic", lambda: now[0])
        patch.setattr(module, "PLAIN_EVERY_S", 0.0)
        patch.setattr(sys, "stderr", said)
        total = start + len(seconds) + more
        with progress("reading", total, start=start) as update:
            for i, each in enumerate(seconds, start=1):
                now[0] += each
                update(start + i)
    lines = said.getvalue().splitlines()
    assert len(lines) == len(seconds) and "left" not in lines[0]
    for i, text in enumerate(lines[1:], start=1):
        since = sum(seconds[1 : i + 1])
        if i < LEAST_ITEMS or since < LEAST_S - 1e-6:
            assert "left" not in text
        elif since > LEAST_S + 1e-6:
            rest = float(since / i * (total - start - i - 1))
            assert text.endswith(
                (f"  {clock(rest)} left", f"  {clock(rest + 1e-6)} left", f"  {clock(rest - 1e-6)} left")
            )


@pytest.mark.parametrize(("count", "text"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (2000, "2,000 steps")])
def test_one_is_not_several(count: int, text: str) -> None:
    assert counted(count, "step") == text


def test_a_live_line_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("reading", 3) as update:
        for done in (1, 2, 3):
            update(done, rejected=0)
    assert "reading: 3/3 files  rejected 0" in capsys.readouterr().err
