"""From a supervised loss and its batches to a semi-supervised one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medtl.config import StrictModel
from medtl.data.dataset import Dataset
from medtl.data.label_rows import Values
from medtl.data.labels import LabelTable
from medtl.encoders.store import Start, start_from
from medtl.finetuning.config import FinetuneConfig, filled_in, origins
from medtl.finetuning.losses import Supervised
from medtl.finetuning.parts import Fold, Parts
from medtl.finetuning.semi import TABLE
from medtl.finetuning.semi.batch import unlabeled_batches, unlabeled_rows
from medtl.finetuning.semi.members import Member, ensemble, folds
from medtl.finetuning.strategies import AUTO
from medtl.inference.bundle import Classifier
from medtl.pretraining.presets import preset_for, settled
from medtl.progress import say
from medtl.training.batches import Rows
from medtl.training.loop import BatchAt

FitMember = Callable[[Parts, Start, FinetuneConfig, Path], Classifier]


@dataclass(frozen=True, kw_only=True)
class Joint:
    """What to train, on what, what moves after a step, and what to say of it."""

    module: nn.Module
    batch_at: BatchAt
    after_step: Callable[[int, float], dict[str, float]] | None = None
    said: dict[str, Any] = field(default_factory=dict)


def with_unlabeled(
    data: Dataset,
    labels: LabelTable,
    parts: Parts,
    start: Start,
    plan: FinetuneConfig,
    *,
    alone: Joint,
    folder: Path,
    identity: str,
    fit_member: FitMember,
) -> Joint:
    """Bring the scans without labels in, where the plan says so and there are some.

    Args:
        alone: the loss on labeled scans, a `Supervised`, and their batches; returned where there is nothing to join.
        folder: to work in.
        identity: of dataset and labels.
        fit_member: fine-tunes a member of an ensemble without unlabeled scans.
    """
    if plan.semi == "none":
        return alone
    assert plan.batch_size is not None and isinstance(alone.module, Supervised)
    asked = plan.unlabeled
    rows = unlabeled_rows(data, parts, at_most=asked.at_most, seed=plan.seed)
    if len(rows) == 0:
        say(f"{plan.semi}: no scan without labels outside the test part and what calibrates; fine-tuning without")
        return replace(alone, said={"semi": f"none, for want of scans without labels ({plan.semi} was asked for)"})
    base, why = preset_for(data.manifest["modality"])
    strong = settled(asked.views, base, dims=data.spec.dims)
    method = TABLE[plan.semi]
    say(f"{plan.semi}: {len(rows):,} scans without labels; strong views: preset {strong.preset} ({why})")
    said: dict[str, Any] = {"semi": plan.semi, "unlabeled_scans": len(rows)}
    soft, pool = None, rows
    if plan.semi == "distil":
        soft, pool = _taught(data, labels, parts, start, plan, rows, folder, identity=identity, fit_member=fit_member)
        said |= {"members": asked.distil.members, "member_starts": _starts(plan, start)}
    config: StrictModel = getattr(asked, plan.semi.replace("-", "_"))
    fitted = LabelTable(findings=labels.findings, values=labels.values[parts.fit])
    module = method(alone.module, config, labels=fitted)
    assert isinstance(module, nn.Module)
    unlabeled_at = unlabeled_batches(
        data, pool, start.spec, [{"gentle": plan.views, "strong": strong}[kind] for kind in method.views],
        batch_size=asked.ratio * plan.batch_size, seed=plan.seed, soft=soft,
    )  # fmt: skip

    def both(step: int, device: torch.device) -> tuple[Any, ...]:
        return (*alone.batch_at(step, device), unlabeled_at(step, device))

    def after(done: int, share: float) -> dict[str, float]:
        module.after_step(share)
        return {}

    return Joint(module=module, batch_at=both, after_step=after, said=said)


def _taught(
    data: Dataset,
    labels: LabelTable,
    parts: Parts,
    start: Start,
    plan: FinetuneConfig,
    rows: Rows,
    folder: Path,
    *,
    identity: str,
    fit_member: FitMember,
) -> tuple[Values, Rows]:
    """What an ensemble says (N, F), and the rows of which it says something."""
    settings = plan.unlabeled.distil
    divided = folds(data, labels, parts.fit, members=settings.members, seed=plan.seed)
    starts = _starts(plan, start)

    def fit_one(number: int, fold: Fold, own: Path) -> Member:
        origin, seed = starts[number % len(starts)], plan.seed + 1 + number
        torch.manual_seed(seed)
        asked = {"semi": "none", "encoder": origin, "steps": settings.member_steps, "seed": seed}
        if origin == starts[0]:
            again = start_from(origin, spec=data.spec, network=start.encoder.name, input_px=start.spec.input_px)
        else:  # what suits the student's start need not suit this one
            again = start_from(origin, spec=data.spec, enlarge=True)
            asked |= {"strategy": AUTO, "lr": None}
        own_plan = plan.model_copy(update=asked)
        own_plan = own_plan.model_copy(update=filled_in(own_plan, again, len(fold.fit)))
        classifier = fit_member(replace(parts, fit=fold.fit), again, own_plan, own)
        return Member(classifier=classifier, spec=again.spec)

    soft = ensemble(data, labels, divided, rows, folder, identity=identity, fit_member=fit_one)
    return soft, np.concatenate([rows, *(fold.held for fold in divided)])


def _starts(plan: FinetuneConfig, start: Start) -> list[str]:
    """Where members start; the student's own start is the first."""
    return origins(plan.encoder) if plan.encoder else [start.origin]
