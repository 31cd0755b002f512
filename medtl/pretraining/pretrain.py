"""`medtl pretrain`: an encoder from scans without labels."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtl.config import load
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.duplicates import near_duplicates
from medtl.data.label_rows import LabelFiles, files_of
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.depth import freeze_first
from medtl.encoders.store import save_encoder, start_from
from medtl.encoders.table import Encoder, find
from medtl.errors import RunError
from medtl.pretraining.batch import view_batches
from medtl.pretraining.config import SMALLEST_BATCH, PretrainConfig
from medtl.pretraining.contrast import check_parts, with_contrast
from medtl.pretraining.growth import check_growth, side_at, steps_gained
from medtl.pretraining.health.best import way_on
from medtl.pretraining.health.inputs import check_scans
from medtl.pretraining.health.plan import plan_checks
from medtl.pretraining.health.probe import labeled_set
from medtl.pretraining.health.watch import Training, Watch
from medtl.pretraining.objectives.weighted import Weighted, build_weighted
from medtl.pretraining.plan import batch_size_of, planned, steps_in, wanted_network, with_start
from medtl.pretraining.presets import BY_MODALITY, preset_for, settled
from medtl.pretraining.sampling import Sampler
from medtl.pretraining.show import show_views as draw_views
from medtl.pretraining.show import views_path
from medtl.pretraining.views import ViewsConfig
from medtl.progress import clock, counted, say
from medtl.training import together
from medtl.training.batches import Rows
from medtl.training.loop import train
from medtl.training.memory import naming_lack_of_memory
from medtl.training.pace import Pace
from medtl.training.precision import choose_precision
from medtl.training.runs import open_run, save_config
from medtl.training.schedules import warmup_cosine

FOR_STEPS = 0.97
"""Of the budget, at most; the rest is for what is written at the end."""


@together.naming_lost_processes()
@naming_lack_of_memory("lower batch_size or input_px, or raise accumulate")
def pretrain(
    dataset: str | Path,
    *,
    out: str | Path | None = None,
    method: str | None = None,
    from_: str | Path | None = None,
    minutes: float | None = None,
    labels: LabelFiles = None,
    resume: bool = False,
    show_views: bool = False,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train an encoder on the scans of a dataset without labels; the test part is left out.

    Args:
        dataset: the folder that `ingest` left.
        out: the run's folder: `config.yaml`, `metrics.jsonl`, `health.png`, `encoder.safetensors`, `encoder.json`.
        method: a name of the table of methods, or several joined by +; None takes the config's, "simclr" by default.
        from_: "random", "imagenet", the folder of an earlier run or of a bundle to continue from, or a file with a
            ResNet's weights; None takes the config's, by default "imagenet" for images and "random" for volumes.
        minutes: how long to train; None takes the config's, 10 by default.
        labels: a labels file, or several, to probe the encoder with at every check; None takes the config's, none by
            default.
        resume: go on with an interrupted run in `out`, with the config that it was started with.
        show_views: train nothing, but plan for `minutes` as a run would, and draw some scans and random views of them
            at the planned side into a PNG beside `out`, called `RUN-views.png`; without `out` it is
            `DATASET-views.png` in the current folder.
        config: a YAML file with any of the keys of `PretrainConfig`.
        settings: strings `key=value`, as `--set` on the command line.

    Returns:
        The run's folder, or the picture.

    Raises:
        MedtlError: see the message.
    """
    began = time.monotonic()
    together.connect()
    data = open_dataset(Path(dataset))
    said: dict[str, Any] = {"method": method, "from": None if from_ is None else str(from_), "minutes": minutes}
    said["labels"] = tuple(map(str, files_of(labels))) or None
    asked = load(PretrainConfig, file=Path(config) if config else None, settings=settings, **said)
    preset, why = preset_for(data.manifest["modality"])
    if "views" in asked.model_fields_set or show_views:
        asked = asked.model_copy(update={"views": settled(asked.views, preset, dims=data.spec.dims)})
    if show_views:
        return _draw_views(
            data, with_start(asked, dims=data.spec.dims), Path(dataset), None if out is None else Path(out)
        )
    if out is None:
        raise RunError("pretrain: has no folder to write to; name one with --out RUN")
    folder = Path(out)
    plan = together.from_first(lambda: open_run(folder, asked, resume=resume, finished="encoder.json"))
    plan = with_start(plan, dims=data.spec.dims)
    plan = plan.model_copy(update={"views": settled(plan.views, preset, dims=data.spec.dims)})
    if resume and (folder / "encoder.json").is_file():
        say(f"{folder}: this run is finished already")
        return folder
    _learn(plan, data, folder, why_views=why, resume=resume, began=began)
    return folder


