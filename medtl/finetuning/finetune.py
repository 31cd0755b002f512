"""`medtl finetune`: a detector from few labels, calibrated, with its operating point, as a bundle."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medtl import torchrun
from medtl.config import StrictModel, load
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.labels import LabelTable
from medtl.encoders.embed import embed
from medtl.encoders.store import RANDOM_START, Start, start_from
from medtl.errors import ConfigError
from medtl.files import check_replaceable
from medtl.finetuning.calibrate import calibrate
from medtl.finetuning.heads import fit_head
from medtl.finetuning.losses import Supervised
from medtl.finetuning.parts import Parts, count, split_labeled
from medtl.inference.bundle import MARKER, Bundle, Classifier, write_bundle
from medtl.pretraining.draws import Draws
from medtl.pretraining.presets import GENTLE, settled
from medtl.pretraining.views import ViewsConfig, random_views
from medtl.progress import say
from medtl.training.batches import Rows, batch_rows
from medtl.training.loop import train
from medtl.training.pace import Pace
from medtl.training.runs import open_run, save_config
from medtl.training.schedules import one_cycle


class FinetuneConfig(StrictModel):
    """Everything that decides what fine-tuning learns."""

    encoder: str = "random"
    """Where the encoder's weights start: "random", "imagenet", the folder of a pretraining run or of a bundle, or a
    file with a ResNet's weights in torchvision's or RadImageNet's layout."""
    network: str | None = None
    """A name of the encoder table; None takes the small default, or what `encoder` brings."""
    input_px: int | None = None
    """Side of the network's input in pixels; None takes the encoder's default."""
    steps: int | None = Field(default=None, ge=1)
    """How many steps to train; None chooses by the number of labels."""
    batch_size: int | None = Field(default=None, ge=2)
    """Scans a step; None takes 32 images or 16 volumes."""
    lr: float | None = Field(default=None, gt=0)
    """Top learning rate of AdamW; None is 1e-3 from random weights, 3e-4 from pretrained ones."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay of AdamW."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Targets are drawn this far towards even odds."""
    views: ViewsConfig = GENTLE
    """How training images differ from the scan: the preset "gentle", and what is said here."""
    flip_average: bool = False
    """Average the logits over the scan and its mirror image. Only where left and right may change places."""
    seed: int = 0
    """Same seed, same data, same machine: same weights."""


