"""A classifier from a start and some labeled scans."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.encoders.embed import embed
from medtl.encoders.store import RANDOM_START, Start
from medtl.finetuning.adapters import merge_adapters
from medtl.finetuning.average import averaged, mix_with, schedule
from medtl.finetuning.balance import extra_groups, supervised
from medtl.finetuning.batches import batches
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.heads import fit_head
from medtl.finetuning.losses import Supervised
from medtl.finetuning.parts import Parts, count
from medtl.finetuning.semi.learn import Joint, with_unlabeled
from medtl.finetuning.stopping import EarlyStop
from medtl.finetuning.strategies import find_strategy
from medtl.finetuning.trainable import prepare, unfreezing
from medtl.inference.bundle import Classifier
from medtl.progress import counted, say
from medtl.training.loop import train
from medtl.training.pace import Pace

Watch = Callable[[int, Classifier], None]
"""Is shown the classifier that is being trained, its average where there is one, with the number of steps done: before
the first step and after each. It may look but not touch. A strategy without steps shows nothing."""


def fit(
    data: Dataset,
    labels: LabelTable,
    parts: Parts,
    start: Start,
    plan: FinetuneConfig,
    work: Path,
    *,
    resume: bool,
    title: str = "fine-tuning",
    watch: Watch | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Train, and say in a few words what was done.

    Args:
        parts: the rows to fit; those to calibrate with decide when to stop, where `plan.patience` asks for it.
        start: its encoder is trained in place.
        plan: complete, as `filled_in` leaves it.
        work: an existing folder for checkpoints.
        title: what progress lines call the work.
        watch: looks on.
    """
    strategy = find_strategy(plan.strategy, pretrained=start.pretrained)
    start.encoder.multilevel = strategy.head_first
    torch.manual_seed(plan.seed)  # for the head, whatever was tried before
    classifier = Classifier(start.encoder, *(len(task.findings) for task in labels.tasks))
    rows = parts.fit
    counts = ", ".join(
        "{} {}+/{}-".format(f, *count(v)) for f, v in zip(labels.findings, labels.values[rows].T, strict=True)
    )
    with_gradients = strategy.trains != "head"
    say(
        f"{title}: {start.encoder.name} at {start.spec.input_px} px from {start.origin} on {len(rows):,} labeled "
        f"scans ({counts}): {strategy.title}" + (f", {counted(plan.steps or 0, 'step')}" if with_gradients else "")
    )
    began, joined = time.monotonic(), dict[str, Any]()
    if strategy.head_first:
        embeddings = embed(classifier.encoder, data, rows, start.spec)
        for head, task in zip(classifier.heads, labels.tasks, strict=True):
            values = labels.values[rows][:, labels.columns(task)]
            fit_head(head, embeddings, values, exclusive=task.exclusive, widths=start.encoder.widths)
    if with_gradients:
        classifier, joined = _train(
            classifier, data, labels, parts, start, plan, work, resume=resume, title=title, watch=watch
        )
    said = {
        "start": " > ".join(start.history) or RANDOM_START,
        "labeled_scans": len(rows),
        "labels": counts,
        "strategy": plan.strategy,
        "steps": plan.steps if with_gradients else 0,
        "minutes": round((time.monotonic() - began) / 60, 2),
    }
    return classifier.eval(), said | joined


def _train(
    classifier: Classifier,
    data: Dataset,
    labels: LabelTable,
    parts: Parts,
    start: Start,
    plan: FinetuneConfig,
    work: Path,
    *,
    resume: bool,
    title: str,
    watch: Watch | None,
) -> tuple[Classifier, dict[str, Any]]:
    """Change by gradients what the strategy says; what is to be said of the scans without labels."""
    assert plan.steps is not None and plan.lr is not None and plan.batch_size is not None
    strategy = find_strategy(plan.strategy, pretrained=start.pretrained)
    before = {key: value.clone() for key, value in classifier.state_dict().items()} if strategy.keeps else {}
    groups = prepare(classifier, strategy, lr=plan.lr)
    join = unfreezing(classifier, strategy)
    module = supervised(
        classifier, labels.tasks, label_smoothing=plan.label_smoothing, loss=plan.loss, balance=plan.balance
    )
    identity = {"dataset": data.fingerprint, "labels": labels.digest(parts.fit, parts.calibrate)}
    alone = Joint(module=module, batch_at=batches(data, labels, parts.fit, start.spec, plan))
    joint = with_unlabeled(
        data, labels, parts, start, plan, alone=alone, folder=work, identity="/".join(identity.values()),
        fit_member=partial(_fit_member, data, labels, resume=resume),
    )  # fmt: skip
    average = averaged(joint.module, plan.average, steps=plan.steps)
    kept = joint.module if average is None else average.module
    trained = kept if isinstance(kept, Supervised) else kept.supervised
    assert isinstance(trained, Supervised)
    stop = EarlyStop(trained, data, labels, parts.calibrate, start.spec, plan, work) if plan.patience else None

    def enough(done: int, share: float) -> bool:
        join(share)
        if watch is not None:
            watch(done, trained.classifier)
        return stop is not None and stop.stands_still(done)

    def after(done: int, share: float) -> dict[str, float]:
        moved = joint.after_step(done, share) if joint.after_step else {}
        return moved | (stop.check(done, share) if stop else {})

    train(
        title=title,
        module=joint.module,
        optimizer=torch.optim.AdamW([*groups, *extra_groups(module)], weight_decay=plan.weight_decay),
        batch_at=joint.batch_at,
        rate_at=schedule(plan.average),
        pace=Pace(steps=plan.steps),
        batch_size=plan.batch_size,
        folder=work,
        identity=identity,
        resume=resume,
        averaged=average,
        after_step=after,
        enough=enough,
    )
    if stop:
        stop.take_best()
    merge_adapters(trained.classifier.encoder)
    if strategy.keeps:
        mix_with(trained.classifier, before, keeps=strategy.keeps)
    return trained.classifier, joint.said


def _fit_member(
    data: Dataset, labels: LabelTable, parts: Parts, start: Start, plan: FinetuneConfig, work: Path, *, resume: bool
) -> Classifier:
    """A member of an ensemble."""
    return fit(data, labels, parts, start, plan, work, resume=resume, title=work.name.replace("-", " "))[0]