def _learn(plan: PretrainConfig, data: Dataset, folder: Path, *, why_views: str, resume: bool, began: float) -> None:
    """Fill in the plan, train, and write the encoder."""
    rows = training_rows(data)
    check_scans(data, rows)
    batch_size = batch_size_of(plan, scans=len(rows))
    check_parts(plan, batch_size=batch_size)
    part_size = batch_size // plan.accumulate
    sampler = Sampler(
        data.manifest, rows, copies=copies_of(data), pairs=plan.pairs, batch_size=part_size, seed=plan.seed
    )
    plan = with_contrast(plan, data, rows, sampler)
    labeled = labeled_set(data, plan.labels) if plan.labels else None
    if not resume:
        plan = planned(plan, data, scans=len(rows))
    origin, lr, frozen = plan.from_, plan.lr, plan.frozen
    assert origin is not None and lr is not None and frozen is not None, "with its start"
    torch.manual_seed(plan.seed)
    start = start_from(origin, spec=data.spec, network=plan.network, input_px=plan.input_px)
    encoder = start.encoder
    freeze_first(encoder, frozen)
    module, resolved = build_weighted(plan.method, plan.objective, plan.weights, encoder)
    check_growth(plan.method, plan.grow_from)
    input_px = start.spec.input_px or encoder.input_px
    if module.n_crops:
        plan.views.check_local(input_px)
    seconds = FOR_STEPS * 60 * plan.minutes
    pace = Pace(steps=plan.steps) if plan.steps else Pace(seconds=seconds)
    least_px = find(encoder.name).least_px(encoder.dims)
    views_at = partial(
        view_batches, data, sampler, start.spec, plan.views, n_views=module.n_views, n_crops=module.n_crops,
        seed=plan.seed, part=together.part_of(part_size),
    )  # fmt: skip
    batch_at = views_at(
        side_at=lambda: side_at(pace.share, side_px=input_px, grow_from=plan.grow_from, least_px=least_px)
    )
    full = views_at()
    precision = choose_precision(plan.precision, module, full, steps=plan.steps, seconds=seconds)
    gained = steps_gained(plan.grow_from, dims=data.spec.dims)
    expected = plan.steps or round(steps_in(seconds / plan.accumulate, module, full, precision) * gained)
    checks = plan_checks(
        n_scans=len(rows), n_labeled=len(labeled.rows) if labeled else 0, steps=expected,
        images_per_step=batch_size * module.n_views, every=plan.check_every, look_at=plan.check_scans,
    )  # fmt: skip
    chosen = {"network": encoder.name, "input_px": input_px, "check_every": checks.every, "check_scans": checks.scans}
    plan = plan.model_copy(update=chosen | {"precision": precision} | resolved)
    together.from_first(lambda: save_config(folder, plan))
    say(_views_in_words(plan.views, why_views))
    say(
        f"pretraining {encoder.name} from {start.origin} with {plan.method} on {len(rows):,} scans at "
        f"{input_px} px, {batch_size} a step, "
        + (counted(plan.steps, "step") if plan.steps else f"for {clock(60 * plan.minutes)}")
    )
    training = Training(
        method=plan.method, steps=expected, lr=lr, batch_size=batch_size, views=plan.views, seed=plan.seed,
        patience=plan.patience, history=start.history, scans=len(rows),
    )  # fmt: skip
    watch = (
        Watch(encoder, data, rows, start.spec, plan=checks, training=training, folder=folder, labeled=labeled)
        if together.rank() == 0
        else None
    )
    if pace.seconds is not None:
        pace.seconds = together.from_first(lambda: _for_steps(60 * plan.minutes, watch, began=began))
    train(
        title="pretraining",
        module=module,
        optimizer=torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=plan.weight_decay),
        batch_at=batch_at,
        rate_at=warmup_cosine,
        pace=pace,
        batch_size=batch_size,
        folder=folder,
        identity={"dataset": data.fingerprint} | ({"labels": labeled.digest} if labeled else {}),
        resume=resume,
        accumulate=plan.accumulate,
        precision=precision,
        after_step=_after_step(module, watch),
        way_on=lambda: way_on(folder, lr=lr),
        enough=lambda done, share: together.from_first(lambda: watch is not None and watch.enough(done, share)),
    )
    ends = None if plan.steps else began + 60 * plan.minutes
    stopped = together.from_first(
        lambda: watch.finish(seconds_left=None if ends is None else ends - time.monotonic()) if watch else {}
    )
    learned = training.learned(stopped["best_step"])
    about = {
        "method": plan.method,
        "history": [*start.history, learned],
        "dataset": data.fingerprint,
        "minutes": round((time.monotonic() - began) / 60, 2),
        "stopped": stopped,
    }
    together.from_first(lambda: _write(folder, encoder, start.spec, about, watch))
    say(f"done in {clock(time.monotonic() - began)}: {folder / 'encoder.safetensors'}")


