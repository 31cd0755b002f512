"""One way to show long work: a live line with time left on a terminal, plain lines when piped.

Of several processes that torchrun started, only the first shows anything.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from medtl import torchrun

Update = Callable[..., None]
_part_of = ContextVar("part of", default=False)
PLAIN_EVERY_S = 10.0
LEAST_ITEMS, LEAST_S = 2, 2.0
"""After so many items beyond the first, and so many seconds, the time that is left is shown."""
WIDEST_TABLE = 100
"""Columns of text that a table takes on a terminal."""
WIDEST_UNWRAPPED = 16
"""Columns of a table that are no wider stay on one line."""


@contextmanager
def progress(title: str, total: int, *, unit: str = "files", start: int = 0) -> Iterator[Update]:
    """Show how far work has come; yields `update(done, total=None, **figures)`.

    Args:
        title: what is being done, such as "pretraining".
        total: how many units there are in all; `update` may say otherwise later.
        unit: what is counted: "files", "steps".
        start: units that an earlier, interrupted call has done.
    """
    began = time.monotonic()
    pace = _Pace(start)

    def line(done: int, total: int, figures: dict[str, object]) -> str:
        left = pace.left(done, total)
        shown = [f"{name} {value}" for name, value in figures.items()]
        if left is not None:
            shown.append(f"{clock(left)} left")
        return "  ".join([f"{title}: {done:,}/{total:,} {unit}", *shown])

    if torchrun.number() > 0 or _part_of.get():
        yield lambda done, **figures: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        bar = Progress(BarColumn(bar_width=24), TextColumn("{task.description}"), console=Console(stderr=True))
        with bar:
            task: TaskID = bar.add_task(line(start, total, {}), total=total, completed=start)

            def live(done: int, total: int = total, **figures: object) -> None:
                bar.update(task, completed=done, total=total, description=line(done, total, figures))

            yield live
    else:
        last = began

        def plain(done: int, total: int = total, **figures: object) -> None:
            nonlocal last
            now = time.monotonic()
            pace.left(done, total)
            if now - last >= PLAIN_EVERY_S or (done == total and now - began > 1):
                last = now
                print(line(done, total, figures), file=sys.stderr, flush=True)

        yield plain


class _Pace:
    """How long the rest will take. The first item also warms up, and first items are quick or slow by chance, so
    nothing is said of the time before some more were done after it, and some seconds are over."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._first: tuple[int, float] | None = None

    def left(self, done: int, total: int) -> float | None:
        """Seconds for the rest, to be asked each time that an item is done; None: not known yet."""
        now = time.monotonic()
        if done >= total:
            return 0.0
        if self._first is None and done > self._start:
            self._first = (done, now)
        if self._first is None:
            return None
        more, seconds = done - self._first[0], now - self._first[1]
        return None if more < LEAST_ITEMS or seconds < LEAST_S else seconds * (total - done) / more


@contextmanager
def part_of_more() -> Iterator[None]:
    """Let nothing that is done here show itself: the work that it is a part of has its own progress line."""
    before = _part_of.set(True)
    try:
        yield
    finally:
        _part_of.reset(before)


def clock(seconds: float) -> str:
    """Seconds as people read them: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 step`, `2,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def say(message: str) -> None:
    """Tell the user what is being done, on stderr, so that stdout stays for results."""
    if torchrun.number() == 0 and not _part_of.get():
        print(message, file=sys.stderr, flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout: on a terminal wide columns are wrapped, piped each row is one line."""
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), width=min(WIDEST_TABLE, console.width))
    for i, name in enumerate(header):
        table.add_column(name, no_wrap=max(len(row[i]) for row in rows) <= WIDEST_UNWRAPPED)
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False, highlight=False)
