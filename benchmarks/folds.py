"""ImageNet's weights against random ones with every patient judged once, where a test part alone is small.

    python -m benchmarks.folds DATASET --labels labels.csv --out FOLDER

Patients are dealt into folds. Each fold is judged by networks that learned from few labels of the other folds, half
positive, each of another patient, in several draws: random weights fine-tuned whole, or frozen with a linear head on
all levels, and ImageNet's with such a head. AUROCs are of one fold and one draw, since logits of different networks are
not comparable, and their means and differences are printed with intervals (bootstrap over the patients of each fold,
paired). Made again, it goes on.
"""

import argparse
import itertools
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtl.data.dataset import open_dataset
from medtl.evaluation.intervals import percentile_interval
from medtl.evaluation.study.areas import Areas, resampled_areas
from medtl.pretraining.health.probe import patients_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.starts import Floats, Rows, draw_rows, logits_after

STARTS = {"random": ("random", "full"), "frozen": ("random", "linear"), "imagenet": ("imagenet", "linear")}
"""Names of what is compared, the last with the others: start and strategy."""


def areas_of(y: Floats, patients: Rows, folds: Rows, kept: dict[str, Any], count: int) -> list[Areas]:
    """Of each fold, the AUROCs by all draws of the first start, then of the second and so on."""
    found = []
    for fold in np.unique(folds):
        there = folds == fold
        logits = [kept[key] for start in STARTS for key in kept if key.startswith(f"{start}/{count}/{fold}/")]
        columns = [np.array(each)[:, None] for each in logits]
        found.append(resampled_areas(y[there, None], columns, patients[there], seed=int(fold)))
    return found


def report(y: Floats, patients: Rows, folds: Rows, kept: dict[str, Any], counts: list[int]) -> None:
    print("| labels | start | AUROC | ImageNet's gain | its standard error over draws | draws |\n" + "|---" * 6 + "|")
    for count in counts:
        areas = areas_of(y, patients, folds, kept, count)
        points = np.stack([each.points[:, 0] for each in areas]).reshape(len(areas), len(STARTS), -1)
        draws = np.stack([each.draws[:, 0] for each in areas]).reshape(len(areas), len(STARTS), points.shape[2], -1)
        for place, start in enumerate(STARTS):
            line = f"| {count} | {start} | {points[:, place].mean():.3f} |"
            if place < len(STARTS) - 1:
                gain = points[:, -1] - points[:, place]
                found = percentile_interval(float(gain.mean()), (draws[:, -1] - draws[:, place]).mean(axis=(0, 1)))
                error = gain.std(ddof=1) / gain.size**0.5
                line += f" {found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}) | {error:.3f} | {gain.size} |"
            print(line if place < len(STARTS) - 1 else f"{line} | | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=2, help="of labels, for each fold")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = open_dataset(asked.dataset)
    table = data.labels(asked.labels)
    truth, patients = table.values[:, 0].astype(np.float64), patients_of(data.manifest)
    rows = np.flatnonzero(np.isfinite(truth)).astype(np.int64)
    dealt = np.random.default_rng(0).permutation(patients.max() + 1) % asked.folds
    folds = dealt[patients[rows]]
    file = asked.out / "logits.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    # All of the first draw come before the second, so that a look at half of them is fair.
    for draw, fold, count in itertools.product(range(asked.draws), range(asked.folds), asked.counts):
        seed = zlib.crc32(f"{fold}/{draw}".encode())
        learn = draw_rows(rows[folds != fold], truth, patients, count=count, seed=seed)
        for name, (start, strategy) in STARTS.items():
            key = f"{name}/{count}/{fold}/{draw}"
            if key not in kept:
                judged = rows[folds == fold]
                kept[key] = logits_after(
                    data, table, start, strategy, learn, judged, seed=seed, work=asked.out / "work"
                )  # fmt: skip
                file.write_text(json.dumps(kept))
    report(truth[rows], patients[rows], folds, kept, asked.counts)


if __name__ == "__main__":
    main()