def finetune(
    dataset: str | Path,
    *,
    out: str | Path,
    labels: str | Path | None = None,
    encoder: str | Path | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train a detector on the labeled scans of a dataset and write it as a bundle.

    From random weights the whole network is trained. From pretrained ones the head is fitted first, then the whole
    network gently, with its normalisation statistics frozen (LP-FT, Kumar 2022, arXiv 2202.10054).

    Args:
        dataset: the folder that `ingest` left.
        out: the bundle's folder; an earlier bundle in it is replaced once the new one is complete.
        labels: a labels file; None takes the one in the dataset.
        encoder: "random", "imagenet", the folder of a pretraining run or of a bundle, or a file with a ResNet's
            weights; None takes the config's, "random" by default.
        resume: go on with an interrupted run.
        config: a YAML file with any of the keys of `FinetuneConfig`.
        settings: strings `key=value`, as `--set` on the command line.

    Returns:
        The bundle's folder.

    Raises:
        MedtlError: see the message.
    """
    if torchrun.count() > 1:
        raise ConfigError("fine-tuning runs in one process; start it without torchrun")
    data, folder = open_dataset(Path(dataset)), Path(out)
    table = data.labels(Path(labels) if labels else None)
    parts = split_labeled(data, table)
    check_replaceable(folder, marker=MARKER)
    asked = load(
        FinetuneConfig,
        file=Path(config) if config else None,
        settings=settings,
        encoder=None if encoder is None else str(encoder),
    )
    if "views" in asked.model_fields_set:
        asked = asked.model_copy(update={"views": settled(asked.views, GENTLE, dims=data.spec.dims)})
    work = folder.parent / f".{folder.name}.run"
    plan = open_run(work, asked, resume=resume, finished=MARKER)
    torch.manual_seed(plan.seed)
    start = start_from(plan.encoder, spec=data.spec, network=plan.network, input_px=plan.input_px)
    plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
    save_config(work, plan)
    classifier, said = fit(data, table, parts, start, plan, work, resume=resume)
    say("calibrating")
    chosen = calibrate(classifier, data, table, parts.calibrate, start.spec, flip_average=plan.flip_average)
    bundle = Bundle(
        name=folder.name,
        findings=table.findings,
        exclusive=table.exclusive,
        thresholds=chosen.thresholds,
        temperatures=chosen.temperatures,
        flip_average=plan.flip_average,
        spec=start.spec,
        network=start.encoder.name,
        input_px=start.encoder.input_px,
        training=said | {"dataset": data.fingerprint},
        calibration=chosen.note,
    )
    rows = parts.fit
    if folder.exists():
        say(f"{folder}: the earlier bundle is replaced")
    written = write_bundle(
        folder,
        bundle,
        classifier,
        embeddings=embed(classifier.encoder, data, rows, start.spec),
        labels=torch.from_numpy(table.values[rows]),
        scan_ids=[str(name) for name in data.manifest["scan_id"].to_numpy()[rows]],
    )
    shutil.rmtree(work, ignore_errors=True)
    say(f"calibration: {chosen.note}")
    for finding in table.findings:
        say(f"{finding}: operating point {chosen.thresholds[finding]:.3f}")
    say(f"bundle {written.bundle_id}: {folder}")
    return folder


def filled_in(plan: FinetuneConfig, start: Start, n_labels: int) -> dict[str, Any]:
    """What is left open in the config, chosen by the start and the number of labels."""
    batch_size = plan.batch_size or (32 if start.spec.dims == 2 else 16)
    if start.pretrained:
        steps, lr = min(max(100, 8 * n_labels // batch_size), 2000), 3e-4
    else:
        steps, lr = min(max(600, 12 * n_labels // batch_size), 3000), 1e-3
    return {
        "batch_size": batch_size,
        "steps": plan.steps or steps,
        "lr": plan.lr or lr,
        "network": start.encoder.name,
        "input_px": start.spec.input_px,
    }


def fit(
    data: Dataset, labels: LabelTable, parts: Parts, start: Start, plan: FinetuneConfig, work: Path, *, resume: bool
) -> tuple[Classifier, dict[str, Any]]:
    """Train, and say in a few words what was done."""
    assert plan.steps is not None and plan.lr is not None and plan.batch_size is not None
    classifier = Classifier(start.encoder, len(labels.findings))
    rows = parts.fit
    counts = ", ".join(
        "{} {}+/{}-".format(f, *count(v)) for f, v in zip(labels.findings, labels.values[rows].T, strict=True)
    )
    say(
        f"fine-tuning {start.encoder.name} at {start.spec.input_px} px from {start.origin} on {len(rows):,} labeled "
        f"scans ({counts}): {plan.steps:,} steps"
    )
    if start.pretrained:
        fit_head(
            classifier.head,
            embed(classifier.encoder, data, rows, start.spec),
            labels.values[rows],
            exclusive=labels.exclusive,
        )
        freeze_norm(classifier.encoder)
    module = Supervised(classifier, exclusive=labels.exclusive, label_smoothing=plan.label_smoothing)
    average = get_ema_multi_avg_fn(1 - 10 / max(plan.steps, 20))  # type: ignore[no-untyped-call]
    averaged = AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    began = time.monotonic()
    train(
        title="fine-tuning",
        module=module,
        optimizer=torch.optim.AdamW(module.parameters(), lr=plan.lr, weight_decay=plan.weight_decay),
        batch_at=_batches(data, labels, rows, start, plan),
        rate_at=one_cycle,
        pace=Pace(steps=plan.steps),
        batch_size=plan.batch_size,
        folder=work,
        identity={"dataset": data.fingerprint, "labels": _digest(labels, parts)},
        resume=resume,
        averaged=averaged,
    )
    said = {
        "start": " > ".join(start.history) or RANDOM_START,
        "labeled_scans": len(rows),
        "labels": counts,
        "steps": plan.steps,
        "minutes": round((time.monotonic() - began) / 60, 2),
    }
    trained = averaged.module
    assert isinstance(trained, Supervised)
    return trained.classifier.eval(), said


def _digest(labels: LabelTable, parts: Parts) -> str:
    """Changes with any label or part, so that a run is not resumed with others."""
    content = hashlib.sha256(",".join(labels.findings).encode())
    for array in (labels.values, parts.fit, parts.calibrate):
        content.update(array.tobytes())
    return content.hexdigest()[:16]


def _batches(
    data: Dataset, labels: LabelTable, rows: Rows, start: Start, plan: FinetuneConfig
) -> Callable[[int, torch.device], tuple[Tensor, Tensor]]:
    """From a step's number to its scans (B, C, H, W) or (B, C, D, H, W) and labels (B, F)."""
    batch_size = plan.batch_size
    assert batch_size is not None

    def batch_at(step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        chosen = batch_rows(rows, step=step, batch_size=batch_size, seed=plan.seed)
        images, detail = start.spec.with_detail(torch.from_numpy(data.pixels(chosen)).to(device))
        draws = Draws("finetune", plan.seed, step, total=len(images), device=device)
        images = random_views(images, plan.views, draws, detail=detail)
        return images, torch.from_numpy(labels.values[chosen]).to(device)

    return batch_at


def freeze_norm(encoder: nn.Module) -> None:
    """Keep the normalisation statistics of pretraining: few labels cannot estimate them anew."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]
