"""Batches and random numbers depend on (seed, step) alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtl.training.batches import batch_rows, generator


@given(n=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_epoch_shows_every_row_once(n: int, batch: int, seed: int) -> None:
    rows = np.arange(100, 100 + n)
    drawn = np.concatenate([batch_rows(rows, step=s, batch_size=batch, seed=seed) for s in range(-(-3 * n // batch))])
    for epoch in range(3):
        assert sorted(drawn[epoch * n : (epoch + 1) * n]) == list(rows)


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    rows = np.arange(10)
    alone = batch_rows(rows, step=7, batch_size=4, seed=3)
    after = [batch_rows(rows, step=s, batch_size=4, seed=3) for s in range(8)][7]
    assert np.array_equal(alone, after)


def test_seeds_and_steps_differ() -> None:
    rows = np.arange(1000)
    first = batch_rows(rows, step=0, batch_size=50, seed=0)
    assert not np.array_equal(first, batch_rows(rows, step=0, batch_size=50, seed=1))
    assert torch.equal(torch.rand(3, generator=generator("a", 1)), torch.rand(3, generator=generator("a", 1)))
    assert not torch.equal(torch.rand(3, generator=generator("a", 1)), torch.rand(3, generator=generator("a", 2)))
