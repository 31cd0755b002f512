"""Pretraining beside SimCLR as MONAI's and lightly's examples write it, and what a step and a run cost.

    python benchmarks/pretrain.py                       # the first three, on the simulated scans, some minutes
    python benchmarks/pretrain.py speed DATASET         # images a second, in turn, medians
    python benchmarks/pretrain.py share DATASET         # how much of a step is the network's own work
    python benchmarks/pretrain.py methods DATASET       # every method's step against SimCLR's
    python benchmarks/pretrain.py memory DATASET        # a run on 100,000 images of 128 px, from the memory map
    python benchmarks/pretrain.py sooner DATASET --minutes 10 [--start imagenet]    # time to the same kNN accuracy

Without DATASET it is the simulated radiographs of `sample_data/`.

The other side is a fair one: decoded and resized images are cached in memory as MONAI's CacheDataset would keep them,
the random transforms are MONAI's own with the strengths of our views (ours also deform elastically, and read the stored
squares at every step), a DataLoader with as many workers as cores makes the batches, and network, loss, optimizer and
images are the same. `sooner --start imagenet` continues from ImageNet's weights, as `medtl pretrain` does when nobody
chooses: medtl with its first stages kept as they are, the other side with the whole network, both at the same rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import medtl
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.data.shards import ShardWriter
from medtl.encoders.depth import freeze_first
from medtl.encoders.embed import embed
from medtl.encoders.store import start_from
from medtl.encoders.table import Encoder
from medtl.errors import DatasetError
from medtl.files import read_json, write_json
from medtl.pretraining.batch import view_batches
from medtl.pretraining.health.probe import patients_of
from medtl.pretraining.methods import METHODS
from medtl.pretraining.objectives.weighted import build_weighted
from medtl.pretraining.plan import FROZEN
from medtl.pretraining.pretrain import training_rows
from medtl.pretraining.sampling import Sampler
from medtl.pretraining.views import ViewsConfig

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.views import monai_views

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Something that trains an encoder a step at a time."""

    encoder: Encoder
    step: Callable[[], object]
    make: Callable[[], object]
    """The batch alone."""
    network: Callable[[], object]
    """Forward and backward alone, on one batch again and again."""


RATES = {"random": 1e-3, "imagenet": 3e-4}


def encoder_for(
    data: Dataset, side: int, method: str = "simclr", origin: str = "random"
) -> tuple[Encoder, PreprocessSpec]:
    torch.manual_seed(0)
    network = None if origin == "imagenet" else METHODS[method].network
    start = start_from(origin, spec=data.spec, network=network, input_px=side)
    return start.encoder, start.spec


def ours(data: Dataset, *, method: str, side: int, batch: int, origin: str = "random") -> Trainer:
    encoder, spec = encoder_for(data, side, method, origin)
    if origin == "imagenet":
        freeze_first(encoder, FROZEN)
    module, _ = build_weighted(method, {}, {}, encoder)
    rows = training_rows(data)
    sampler = Sampler(data.manifest, rows, copies=np.zeros((0, 2), np.int64), pairs="scan", batch_size=batch, seed=0)
    batch_at = view_batches(
        data, sampler, spec, ViewsConfig(), n_views=module.n_views, n_crops=module.n_crops, seed=0
    )  # fmt: skip
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATES[origin], weight_decay=1e-4)
    taken = 0

    def make() -> tuple[object, ...]:
        nonlocal taken
        taken += 1
        return batch_at(taken, CPU)

    def learn(parts: tuple[object, ...]) -> None:
        loss, _ = module(*parts)
        optimizer.zero_grad()
        loss.backward()

    def step() -> None:
        learn(make())
        optimizer.step()
        module.after_step(0.5)

    fixed = make()
    return Trainer(encoder=encoder, step=step, make=make, network=lambda: learn(fixed))


