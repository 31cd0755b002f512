"""Which labeled scans a fine-tuning of a study learns from: drawn by patient, the same for every start."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medtl.data.labels import LabelTable
from medtl.errors import LabelError

Rows = npt.NDArray[np.int64]
Values = npt.NDArray[np.float32]
STREAM = 1
"""Set apart from other uses of the same seed."""


@dataclass(frozen=True)
class Amount:
    """How many labels: so many of each class, or a share of all.

    Args:
        per_class: scans with each finding, and without it.
        fraction: of the labeled scans, at least one of each class; None where `per_class` says it.
    """

    per_class: int
    fraction: float | None = None

    @property
    def name(self) -> str:
        """How it is called on the page."""
        return f"{self.per_class} per class" if self.fraction is None else f"{100 * self.fraction:g} % of all"

    @property
    def slug(self) -> str:
        """How it is called in names of files."""
        return f"{self.per_class}-per-class" if self.fraction is None else f"{100 * self.fraction:g}-percent"


@dataclass(frozen=True)
class Draw:
    """Labeled scans to learn from.

    Args:
        rows: (N,) of the manifest, rising.
        repeated: how many of them are of a patient of whom another is among them.
    """

    rows: Rows
    repeated: int


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The labeled scans of the train part.

    Args:
        rows: (M,) of the manifest.
        values: (M, F) their labels.
        patients: (M,) a number for each patient.
        findings: F names.
        exclusive: whether findings are classes, of which each scan has one.
    """

    rows: Rows
    values: Values
    patients: Rows
    findings: tuple[str, ...]
    exclusive: bool

    @property
    def classes(self) -> list[tuple[int, int]]:
        """Finding and label of each class, the rarest first. Of exclusive findings, the others are what is without."""
        wanted = (1,) if self.exclusive else (1, 0)
        found = [(f, value) for f in range(len(self.findings)) for value in wanted]
        return sorted(found, key=lambda each: int(self.of_class(each).sum()))

    def of_class(self, which: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(M,) which scans are of a class."""
        finding, value = which
        return np.asarray(self.values[:, finding] == value)

    def check(self, amounts: Iterable[Amount]) -> None:
        """Make sure that there are enough scans.

        Raises:
            LabelError: fewer scans of a class than asked for.
        """
        finding, value = self.classes[0]
        there, kind = int(self.of_class((finding, value)).sum()), "with" if value else "without"
        name = self.findings[finding]
        if there == 0:
            raise LabelError(
                f"{name}: no labeled scan of the train part is {kind} it; a study needs both, so label some, or leave "
                "the column out"
            )
        most = max((each.per_class for each in amounts), default=0)
        if most > there:
            raise LabelError(
                f"{name}: the train part has {there} labeled scan{'s' * (there != 1)} {kind} it, --labels-per-class "
                f"asks for {most}; at most --labels-per-class {there} works"
            )


def pool_of(labels: LabelTable, *, train: npt.NDArray[np.bool_], patients: Rows) -> Pool:
    """The scans of the train part that have a label.

    Args:
        train: (N,) whether a row of the manifest is in the train part.
        patients: (N,) a number for each row's patient.
    """
    rows = np.flatnonzero(train & ~np.isnan(labels.values).all(axis=1)).astype(np.int64)
    return Pool(
        rows=rows,
        values=labels.values[rows],
        patients=patients[rows],
        findings=labels.findings,
        exclusive=labels.exclusive,
    )


def draw(pool: Pool, amount: Amount, *, seed: int) -> Draw:
    """Draw labeled scans, each of another patient as long as there are such.

    Scans that were drawn for one class also count for another. Classes take turns, so that with the same seed the
    draw of more scans of each class holds that of fewer.

    Args:
        pool: has enough scans of each class (`Pool.check`).
        seed: of the draw.
    """
    order = np.random.default_rng([seed, STREAM]).permutation(len(pool.rows))
    bag = _Bag(pool.patients)
    queues = [(of_class, _Queue(order[of_class[order]], bag)) for of_class in map(pool.of_class, pool.classes)]
    for turn in range(amount.per_class):
        for of_class, queue in queues:
            if of_class[bag.places].sum() <= turn:
                queue.take()
    if amount.fraction is not None:
        everything = _Queue(order, bag)
        for _ in range(round(amount.fraction * len(order)) - len(bag.places)):
            everything.take()
    places = np.sort(np.array(bag.places, np.int64))
    return Draw(pool.rows[places], len(places) - len(np.unique(pool.patients[places])))


class _Bag:
    """What is drawn so far."""

    def __init__(self, patients: Rows) -> None:
        self.patients = patients.tolist()
        self.places: list[int] = []
        self.drawn, self.seen = set[int](), set[int]()

    def put(self, place: int) -> None:
        self.places.append(place)
        self.drawn.add(place)
        self.seen.add(self.patients[place])


class _Queue:
    """Candidates in the order of chance; those of patients who are in the bag already come last."""

    def __init__(self, candidates: Rows, bag: _Bag) -> None:
        self._bag = bag
        self._fresh = deque[int](candidates.tolist())
        self._again = deque[int]()

    def take(self) -> None:
        """Put the next one into the bag."""
        bag = self._bag
        while self._fresh:
            place = self._fresh.popleft()
            if bag.patients[place] not in bag.seen:
                return bag.put(place)
            self._again.append(place)
        while self._again:
            place = self._again.popleft()
            if place not in bag.drawn:
                return bag.put(place)
        raise AssertionError("the pool was not checked")
