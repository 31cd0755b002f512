"""Order, a bounded number in flight, and processes that die."""

import itertools
import os
import time
from collections.abc import Iterator

import pytest

from medtl.data.parallel import ordered_map


def slow_first(n: int) -> int:
    time.sleep(0.2 if n == 0 else 0)
    return n * n


def dies_at_seven(n: int) -> int:
    if n == 7:
        os._exit(1)  # as a segmentation fault in a decoder would
    return n


def raises(n: int) -> int:
    raise ValueError(n)


def test_results_come_in_order() -> None:
    assert list(ordered_map(slow_first, range(30), workers=2)) == [(n, n * n) for n in range(30)]


@pytest.mark.timeout(60)
def test_a_dead_process_costs_one_task() -> None:
    assert list(ordered_map(dies_at_seven, range(20), workers=2)) == [(n, None if n == 7 else n) for n in range(20)]


def test_few_tasks_are_in_flight() -> None:
    taken = itertools.count()

    def tasks() -> Iterator[int]:
        for n in range(1000):
            next(taken)
            yield n

    results = ordered_map(slow_first, tasks(), workers=2)
    next(results)
    results.close()
    assert next(taken) <= 5


def test_an_exception_of_the_work_is_raised() -> None:
    with pytest.raises(ValueError, match="3"):
        list(ordered_map(raises, [3]))