class TwoViews(TorchDataset[tuple[Tensor, Tensor]]):
    """Cached images, transformed one by one, twice."""

    def __init__(self, images: Tensor, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        return torch.as_tensor(self.transform(image)), torch.as_tensor(self.transform(image))


def plain_nt_xent(z: Tensor, temperature: float = 0.2) -> Tensor:
    """The loss as tutorials write it: (2B, D), first views, then second views."""
    z = F.normalize(z, dim=1)
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    half = len(z) // 2
    return F.cross_entropy(similarity, torch.arange(2 * half).roll(half))


def theirs(data: Dataset, *, side: int, batch: int, origin: str = "random") -> Trainer:
    encoder, spec = encoder_for(data, side, origin=origin)
    size = encoder.embedding_dim
    # The same head as `projector` makes it: its batch normalisation belongs to SimCLR.
    head = nn.Sequential(
        nn.Linear(size, size, bias=False), nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, 128)
    )  # fmt: skip
    rows = training_rows(data)
    parts = [spec.network_input(torch.from_numpy(data.pixels(rows[at : at + 256]))) for at in range(0, len(rows), 256)]
    cached = (torch.cat(parts) + 1) / 2
    loader = DataLoader(
        TwoViews(cached, monai_views(ViewsConfig(), side)), batch_size=batch, shuffle=True, drop_last=True,
        num_workers=os.cpu_count() or 1, persistent_workers=True,
    )  # fmt: skip
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=RATES[origin], weight_decay=1e-4)

    def endless() -> Iterator[Tensor]:
        while True:
            for pair in loader:
                yield torch.cat(pair)

    batches = endless()

    def learn(views: Tensor) -> None:
        loss = plain_nt_xent(head(encoder(views)))
        optimizer.zero_grad()
        loss.backward()

    def step() -> None:
        learn(next(batches))
        optimizer.step()

    def make() -> object:
        return next(batches)

    fixed = next(batches)
    return Trainer(encoder=encoder, step=step, make=make, network=lambda: learn(fixed))


def seconds(work: Callable[[], object], times: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def speed(data: Dataset, asked: argparse.Namespace) -> None:
    """Each side in turn; the other's workers are paused meanwhile, and what they had ready is used up first."""
    batch = min(asked.batch, len(training_rows(data)))
    us, them = ours(data, method="simclr", side=asked.side_px, batch=batch), theirs(
        data, side=asked.side_px, batch=batch
    )  # fmt: skip
    workers = psutil.Process().children(recursive=True)
    found: list[tuple[float, float]] = []
    for round_ in range(asked.rounds + 1):
        for worker in workers:
            worker.suspend()
        mine = batch / seconds(us.step, asked.steps)
        for worker in workers:
            worker.resume()
        seconds(them.step, 2 * len(workers) + 1)  # DataLoader keeps two batches a worker ready
        other = batch / seconds(them.step, asked.steps)
        if round_:  # the first is a warm-up
            found.append((mine, other))
    mine, other = (statistics.median(side) for side in zip(*found, strict=True))
    ratio = statistics.median(a / b for a, b in found)
    print(
        f"SimCLR, {asked.side_px} px, batch {batch}, {torch.get_num_threads()} threads: medtl {mine:.0f} images/s, "
        f"MONAI transforms in a DataLoader {other:.0f} images/s, ratio {ratio:.2f} (goal 1.5)"
    )


def share(data: Dataset, asked: argparse.Namespace) -> None:
    us = ours(data, method="simclr", side=asked.side_px, batch=min(asked.batch, len(training_rows(data))))
    found = [(seconds(us.network), seconds(us.make), seconds(us.step)) for _ in range(asked.rounds * asked.steps + 1)][
        1:
    ]
    network, make, step = (statistics.median(part) for part in zip(*found, strict=True))
    part = statistics.median(n / (n + m) for n, m, _ in found)
    print(
        f"a step of {step * 1e3:.0f} ms: forward and backward {network * 1e3:.0f} ms, reading and views "
        f"{make * 1e3:.0f} ms; the network's own work is {part:.0%} (goal 85 %)"
    )


def methods(data: Dataset, asked: argparse.Namespace) -> None:
    batch = min(asked.batch, len(training_rows(data)))
    names = [name for name, row in METHODS.items() if data.spec.dims in row.dims]
    trainers = {name: ours(data, method=name, side=asked.side_px, batch=batch) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(asked.rounds + 1):
        for name, trainer in trainers.items():
            took = seconds(trainer.step, asked.steps)
            if round_:
                times[name].append(took)
    for name in names:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["simclr"], strict=True))
        print(f"{name}: {statistics.median(times[name]) * 1e3:.0f} ms a step, {ratio:.2f} of SimCLR's "
              f"(table: {METHODS[name].cost})")  # fmt: skip


