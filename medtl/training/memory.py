"""Memory that does not suffice, in one line that says what to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from medtl.errors import RunError

SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "failed to allocate")
"""What torch says, on a processor and on a GPU; it has no error of its own for the former."""


@contextmanager
def naming_lack_of_memory(ways: str) -> Iterator[None]:
    """Say it in one line where memory does not suffice.

    Args:
        ways: what takes less, in words.

    Raises:
        RunError: then.
    """
    try:
        yield
    except MemoryError as problem:
        raise RunError(f"not enough memory; {ways}") from problem
    except RuntimeError as problem:
        if not any(sign in str(problem).lower() for sign in SIGNS):
            raise
        raise RunError(f"not enough memory; {ways}") from problem
