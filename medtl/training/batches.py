"""Which scans make up a batch, and which random numbers go with it, as functions of (seed, step) alone.

Nothing is carried from step to step, so an interrupted run goes on exactly as it would have.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.int64]


def _seed(*identity: object) -> int:
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    return int.from_bytes(digest[:7], "little")


def generator(*identity: object) -> torch.Generator:
    """A torch generator whose numbers depend on `identity` only."""
    return torch.Generator().manual_seed(_seed(*identity))


def rng(*identity: object) -> np.random.Generator:
    """The same for NumPy."""
    return np.random.default_rng(_seed(*identity))


def batch_rows(rows: Rows, *, step: int, batch_size: int, seed: int) -> Rows:
    """The rows of one step: every epoch a new permutation, batches running on across epochs.

    Args:
        rows: (N,) the rows to draw from.
        step: which batch, from 0.

    Returns:
        (batch_size,) rows. A batch larger than N holds rows more than once.
    """
    first = step * batch_size
    return _drawn(rows, np.arange(first, first + batch_size), "order", seed)


def balanced_rows(strata: Sequence[Rows], *, step: int, batch_size: int, seed: int) -> Rows:
    """The rows of one step, each stratum in turn: over time as many of each, however many rows it has.

    Args:
        strata: (N_i,) each; a row may be in several.
        step: which batch, from 0.

    Returns:
        (batch_size,) rows, each stratum's in permutations as those of `batch_rows`.
    """
    first = step * batch_size
    places = np.arange(first, first + batch_size)
    drawn = np.empty(batch_size, np.int64)
    for i, rows in enumerate(strata):
        here = places % len(strata) == i
        drawn[here] = _drawn(rows, places[here] // len(strata), "stratum", i, seed)
    return drawn


def _drawn(rows: Rows, wanted: Rows, *identity: object) -> Rows:
    """The rows at places of an endless row of permutations of them."""
    epochs = wanted // len(rows)
    drawn = np.empty(len(wanted), np.int64)
    for epoch in np.unique(epochs):
        order = rng(*identity, int(epoch)).permutation(len(rows))
        here = epochs == epoch
        drawn[here] = rows[order[wanted[here] % len(rows)]]
    return drawn
