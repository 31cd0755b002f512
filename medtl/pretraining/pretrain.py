"""`medtl pretrain`: an encoder from scans without labels."""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import nn

from medtl.config import StrictModel, load
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.duplicates import near_duplicates
from medtl.encoders.store import save_encoder, start_from
from medtl.errors import RunError
from medtl.pretraining.batch import Views, view_batches
from medtl.pretraining.health.inputs import check_scans
from medtl.pretraining.health.plan import plan_checks
from medtl.pretraining.health.probe import labeled_set
from medtl.pretraining.health.watch import Training, Watch
from medtl.pretraining.objectives.weighted import Weighted, build_weighted
from medtl.pretraining.sampling import Pairs, Sampler
from medtl.pretraining.views import ViewsConfig
from medtl.progress import clock, say
from medtl.training.batches import Rows
from medtl.training.loop import one_device, train
from medtl.training.runs import open_run, save_config
from medtl.training.schedules import warmup_cosine

SMALLEST_BATCH = 8


class PretrainConfig(StrictModel):
    """Everything that decides what a pretraining run learns."""

    method: str = "simclr"
    """A name of the table of methods, or several joined by + that are learned together."""
    from_: str = Field(default="random", alias="from")
    """Where the weights start: "random", "imagenet", the folder of an earlier run or of a bundle, or a file with a
    ResNet's weights in torchvision's or RadImageNet's layout."""
    network: str | None = None
    """A name of the encoder table; None takes the small default, or what `from` brings."""
    input_px: int | None = None
    """Side of the network's input in pixels; None takes the encoder's default."""
    minutes: float = Field(default=10.0, gt=0)
    """How long to train; the number of steps is computed from a measurement at the start."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; where given, `minutes` does not count."""
    batch_size: int | None = Field(default=None, ge=SMALLEST_BATCH)
    """Scans a step, each with two views; None takes 128 images or 32 volumes. Fewer where the dataset is smaller."""
    lr: float = Field(default=1e-3, gt=0)
    """Top learning rate of AdamW."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled weight decay of AdamW."""
    views: ViewsConfig = ViewsConfig()
    """How the views differ from the scan."""
    pairs: Pairs = "scan"
    """What the second view shows: the same "scan", or another of the same "study" or "patient" where there is one."""
    objective: dict[str, Any] = Field(default_factory=dict)
    """The settings of the objective; of several that are learned together, by their names."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Of several objectives: what each loss counts; 1 where not said."""
    labels: str | None = None
    """A labels file for a probe at every check of health, and to keep the encoder of the best one. None looks at no
    label; the encoder never learns from them, and those of the test part are never looked at."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many checks without a better AUROC of the probes or, without labels, without a better RankMe or
    uniformity. None trains to the end: the learning rate falls to zero over the planned steps, and the best weights
    come late."""
    check_every: int | None = Field(default=None, ge=10, multiple_of=10)
    """Steps between checks of health; None makes 4 to 20 checks, about 2 % of the work."""
    seed: int = 0
    """Same seed, same data, same machine: same weights."""

    model_config = ConfigDict(populate_by_name=True)


