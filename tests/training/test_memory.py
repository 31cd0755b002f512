"""Memory that does not suffice is told in one line; other errors stay what they are."""

import pytest
import torch

from medtl.errors import RunError
from medtl.training.memory import naming_lack_of_memory

MUCH = 10**17
"""Bytes, more than a processor can address: the real allocator says no, on any machine."""


def test_an_allocation_that_fails_says_what_to_lower() -> None:
    for take in (lambda: torch.empty(MUCH, dtype=torch.uint8), lambda: bytearray(MUCH)):
        with (
            pytest.raises(RunError, match=r"^not enough memory; lower batch_size$"),
            naming_lack_of_memory("lower batch_size"),
        ):
            take()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), naming_lack_of_memory("lower batch_size"):
        torch.ones(2, 3) @ torch.ones(2, 3)
