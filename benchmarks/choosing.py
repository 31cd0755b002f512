"""Which scans to label next: rules for choosing 20, judged by what a head is worth that has learned from these, too.

    python -m benchmarks.choosing DATASET --starts imagenet RUN [--labels labels.csv]

In each draw, 60 % of the patients outside of the test part may be labeled and all others judge. Of the first 20 labels
half are positive. Each rule adds 20 scans, one of each patient, and 20 more once a head is taught on its 40. Heads are
those of `medtl.teach`, with their own calibration and operating points. Printed are the mean AUROC from 40 and from 60
labels, and the mean gain over choosing at random with its standard error over draws.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtl.data.dataset import open_dataset
from medtl.encoders.embed import embed
from medtl.encoders.store import start_from
from medtl.evaluation.metrics import auroc
from medtl.finetuning.instant import teach_finding
from medtl.inference.reference import spread
from medtl.pretraining.health.probe import patients_of
from medtl.review.records import Score

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.levels import Rows, draw, outside_test

Floats = npt.NDArray[np.float64]
NEXT = 20


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a rule may look at.

    Args:
        patients: (N,) of the scans to choose from.
        doubt: (N,) 1 where the probability is 1/2.
        uncertainty: (N,) 1 at the operating point, as the worklist sorts.
        away: (N, L) distances from the labeled scans.
        apart: (N, N) distances between the scans to choose from.
    """

    patients: Rows
    doubt: Floats
    uncertainty: Floats
    away: Floats
    apart: Floats
    random: np.random.Generator


def highest(choice: Choice, value: Floats) -> list[int]:
    """Places of the scans with the highest values, one of each patient."""
    first: dict[int, int] = {}
    for i in np.argsort(-value, kind="stable"):
        first.setdefault(int(choice.patients[i]), int(i))
    return list(first.values())[:NEXT]


def in_turns(choice: Choice, value: Floats) -> list[int]:
    """Of the scans that are nearest to one labeled scan the highest, before the second of any (Citovsky 2021)."""
    order = np.argsort(-value, kind="stable")
    nearest, turn = choice.away.argmin(axis=1), np.zeros(len(value))
    seen: set[int] = set()
    given: dict[int, int] = {}
    for i in order:
        patient = int(choice.patients[i])
        turn[i] = len(value) if patient in seen else given.get(int(nearest[i]), 0)
        given[int(nearest[i])] = given.get(int(nearest[i]), 0) + (patient not in seen)
        seen.add(patient)
    return highest(choice, -turn + value / 2)


def one_by_one(choice: Choice, weight: Floats, *, drawn: bool = False) -> list[int]:
    """Each time the scan whose distance from all labeled and chosen ones, times a weight, is largest.

    Args:
        drawn: draw it with the square of that as its chance (k-means++, as in BADGE).
    """
    away, free, taken = choice.away.min(axis=1), np.ones(len(weight)), []
    for _ in range(NEXT):
        value = free * away * weight
        i = int(choice.random.choice(len(value), p=value**2 / (value**2).sum()) if drawn else value.argmax())
        taken.append(i)
        free[choice.patients == choice.patients[i]] = 0
        away = np.minimum(away, choice.apart[i])
    return taken


RULES: dict[str, Callable[[Choice], list[int]]] = {
    "at random": lambda choice: highest(choice, choice.random.random(len(choice.doubt))),
    "nearest to the operating point": lambda choice: highest(choice, choice.uncertainty),
    "nearest to 1/2": lambda choice: highest(choice, choice.doubt),
    "in turns, nearest to the operating point": lambda choice: in_turns(choice, choice.uncertainty),
    "in turns, nearest to 1/2": lambda choice: in_turns(choice, choice.doubt),
    "k-centre": lambda choice: one_by_one(choice, np.ones(len(choice.doubt))),
    "doubt times distance (the page)": lambda choice: highest(choice, choice.doubt * choice.away.min(axis=1)),
    "the same, one by one": lambda choice: one_by_one(choice, choice.doubt),
    "the same, drawn": lambda choice: one_by_one(choice, choice.doubt, drawn=True),
}


