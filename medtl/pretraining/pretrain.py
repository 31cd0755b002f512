"""`medtl pretrain`: an encoder from scans without labels."""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ConfigDict, Field, field_validator
from torch import nn

from medtl.config import StrictModel, load
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.duplicates import near_duplicates
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.embed import embed
from medtl.encoders.store import save_encoder, start_from
from medtl.encoders.table import Encoder
from medtl.errors import RunError
from medtl.pretraining.batch import Views, view_batches
from medtl.pretraining.health import draw_health, rankme, spread
from medtl.pretraining.objectives.weighted import Weighted, build_weighted
from medtl.pretraining.sampling import Pairs, Sampler
from medtl.pretraining.views import ViewsConfig
from medtl.progress import clock, say
from medtl.training import together
from medtl.training.batches import Rows
from medtl.training.loop import train
from medtl.training.precision import Precision, choose_precision, computing
from medtl.training.runs import open_run, save_config
from medtl.training.schedules import warmup_cosine

SMALLEST_BATCH = 8
HEALTH_SCANS = 512
HEALTH_CHECKS = 20


class PretrainConfig(StrictModel):
    """Everything that decides what a pretraining run learns."""

    method: str = "simclr"
    """A name of the table of methods, or several joined by + that are learned together."""
    from_: str = Field(default="random", alias="from")
    """Where the weights start: "random", "imagenet", or the folder of an earlier run."""
    network: str | None = None
    """A name of the encoder table; None takes the small default, or what `from` brings."""
    input_px: int | None = None
    """Side of the network's input in pixels; None takes the encoder's default."""
    minutes: float = Field(default=10.0, gt=0)
    """How long to train; the number of steps is computed from a measurement at the start."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; where given, `minutes` does not count."""
    batch_size: int | None = Field(default=None, ge=SMALLEST_BATCH)
    """Scans a step, of all processes together; None takes 128 images or 32 volumes. Fewer where there are no more."""
    accumulate: int = Field(default=1, ge=1)
    """In how many parts a batch is computed, one after another, when memory is short. Normalisation then counts the
    scans of a part, and contrast finds its negatives in the part only."""
    precision: Precision = "auto"
    """What the encoder computes in, "32" or "bf16"; "auto" measures both at the start and takes bf16 only where it is
    clearly faster."""
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
    seed: int = 0
    """Same seed, same data, same machine, same precision: same weights."""

    model_config = ConfigDict(populate_by_name=True)

    @field_validator("precision", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return "32" if value == 32 else value


@together.naming_lost_processes()
def pretrain(
    dataset: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    from_: str | Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train an encoder on the scans of a dataset; labels are not looked at, the test part is left out.

    Args:
        dataset: the folder that `ingest` left.
        out: the run's folder: `config.yaml`, `metrics.jsonl`, `health.png`, `encoder.safetensors`, `encoder.json`.
        method: a name of the table of methods, or several joined by +; None takes the config's, "simclr" by default.
        from_: "random", "imagenet", or the folder of an earlier run to continue from; None takes the config's,
            "random" by default.
        minutes: how long to train; None takes the config's, 10 by default.
        resume: go on with an interrupted run in `out`, with the config that it was started with.
        config: a YAML file with any of the keys of `PretrainConfig`.
        settings: strings `key=value`, as `--set` on the command line.

    Returns:
        The run's folder.

    Raises:
        MedtlError: see the message.
    """
    together.connect()
    data, folder = open_dataset(Path(dataset)), Path(out)
    said = {"method": method, "from": None if from_ is None else str(from_), "minutes": minutes}
    asked = load(PretrainConfig, file=Path(config) if config else None, settings=settings, **said)
    plan = together.from_first(lambda: open_run(folder, asked, resume=resume, finished="encoder.json"))
    if resume and (folder / "encoder.json").is_file():
        say(f"{folder}: this run is finished already")
        return folder
    torch.manual_seed(plan.seed)
    start = start_from(plan.from_, spec=data.spec, network=plan.network, input_px=plan.input_px)
    rows = training_rows(data)
    batch_size = min(plan.batch_size or (128 if data.spec.dims == 2 else 32), len(rows))
    if batch_size != plan.batch_size:
        batch_size -= batch_size % (together.processes() * plan.accumulate)
    together.check_shares(batch_size, accumulate=plan.accumulate)
    part_size = batch_size // plan.accumulate
    encoder = start.encoder
    module, resolved = build_weighted(plan.method, plan.objective, plan.weights, encoder)
    sampler = Sampler(
        data.manifest, rows, copies=copies_of(data), pairs=plan.pairs, batch_size=part_size, seed=plan.seed
    )
    batch_at = view_batches(
        data, sampler, start.spec, plan.views, n_views=module.n_views, n_crops=module.n_crops, seed=plan.seed,
        part=together.part_of(part_size),
    )  # fmt: skip
    precision = choose_precision(plan.precision, module, batch_at, steps=plan.steps, seconds=plan.minutes * 60)
    steps = plan.steps or _steps_in(plan.minutes * 60 / plan.accumulate, module, batch_at, precision)
    plan = plan.model_copy(
        update={"steps": steps, "network": encoder.name, "input_px": start.spec.input_px, "batch_size": batch_size}
        | {"precision": precision}
        | resolved
    )
    together.from_first(lambda: save_config(folder, plan))
    say(
        f"pretraining {encoder.name} from {start.origin} with {plan.method} on {len(rows):,} scans at "
        f"{start.spec.input_px} px: {steps:,} steps of {batch_size}, "
        f"{steps * batch_size / len(rows):.0f} epochs"
    )
    began = time.monotonic()
    train(
        title="pretraining",
        module=module,
        optimizer=torch.optim.AdamW(module.parameters(), lr=plan.lr, weight_decay=plan.weight_decay),
        batch_at=batch_at,
        rate_at=warmup_cosine,
        steps=steps,
        batch_size=batch_size,
        folder=folder,
        identity={"dataset": data.fingerprint},
        resume=resume,
        accumulate=plan.accumulate,
        precision=precision,
        after_step=_after_step(module, _health_checks(data, rows, start.spec, encoder, steps), steps),
    )
    learned = f"{plan.method} on {len(rows):,} scans, {steps:,} steps of {batch_size}"
    about: dict[str, Any] = {
        "method": plan.method,
        "history": [*start.history, learned],
        "dataset": data.fingerprint,
        "minutes": round((time.monotonic() - began) / 60, 2),
    }

    def finish() -> None:
        draw_health(folder / "metrics.jsonl", folder / "health.png")
        save_encoder(folder, encoder, spec=start.spec, about=about)

    together.from_first(finish)
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
            f"{data.folder}: has {len(rows)} scans outside its test part; contrasting scans with each other "
            f"needs at least {SMALLEST_BATCH}"
        )
    return rows


def copies_of(data: Dataset) -> Rows:
    """(P, 2) pairs of rows that show the same picture."""
    return near_duplicates([str(text) for text in data.manifest["phash"].fillna("")], data.pixels)


def _steps_in(
    seconds: float, module: nn.Module, batch_at: Callable[[int, torch.device], tuple[Views]], precision: Precision
) -> int:
    """How many steps fit: a copy of the module is trained for some seconds, so that the run itself is untouched."""
    device = together.connect().device
    trial = copy.deepcopy(module).to(device)
    optimizer = torch.optim.AdamW(trial.parameters())
    times: list[float] = []
    began = time.monotonic()
    while together.from_first(
        lambda: len(times) < 3 or (len(times) < 20 and time.monotonic() - began < 0.05 * seconds)
    ):
        at = time.monotonic()
        batch = batch_at(len(times), device)
        with computing(trial, precision):
            loss, _ = trial(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.monotonic() - at)
    left = seconds - (time.monotonic() - began)
    return together.from_first(lambda: max(1, int(0.97 * left / float(np.median(times[1:])))))


def _after_step(
    module: Weighted, check: Callable[[int], dict[str, float]], steps: int
) -> Callable[[int], dict[str, float]]:
    def after(done: int) -> dict[str, float]:
        module.after_step(done / steps)
        return check(done) if together.rank() == 0 else {}

    return after


def _health_checks(
    data: Dataset, rows: Rows, spec: PreprocessSpec, encoder: Encoder, steps: int
) -> Callable[[int], dict[str, float]]:
    """RankMe and spread on a fixed sample of scans, some twenty times a run."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), HEALTH_SCANS)).astype(np.int64)]
    every = max(10, steps // HEALTH_CHECKS // 10 * 10)

    def check(done: int) -> dict[str, float]:
        if done % every and done != steps:
            return {}
        embeddings = embed(encoder, data, sample, spec)
        return {"rankme": round(rankme(embeddings), 2), "spread": round(spread(embeddings), 4)}

    return check
