"""What each pretraining method is worth with few labels, at equal minutes, against random weights and ImageNet.

    python -m benchmarks.starts DATASET --labels labels.csv --minutes 1.5 --out FOLDER
    python -m benchmarks.starts DATASET --methods --runs RUN --strategies linear wise-ft --out FOLDER

Each method pretrains one encoder from random weights for the same minutes, test part left out. Each start is then
judged on the test part: by a kNN and a logistic regression on all labels of the train part, frozen; and on draws of few
labels, half positive, each of another patient, by a linear probe and by LP-FT; random weights by all that `auto`
considers for them. Printed are means over the draws and differences to random weights, adapted as `auto` does where it
compares nothing, and to ImageNet adapted in the same way, with intervals (bootstrap over test patients, paired). Made
again, it goes on, also with further strategies. Of volumes ImageNet's network gets a head only, as is the default.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.labels import LabelTable
from medtl.encoders.embed import embed
from medtl.encoders.store import start_from
from medtl.encoders.table import default_network, default_px
from medtl.evaluation.intervals import Estimate
from medtl.evaluation.metrics import auroc
from medtl.evaluation.study.areas import difference, resampled_areas
from medtl.finetuning.config import FinetuneConfig, filled_in
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import Parts
from medtl.finetuning.strategies import AUTO, candidates
from medtl.inference.runtime import logits_of_rows
from medtl.pretraining.health.probe import knn_scores, patients_of, regression_scores
from medtl.pretraining.methods import METHODS

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def draw_rows(rows: Rows, y: Floats, patients: Rows, *, count: int, seed: int) -> Rows:
    """So many of the labeled rows, half positive, each of another patient."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    taken: list[int] = []
    seen: set[int] = set()
    for value in (1, 0):
        of_kind = 0
        for row in shuffled[y[shuffled] == value]:
            if of_kind < count // 2 and patients[row] not in seen:
                taken.append(int(row))
                seen.add(int(patients[row]))
                of_kind += 1
    return np.array(taken, np.int64)


def logits_after(
    data: Dataset, table: LabelTable, origin: str, strategy: str, learn: Rows, judged: Rows, *, seed: int, work: Path
) -> list[float]:
    """Logits of judged rows by a start that was adapted to the labels of others."""
    torch.manual_seed(seed)
    start = start_from(origin, spec=data.spec, enlarge=True)
    parts = Parts(fit=learn, calibrate=np.empty(0, np.int64))
    plan = FinetuneConfig(encoder=origin, seed=seed, strategy=strategy)
    plan = plan.model_copy(update=filled_in(plan, start, len(learn)))
    work.mkdir(exist_ok=True)
    classifier, _ = fit(data, table, parts, start, plan, work, resume=False)
    logits = logits_of_rows(classifier, data, judged, start.spec, flip_average=False)[:, 0]
    return [round(float(each), 5) for each in logits]


def strategies_of(origin: str, dims: int, asked: argparse.Namespace) -> list[str]:
    """How a start is adapted."""
    if origin == "random":
        return list(for_random(dims, min(asked.counts)))
    return ["linear"] if origin == "imagenet" and dims == 3 else list(asked.strategies)


def for_random(dims: int, count: int) -> tuple[str, ...]:
    """What `auto` considers for random weights and so many labels; others are compared with the first."""
    return candidates(AUTO, start="random", dims=dims, n_labels=count)


def judge(
    data: Dataset, labels: Path, origin: str, asked: argparse.Namespace, work: Path, before: dict[str, Any]
) -> dict[str, Any]:
    """Everything that is measured of one start, but for what was measured before."""
    table = data.labels(labels)
    y = table.values[:, 0].astype(np.float64)
    split = data.manifest["split"].to_numpy()
    test, train = (np.flatnonzero((split == part) & np.isfinite(y)).astype(np.int64) for part in ("test", "train"))
    torch.manual_seed(0)
    start = start_from(origin, spec=data.spec, enlarge=True)
    x, x_test = (embed(start.encoder, data, rows, start.spec).double().numpy() for rows in (train, test))
    found: dict[str, Any] = {
        "knn": auroc(y[test], knn_scores(x, y[train].astype(np.int64), x_test)),
        "probe": auroc(y[test], regression_scores(x, y[train].astype(np.int64), x_test)),
        "logits": dict(before),
    }
    for strategy in strategies_of(origin, data.spec.dims, asked):
        if strategy in before:
            continue
        of_strategy = found["logits"].setdefault(strategy, {})
        for count, seed in itertools.product(asked.counts, range(asked.draws)):
            learn = draw_rows(train, y, patients_of(data.manifest), count=count, seed=seed)
            of_strategy.setdefault(str(count), []).append(
                logits_after(data, table, origin, strategy, learn, test, seed=seed, work=work)
            )
    return found