def repeated(data: Dataset, folder: Path, *, count: int, size: int) -> None:
    """A dataset folder of `count` scans that are those of `data`, over and over, each with an identity of its own."""
    folder.mkdir(parents=True)
    spec = data.spec.at(size)
    stored = spec.network_input(torch.from_numpy(data.pixels(np.arange(len(data)))))
    blocks = ((stored + 1) * 127.5).round().to(torch.uint8).numpy()
    with ShardWriter(folder, shape=blocks.shape[1:]) as writer:
        for index in range(count):
            writer.append(blocks[index % len(blocks)])
    manifest = pd.concat([data.manifest] * (count // len(data) + 1), ignore_index=True).iloc[:count]
    names = pd.Series([f"{index:064x}" for index in range(count)], dtype="string")
    # Without hashes nothing is a near-duplicate.
    nothing = pd.Series([pd.NA] * count, dtype="string")
    manifest = manifest.assign(row=range(count), scan_id=names, patient_id=names, sha256=names, path=names,
                               phash=nothing, split="train")  # fmt: skip
    manifest.to_parquet(folder / "manifest.parquet")
    about = read_json(data.folder / "dataset.json", error=DatasetError)
    about.pop("format", None)
    about["spec"] |= {"size_px": size}
    about["counts"] |= {"scans": count, "patients": count}
    write_json(folder / "dataset.json", about | {"fingerprint": f"repeated-{count}"})


def memory(data: Dataset, asked: argparse.Namespace) -> None:
    """The program as a process, its resident memory watched; mapped pixels that were read count as resident."""
    with tempfile.TemporaryDirectory(prefix="medtl-memory-", dir=asked.scratch) as scratch:
        folder = Path(scratch) / "dataset"
        repeated(data, folder, count=asked.scans, size=128)
        code = "from medtl.cli import main; main()"
        command = [sys.executable, "-c", code, "pretrain", str(folder), "--out", f"{scratch}/run", "--set",
                   f"steps={asked.run_steps}", "--set", f"input_px={asked.side_px}"]  # fmt: skip
        began, seen = time.monotonic(), []
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    used = watched.memory_full_info()
                    seen.append((used.rss / 2**30, used.uss / 2**30))
                except psutil.Error:
                    break
                time.sleep(0.5)
        lines = (Path(scratch) / "run/metrics.jsonl").read_text().splitlines()
        steps = json.loads(lines[-1])["step"]
        batch = yaml.safe_load((Path(scratch) / "run/config.yaml").read_text())["batch_size"]
    # The first third holds imports and the warm-up of allocators.
    middle, last = seen[len(seen) // 3 : 2 * len(seen) // 3], seen[2 * len(seen) // 3 :]
    print(
        f"{asked.scans:,} images of 128 px, {steps} steps of {batch} ({steps * batch / asked.scans:.2f} epochs) in "
        f"{time.monotonic() - began:.0f} s: at most {max(r for r, _ in seen):.2f} GB resident (goal 3), of its own "
        f"{max(u for _, u in middle):.2f} GB in the middle third and {max(u for _, u in last):.2f} GB in the last"
    )


def knn_accuracy(encoder: Encoder, data: Dataset, spec: PreprocessSpec, k: int = 20) -> float:
    """Weighted kNN on cosines (Wu 2018, arXiv 1805.01978, sec. 3.4): each labeled scan by those of other patients."""
    values = data.labels().values[:, 0]
    rows = np.flatnonzero(np.isfinite(values)).astype(np.int64)
    sign, patients = torch.from_numpy(values[rows] * 2 - 1).float(), torch.from_numpy(patients_of(data.manifest)[rows])
    x = F.normalize(embed(encoder, data, rows, spec), dim=1)
    right = 0
    for at in range(0, len(rows), 512):
        part = slice(at, at + 512)
        similarity = (x[part] @ x.T).masked_fill(patients[part, None] == patients, -torch.inf)
        near = similarity.topk(min(k, len(rows)), dim=1)
        votes = ((near.values / 0.07).exp() * sign[near.indices]).sum(dim=1)
        right += int(((votes > 0) == (sign[part] > 0)).sum())
    return right / len(rows)


def sooner(data: Dataset, asked: argparse.Namespace) -> None:
    """Both sides train for the same time, looked at ten times; looking does not count as training."""
    batch, curves = min(asked.batch, len(training_rows(data))), {}
    spec = data.spec.at(asked.side_px)
    how: dict[str, Any] = {"side": asked.side_px, "batch": batch, "origin": asked.start}
    for name, make in {"medtl": lambda: ours(data, method="simclr", **how),
                       "MONAI": lambda: theirs(data, **how)}.items():  # fmt: skip
        trainer, trained, curve = make(), 0.0, []
        workers = psutil.Process().children(recursive=True)
        while trained < asked.minutes * 60:
            trained += seconds(trainer.step)
            if trained >= (len(curve) + 1) * asked.minutes * 6:
                for worker in workers:
                    worker.suspend()
                curve.append((trained, knn_accuracy(trainer.encoder, data, spec)))
                for worker in workers:
                    worker.resume()
        curves[name] = curve
        del trainer
        print(f"{name}: " + ", ".join(f"{accuracy:.3f} at {at:.0f} s" for at, accuracy in curve))
    goal = max(accuracy for _, accuracy in curves["MONAI"])
    at = {name: next((at for at, found in curve if found >= goal), None) for name, curve in curves.items()}
    if at["medtl"] is None or at["MONAI"] is None:
        print(f"kNN accuracy {goal:.3f}, the best of the other side, was not reached in {asked.minutes:g} min")
    else:
        print(f"kNN accuracy {goal:.3f}: medtl after {at['medtl']:.0f} s, MONAI after {at['MONAI']:.0f} s, "
              f"{at['MONAI'] / at['medtl']:.1f} times sooner (goal 3)")  # fmt: skip


def simulated(folder: Path) -> Dataset:
    """The simulated radiographs as a dataset."""
    samples = Path(__file__).parents[1] / "sample_data"
    return medtl.ingest(samples / "images", out=folder / "dataset", labels=samples / "labels.csv")


WORK = {"speed": speed, "share": share, "methods": methods, "memory": memory, "sooner": sooner}
UNASKED = ("speed", "share", "methods")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "words", nargs="*", metavar="[WHAT] [DATASET]",
        help=f"WHAT: {', '.join(WORK)}; none is {', '.join(UNASKED)}. DATASET: none is the simulated scans",
    )  # fmt: skip
    parser.add_argument("--side-px", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed in a row")
    parser.add_argument("--minutes", type=float, default=10.0, help="sooner: of training, each side")
    parser.add_argument("--start", choices=list(RATES), default="random", help="sooner")
    parser.add_argument("--scans", type=int, default=100_000, help="memory")
    parser.add_argument("--run-steps", type=int, default=200, help="memory")
    parser.add_argument("--scratch", type=Path, help="a folder for what is made on the way; memory: with 2 GB left")
    asked = parser.parse_args()
    what = [asked.words.pop(0)] if asked.words and asked.words[0] in WORK else list(UNASKED)
    if len(asked.words) > 1:
        parser.error(f"expected one of {', '.join(WORK)}, then a dataset's folder; found {' '.join(asked.words)}")
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory(prefix="medtl-pretrain-", dir=asked.scratch) as scratch:
        data = open_dataset(Path(asked.words[0])) if asked.words else simulated(Path(scratch))
        for name in what:
            WORK[name](data, asked)


if __name__ == "__main__":
    main()
