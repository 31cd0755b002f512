"""Who computes next: what a reader waits for goes before what is read ahead, pictures before what is said of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count


class Turn(IntEnum):
    """What a thread computes; the first goes first."""

    PICTURE = 0
    """A scan that a reader waits for, and its picture."""
    ANSWER = 1
    """What the detector says about a scan that he sees already."""
    AHEAD = 2
    """A part of what nobody waits for yet."""


class Turns:
    """Lets so many threads compute at a time; of those that want the same, the one that came first.

    Nothing is begun ahead while a reader waits or is worked for.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once, self._at_work = at_once, 0
        self._waiting: list[tuple[Turn, int]] = []
        self._numbers = count()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, turn: Turn) -> Iterator[None]:
        """Wait, and compute within; a thread must not ask for a turn while it has one."""
        with self._changed:
            mine = turn, next(self._numbers)
            heappush(self._waiting, mine)
            most = 1 if turn is Turn.AHEAD else self._at_once
            self._changed.wait_for(lambda: self._waiting[0] == mine and self._at_work < most)
            heappop(self._waiting)
            self._at_work += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()
