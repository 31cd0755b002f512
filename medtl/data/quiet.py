"""Readers of foreign formats talk on stderr about every odd file; what matters is in the `ScanError`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def in_one_line(problem: Exception) -> str:
    """What a library's exception says, without line breaks and of a length that fits into a message."""
    return " ".join(str(problem).split())[:200] or type(problem).__name__


@contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Warnings, and what the library's logger would say, are dropped for the while."""
    library = logging.getLogger(logger)
    level = library.level
    if level <= logging.CRITICAL:  # changing a level makes logging ask all loggers again: outside of a loop, once
        library.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if level <= logging.CRITICAL:
            library.setLevel(level)
