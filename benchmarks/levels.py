"""What a frozen encoder's levels are worth to a linear head with few labels; the test part is not looked at.

    python -m benchmarks.levels DATASET --starts imagenet RUN [--labels labels.csv] [--side-px 128]

Some labels are drawn from the scans outside of the test part, half of them positive, each of another patient; the scans
of all other patients judge. Printed are means over the draws of the AUROC from all levels and from the last alone, and
the mean gain with its standard error over draws.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medtl.data.dataset import Dataset, open_dataset
from medtl.encoders.embed import embed
from medtl.encoders.store import start_from
from medtl.evaluation.metrics import auroc
from medtl.finetuning.heads import fit_head
from medtl.pretraining.health.probe import patients_of

Rows = npt.NDArray[np.int64]
MOST_SCANS = 1000
"""So many scans are embedded at most, drawn with seed 0."""


def outside_test(data: Dataset, labels: Path | None) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Rows of scans outside of the test part whose first finding is known, and their labels of it."""
    truth = data.labels(labels).values[:, 0].astype(np.float64)
    rows = np.flatnonzero((data.manifest["split"].to_numpy() != "test") & np.isfinite(truth)).astype(np.int64)
    if len(rows) > MOST_SCANS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_SCANS, replace=False))
    return rows, truth[rows]


def draw(y: npt.NDArray[np.float64], patients: Rows, *, count: int, seed: int) -> tuple[Rows, Rows]:
    """Places to learn from, half positive, each of another patient; and those of all other patients."""
    order = np.random.default_rng(seed).permutation(len(y))
    taken: list[int] = []
    for value in (1, 0):
        seen: set[int] = set()
        for place in order[y[order] == value]:
            if len(seen) < count // 2 and int(patients[place]) not in seen:
                taken.append(int(place))
                seen.add(int(patients[place]))
    learn = np.array(taken, np.int64)
    return learn, np.flatnonzero(~np.isin(patients, patients[learn])).astype(np.int64)


def judged(x: Tensor, y: npt.NDArray[np.float64], learn: Rows, judge: Rows, widths: tuple[int, ...]) -> float:
    """AUROC of a head on embeddings (N, D) of such levels."""
    head = nn.Linear(x.shape[1], 1)
    fit_head(head, x[learn], y[learn, None].astype(np.float32), exclusive=False, widths=widths)
    with torch.no_grad():
        return auroc(y[judge], head(x[judge])[:, 0].double().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--starts", nargs="+", default=["imagenet"])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--side-px", type=int)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--draws", type=int, default=12)
    asked = parser.parse_args()
    data = open_dataset(asked.dataset)
    rows, y = outside_test(data, asked.labels)
    patients = patients_of(data.manifest)[rows]
    print("| start | side | labels | last level | all levels | gain |\n|---|---|---|---|---|---|")
    for origin in asked.starts:
        torch.manual_seed(0)
        start = start_from(origin, spec=data.spec, input_px=asked.side_px, enlarge=True)
        start.encoder.multilevel = True
        x, widths = embed(start.encoder, data, rows, start.spec), start.encoder.widths
        for count in asked.counts:
            found = []
            for seed in range(asked.draws):
                parts = draw(y, patients, count=count, seed=seed)
                found.append((judged(x[:, -widths[-1] :], y, *parts, ()), judged(x, y, *parts, widths)))
            last, every = np.array(found).T
            error = (every - last).std(ddof=1) / asked.draws**0.5
            print(
                f"| {Path(origin).name} | {start.spec.input_px} | {count} | {last.mean():.3f} | {every.mean():.3f} | "
                f"{(every - last).mean():+.3f} ± {error:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