def pretrain(
    dataset: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    from_: str | Path | None = None,
    minutes: float | None = None,
    labels: str | Path | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train an encoder on the scans of a dataset without labels; the test part is left out.

    Args:
        dataset: the folder that `ingest` left.
        out: the run's folder: `config.yaml`, `metrics.jsonl`, `health.png`, `encoder.safetensors`, `encoder.json`.
        method: a name of the table of methods, or several joined by +; None takes the config's, "simclr" by default.
        from_: "random", "imagenet", the folder of an earlier run or of a bundle to continue from, or a file with a
            ResNet's weights; None takes the config's, "random" by default.
        minutes: how long to train; None takes the config's, 10 by default.
        labels: a labels file to probe the encoder with at every check; None takes the config's, none by default.
        resume: go on with an interrupted run in `out`, with the config that it was started with.
        config: a YAML file with any of the keys of `PretrainConfig`.
        settings: strings `key=value`, as `--set` on the command line.

    Returns:
        The run's folder.

    Raises:
        MedtlError: see the message.
    """
    data, folder = open_dataset(Path(dataset)), Path(out)
    said = {"method": method, "from": None if from_ is None else str(from_), "minutes": minutes}
    said["labels"] = None if labels is None else str(labels)
    asked = load(PretrainConfig, file=Path(config) if config else None, settings=settings, **said)
    plan = open_run(folder, asked, resume=resume, finished="encoder.json")
    if resume and (folder / "encoder.json").is_file():
        say(f"{folder}: this run is finished already")
        return folder
    torch.manual_seed(plan.seed)
    start = start_from(plan.from_, spec=data.spec, network=plan.network, input_px=plan.input_px)
    rows = training_rows(data)
    check_scans(data, rows)
    labeled = labeled_set(data, plan.labels) if plan.labels else None
    batch_size = min(wanted := plan.batch_size or (128 if data.spec.dims == 2 else 32), len(rows))
    if batch_size < wanted:
        say(f"there are {len(rows):,} scans to learn from: batches hold {batch_size} in place of {wanted}")
    encoder = start.encoder
    module, resolved = build_weighted(plan.method, plan.objective, plan.weights, encoder)
    sampler = Sampler(
        data.manifest, rows, copies=copies_of(data), pairs=plan.pairs, batch_size=batch_size, seed=plan.seed
    )
    batch_at = view_batches(
        data, sampler, start.spec, plan.views, n_views=module.n_views, n_crops=module.n_crops, seed=plan.seed
    )
    steps = plan.steps or _steps_in(plan.minutes * 60, module, batch_at)
    checks = plan_checks(
        n_scans=len(rows), n_labeled=len(labeled.rows) if labeled else 0, steps=steps,
        images_per_step=batch_size * module.n_views, every=plan.check_every,
    )  # fmt: skip
    chosen = {"steps": steps, "input_px": start.spec.input_px, "batch_size": batch_size, "check_every": checks.every}
    plan = plan.model_copy(update={"network": encoder.name} | chosen | resolved)
    save_config(folder, plan)
    say(
        f"pretraining {encoder.name} from {start.origin} with {plan.method} on {len(rows):,} scans at "
        f"{start.spec.input_px} px: {steps:,} steps of {batch_size}, "
        f"{steps * batch_size / len(rows):.0f} epochs"
    )
    began = time.monotonic()
    training = Training(
        method=plan.method, steps=steps, lr=plan.lr, batch_size=batch_size, views=plan.views, seed=plan.seed,
        patience=plan.patience,
    )  # fmt: skip
    watch = Watch(encoder, data, rows, start.spec, plan=checks, training=training, folder=folder, labeled=labeled)
    train(
        title="pretraining",
        module=module,
        optimizer=torch.optim.AdamW(module.parameters(), lr=plan.lr, weight_decay=plan.weight_decay),
        batch_at=batch_at,
        rate_at=warmup_cosine,
        steps=steps,
        batch_size=batch_size,
        folder=folder,
        identity={"dataset": data.fingerprint} | ({"labels": labeled.digest} if labeled else {}),
        resume=resume,
        after_step=_after_step(module, watch.after_step, steps),
        enough=watch.enough,
    )
    stopped = watch.finish()
    learned = f"{plan.method} on {len(rows):,} scans, {stopped['best_step']:,} steps of {batch_size}"
    about: dict[str, Any] = {
        "method": plan.method,
        "history": [*start.history, learned],
        "dataset": data.fingerprint,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "stopped": stopped,
    }
    save_encoder(folder, encoder, spec=start.spec, about=about)
    watch.tidy()
    say(f"done in {clock(time.monotonic() - began)}: {folder / 'encoder.safetensors'}")
    return folder


def training_rows(data: Dataset) -> Rows:
    """The rows to learn from: all but the test part.

    Raises:
        RunError: fewer scans than the smallest batch.
    """
    rows = np.flatnonzero(data.manifest["split"].to_numpy() != "test").astype(np.int64)
    if len(rows) < SMALLEST_BATCH:
        raise RunError(
            f"{data.folder}: has {len(rows)} scan{'s' * (len(rows) != 1)} outside its test part; contrasting scans "
            f"with each other needs at least {SMALLEST_BATCH}"
        )
    return rows


def copies_of(data: Dataset) -> Rows:
    """(P, 2) pairs of rows that show the same picture."""
    return near_duplicates([str(text) for text in data.manifest["phash"].fillna("")], data.pixels)


def _steps_in(seconds: float, module: nn.Module, batch_at: Callable[[int, torch.device], tuple[Views]]) -> int:
    """How many steps fit: a copy of the module is trained for some seconds, so that the run itself is untouched."""
    device = one_device().device
    trial = copy.deepcopy(module).to(device)
    optimizer = torch.optim.AdamW(trial.parameters())
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 3 or (len(times) < 20 and time.monotonic() - began < 0.05 * seconds):
        at = time.monotonic()
        loss, _ = trial(*batch_at(len(times), device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.monotonic() - at)
    left = seconds - (time.monotonic() - began)
    return max(1, int(0.97 * left / float(np.median(times[1:]))))


def _after_step(
    module: Weighted, check: Callable[[int], dict[str, float]], steps: int
) -> Callable[[int], dict[str, float]]:
    def after(done: int) -> dict[str, float]:
        module.after_step(done / steps)
        return check(done)

    return after
