"""What training the whole network adds to a head, with few labels; the test part is not looked at.

    python -m benchmarks.mixtures DATASET --starts imagenet RUN [--labels labels.csv] [--draws 2]

Labels are drawn and judged as in `benchmarks.levels`. Each start gets a linear head, then LP-FT; printed is the
AUROC of weights between the two (WiSE-FT: Wortsman 2022, arXiv 2109.01903), for shares of LP-FT from 0 to 1, as means
over the draws, and the seconds that both took.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from medtl.data.dataset import open_dataset
from medtl.encoders.store import start_from
from medtl.evaluation.metrics import auroc
from medtl.finetuning.config import FinetuneConfig, filled_in
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import Parts
from medtl.inference.runtime import logits_of_rows
from medtl.pretraining.health.probe import patients_of

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.levels import draw

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--starts", nargs="+", default=["imagenet"])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    data = open_dataset(asked.dataset)
    labels = data.labels(asked.labels)
    truth = labels.values[:, 0].astype(np.float64)
    rows = np.flatnonzero((data.manifest["split"].to_numpy() != "test") & np.isfinite(truth)).astype(np.int64)
    y, patients = truth[rows], patients_of(data.manifest)[rows]
    print(f"| start | labels |{'|'.join(f' {share:g} ' for share in SHARES)}| took |\n|{'---|' * (3 + len(SHARES))}")
    for origin in asked.starts:
        for count in asked.counts:
            found, took = [], []
            for seed in range(asked.draws):
                learn, judge = draw(y, patients, count=count, seed=seed)
                parts = Parts(fit=rows[learn], calibrate=np.empty(0, np.int64))
                ends, began = [], time.monotonic()
                for strategy in ("linear", "lp-ft"):
                    torch.manual_seed(seed)
                    start = start_from(origin, spec=data.spec, enlarge=True)
                    plan = FinetuneConfig(encoder=origin, seed=seed, strategy=strategy)
                    plan = plan.model_copy(update=filled_in(plan, start, count))
                    with tempfile.TemporaryDirectory() as work:
                        classifier, _ = fit(data, labels, parts, start, plan, Path(work), resume=False)
                    ends.append({name: value.clone() for name, value in classifier.state_dict().items()})
                took.append(time.monotonic() - began)
                areas = []
                for share in SHARES:
                    classifier.load_state_dict(
                        {
                            name: torch.lerp(value, ends[1][name], share) if value.is_floating_point() else value
                            for name, value in ends[0].items()
                        }
                    )
                    logits = logits_of_rows(classifier, data, rows[judge], start.spec, flip_average=False)
                    areas.append(auroc(y[judge], logits[:, 0].double().numpy()))
                found.append(areas)
            means = " | ".join(f"{mean:.3f}" for mean in np.mean(found, axis=0))
            print(f"| {Path(origin).name} | {count} | {means} | {np.median(took):.0f} s |", flush=True)


if __name__ == "__main__":
    main()
