"""Which scans make up a batch, which of them may be a pair, and which must not be told apart."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.training.batches import Rows, batch_rows, rng

Pairs = Literal["scan", "study", "patient"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The scans of one batch.

    Args:
        scans: (B, 2) rows of the manifest: a scan and its partner, which may be itself.
        group: (B,) see `Views`.
    """

    scans: Rows
    group: Rows

    def __len__(self) -> int:
        return len(self.scans)

    def part(self, part: slice | None) -> "Chosen":
        """The scans that one process holds."""
        return self if part is None else Chosen(scans=self.scans[part], group=self.group[part])


class Sampler:
    """Batches as a function of the step alone.

    Args:
        manifest: of the dataset.
        rows: (N,) the rows to learn from.
        copies: (P, 2) pairs of rows that show the same picture.
        pairs: where the second view comes from: "scan" is the same scan, "study" and "patient" another scan of the same
            study or patient where there is one (MICLe: Azizi 2021, arXiv 2101.05224, sec. 3.2).
        batch_size: scans a batch.
    """

    def __init__(
        self, manifest: pd.DataFrame, rows: Rows, *, copies: Rows, pairs: Pairs, batch_size: int, seed: int
    ) -> None:
        self.batch_size, self.pairs, self._seed = batch_size, pairs, seed
        originals = _originals(len(manifest), copies)
        # Of pictures that are near-duplicates one is drawn an epoch: copies would count their patient twice.
        kept = np.unique(originals[rows], return_index=True)[1]
        self.rows = rows[np.sort(kept)]
        patient = pd.factorize(manifest["patient_id"])[0].astype(np.int64)
        column = {"scan": None, "study": "study_id", "patient": "patient_id"}[pairs]
        # Whatever may be a pair is no negative: a study may have scans whose patient is unknown.
        mates = [patient, pd.factorize(manifest[column])[0].astype(np.int64)] if column else [patient]
        self._group = _merged(mates, originals)
        self._partners: dict[int, Rows] = {}
        if column:
            for _, members in manifest.iloc[self.rows].groupby(column).indices.items():
                if len(members) > 1:
                    scans = self.rows[members]
                    self._partners |= {int(row): scans[scans != row] for row in scans}

    @property
    def groups(self) -> int:
        """Into how many groups its scans fall; scans of one group are never told apart."""
        return len(np.unique(self._group[self.rows]))

    def at(self, step: int) -> Chosen:
        """The batch of a step."""
        first = batch_rows(self.rows, step=step, batch_size=self.batch_size, seed=self._seed)
        second = first.copy()
        if self._partners:
            drawn = rng("partners", self._seed, step).random(len(first))
            for place, row in enumerate(first):
                if (others := self._partners.get(int(row))) is not None:
                    second[place] = others[int(drawn[place] * len(others))]
        return Chosen(scans=np.stack([first, second], axis=1), group=self._group[first])


def _originals(count: int, copies: Rows) -> Rows:
    """(count,) for each row the first row that shows its picture."""
    found = np.arange(count)
    for first, copy in copies[np.argsort(copies[:, 0], kind="stable")] if len(copies) else ():
        found[copy] = found[first]
    return found


def _merged(mates: list[Rows], originals: Rows) -> npt.NDArray[np.int64]:
    """(N,) numbers that are equal for scans that belong together by any of `mates` (N,), where -1 is nobody, and for
    copies of one picture."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = count = len(originals)  # a node for each scan, then one for each patient and study
    left, right = [np.arange(count)], [originals]
    for names in mates:
        known = np.flatnonzero(names >= 0)
        left.append(known)
        right.append(nodes + names[known])
        nodes += int(names.max(initial=-1)) + 1
    ends = (np.concatenate(left), np.concatenate(right))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][:count], np.int64)