def kept_of(file: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The logits by strategy that an earlier call left, which must have drawn alike."""
    if not file.is_file():
        return {}
    found: dict[str, Any] = json.loads(file.read_text())
    if (found["counts"], found["draws"]) != (asked.counts, asked.draws):
        raise SystemExit(f"{file}: holds {found['draws']} draws of {found['counts']} labels; choose another --out")
    logits: dict[str, Any] = found["logits"]
    return logits


def gain_of(y: Floats, ours: Floats, base: Floats, patients: Rows) -> Estimate:
    """Mean over draws of the AUROC's gain over the base start with the same labels, and its interval."""
    areas = resampled_areas(y[:, None], [each[:, None] for each in (*ours, *base)], patients)
    draws = len(ours)
    return difference(areas.of(range(draws)), areas.of(range(draws, 2 * draws)))


def report(results: dict[str, Any], data: Dataset, labels: Path, asked: argparse.Namespace) -> None:
    y = data.labels(labels).values[:, 0].astype(np.float64)
    test = np.flatnonzero((data.manifest["split"].to_numpy() == "test") & np.isfinite(y))
    patients = patients_of(data.manifest)[test]
    heads = "".join(f" {count} labels | against random | against ImageNet |" for count in asked.counts)
    print(f"\n| start | kNN | probe | strategy |{heads}\n|---|---|---|---|" + "---|---|---|" * len(asked.counts))
    for name, found in results.items():
        for strategy, by_count in found["logits"].items():
            line = f"| {name} | {found['knn']:.3f} | {found['probe']:.3f} | {strategy} |"
            for count in asked.counts:
                logits = np.array(by_count[str(count)])
                areas = [auroc(y[test], each) for each in logits]
                line += f" {np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f} |"
                for base, how in (("random", for_random(data.spec.dims, count)[0]), ("imagenet", strategy)):
                    of_base = results[base]["logits"].get(how)
                    if name in ("random", base) or of_base is None:
                        line += " |"
                        continue
                    gain = gain_of(y[test], logits, np.array(of_base[str(count)]), patients)
                    line += f" {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) |"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--chain", nargs="*", default=[], help="methods that also continue from ImageNet")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="runs that are there already")
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--strategies", nargs="+", default=["linear", "lp-ft"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    data = open_dataset(asked.dataset)
    labels = asked.labels or data.folder / "labels.csv"
    results: dict[str, Any] = {}
    starts = ["random", "imagenet", *asked.methods, *(f"imagenet>{name}" for name in asked.chain)]
    runs = {run.name: run for run in asked.runs}
    for name in [*starts, *runs]:
        kept, origin = asked.out / f"{name}.json", str(runs.get(name, name))
        before = kept_of(kept, asked)
        if not set(strategies_of(origin, data.spec.dims, asked)) <= set(before):
            began = time.monotonic()
            if name not in ("random", "imagenet", *runs):
                chained, _, method = name.rpartition(">")
                run = asked.out / f"run-{name}"
                # The smallest network, or what the method or ImageNet brings: only the method differs.
                network = METHODS[method].network or default_network(data.spec.dims)
                side = default_px(network, size_px=data.spec.size_px, dims=data.spec.dims)
                small = [] if chained else [f"network={network}", f"input_px={side}"]
                medtl.pretrain(
                    data.folder, out=run, method=method, from_=chained or "random", minutes=asked.minutes,
                    resume=(run / "config.yaml").is_file(),
                    settings=[*small, "check_every=10000", "precision=32", *asked.settings],
                )  # fmt: skip
                origin = str(run)
            found = judge(data, labels, origin, asked, asked.out / f"work-{name}", before)
            kept.write_text(json.dumps(found | {"counts": asked.counts, "draws": asked.draws}))
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        results[name] = json.loads(kept.read_text())
    report(results, data, labels, asked)


if __name__ == "__main__":
    main()