class Task:
    """Embedded scans (N, D), their labels and patients; and the head that some of them teach."""

    def __init__(self, x: Tensor, widths: tuple[int, ...], y: Floats, patients: Rows) -> None:
        self.x, self.widths, self.y, self.patients = x, widths, y, patients

    def taught(self, learn: Rows) -> tuple[Floats, Floats, float]:
        """Logits (N,), calibrated probabilities (N,) and the operating point."""
        labels = self.y[learn].astype(np.float32)
        names = self.patients[learn].astype(str)
        found = teach_finding("it", self.x[learn], labels, names, seen=0, widths=self.widths)
        with torch.no_grad():
            logits = found.head(self.x)[:, 0].double().numpy()
        temperature = found.calibration.temperatures["it"]
        return logits, 1 / (1 + np.exp(-logits / temperature)), found.calibration.thresholds["it"]

    def choice(self, learn: Rows, free: Rows, p: Floats, threshold: float, seed: tuple[int, int]) -> Choice:
        """What is known of the scans that can be chosen, `free`, once `learn` were labeled."""
        at_scale = self.x / torch.from_numpy(spread(self.x[learn].numpy(), self.widths))
        scores = (Score(finding="it", probability=q, threshold=threshold, decision="negative") for q in p[free])
        return Choice(
            patients=self.patients[free],
            doubt=1 - np.abs(2 * p[free] - 1),
            uncertainty=np.array([score.uncertainty for score in scores]),
            away=torch.cdist(at_scale[free], at_scale[learn]).double().numpy(),
            apart=torch.cdist(at_scale[free], at_scale[free]).double().numpy(),
            random=np.random.default_rng(seed),
        )


def gains(task: Task, *, seed: int) -> list[tuple[float, float]]:
    """AUROC from 40 and from 60 labels, by rule."""
    random = np.random.default_rng(seed)
    everyone = random.permutation(np.unique(task.patients))
    inside = np.isin(task.patients, everyone[: round(0.6 * len(everyone))])
    pool, judge = np.flatnonzero(inside), np.flatnonzero(~inside)
    first = pool[draw(task.y[pool], task.patients[pool], count=20, seed=seed)[0]]
    start = task.taught(first)
    found = []
    for rule in RULES.values():
        learn, (_, p, threshold) = first, start
        aurocs = []
        for turn in (1, 2):
            free = pool[~np.isin(task.patients[pool], task.patients[learn])]
            learn = np.append(learn, free[rule(task.choice(learn, free, p, threshold, (seed, turn)))])
            logits, p, threshold = task.taught(learn)
            aurocs.append(auroc(task.y[judge], logits[judge]))
        found.append((aurocs[0], aurocs[1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--starts", nargs="+", default=["imagenet"])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--draws", type=int, default=40)
    asked = parser.parse_args()
    data = open_dataset(asked.dataset)
    rows, y = outside_test(data, asked.labels)
    patients = patients_of(data.manifest)[rows]
    for origin in asked.starts:
        torch.manual_seed(0)
        start = start_from(origin, spec=data.spec, enlarge=True)
        start.encoder.multilevel = True
        task = Task(embed(start.encoder, data, rows, start.spec), start.encoder.widths, y, patients)
        found = np.array([gains(task, seed=seed) for seed in range(asked.draws)])  # (draws, rules, 2)
        means, paired = found.mean(axis=0), found - found[:, :1]
        gain, error = paired.mean(axis=0), paired.std(axis=0, ddof=1) / asked.draws**0.5
        print(f"\n| {Path(origin).name} | 40 labels | gain | 60 labels | gain |\n|---|---|---|---|---|")
        for name, mean, more, by in zip(RULES, means, gain, error, strict=True):
            cells = [f"{mean[k]:.3f} | {more[k]:+.3f} ± {by[k]:.3f}" for k in (0, 1)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