def _for_steps(budget: float, watch: Watch | None, *, began: float) -> float:
    """Seconds of the budget for steps, now that all else is ready: without what the end will take."""
    end = max((1 - FOR_STEPS) * budget, watch.draw_first() if watch else 0.0)
    ready = time.monotonic() - began
    if (left := budget - ready - end) < 1:
        say(
            f"getting ready took {clock(ready)} and the end takes about {clock(end)}, of {clock(budget)}: little more "
            "than a step can be learned, and the time will not be kept; give more --minutes"
        )
    return max(1.0, left)


def _write(folder: Path, encoder: Encoder, spec: PreprocessSpec, about: dict[str, Any], watch: Watch | None) -> None:
    save_encoder(folder, encoder, spec=spec, about=about)
    if watch is not None:
        watch.tidy()


def _draw_views(data: Dataset, plan: PretrainConfig, dataset: Path, out: Path | None) -> Path:
    """Draw the views that a run with this plan would learn from, at the side that it would choose."""
    path, rows = views_path(dataset, out), training_rows(data)
    # Where the side is said already, the network makes no difference to the views, and measuring would be in vain.
    plan = planned(plan, data, scans=len(rows)) if plan.input_px is None else plan
    assert plan.from_ is not None, "with its start"
    torch.manual_seed(plan.seed)
    network = plan.network or wanted_network(plan)
    start = start_from(plan.from_, spec=data.spec, network=network, input_px=plan.input_px)
    n_crops = build_weighted(plan.method, plan.objective, plan.weights, start.encoder)[0].n_crops
    draw_views(data, rows, start.spec, plan.views, n_crops=n_crops, seed=plan.seed, path=path)
    say(_views_in_words(plan.views, preset_for(data.manifest["modality"])[1]))
    say(f"{path}: scans as the network sees them at {start.spec.input_px} px, and random views of each")
    return path


def _views_in_words(views: ViewsConfig, why: str) -> str:
    names = ", ".join(dict.fromkeys(BY_MODALITY.values()))
    return (
        f"views: preset {views.preset} ({why}), flips {views.flip:.0%}; change with --set views.preset=NAME ({names}) "
        "or a field"
    )


def training_rows(data: Dataset) -> Rows:
    """The rows to learn from: all but the test part.

    Raises:
        RunError: fewer scans than the smallest batch.
    """
    rows = np.flatnonzero(data.manifest["split"].to_numpy() != "test").astype(np.int64)
    if len(rows) < SMALLEST_BATCH:
        raise RunError(
            f"{data.folder}: has {counted(len(rows), 'scan')} outside its test part, and a batch needs at "
            f"least {SMALLEST_BATCH}; ingest more (--add), or start from ImageNet with medtl finetune"
        )
    return rows


def copies_of(data: Dataset) -> Rows:
    """(P, 2) pairs of rows that show the same picture."""
    return near_duplicates([str(text) for text in data.manifest["phash"].fillna("")], data.grey)


def _after_step(module: Weighted, watch: Watch | None) -> Callable[[int, float], dict[str, float]]:
    """Move what is no parameter, then look at health, which the first process does for all."""

    def after(done: int, share: float) -> dict[str, float]:
        module.after_step(share)
        return together.from_first(lambda: watch.after_step(done, share) if watch else {})

    return after
