"""A bundle with one finding more: its settings, its weights and its reference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from medtl.data.tasks import Task
from medtl.finetuning.examples import Examples
from medtl.finetuning.instant import Taught
from medtl.inference.bundle import Bundle
from medtl.inference.reference import Reference, thumbnail

Weights = Mapping[str, Tensor]
T = TypeVar("T")


def with_finding(bundle: Bundle, weights: Weights, taught: Taught) -> tuple[Bundle, dict[str, Tensor]]:
    """The bundle and its weights with a finding that was taught, in place of one of the same name.

    A new finding gets a head of its own. One that is taught anew gets its row in the head that it was in, so that the
    shapes, and with them the last bits of what the other rows compute, stay as they are.
    """
    finding, grown = taught.finding, dict(weights)
    if finding in bundle.findings:
        place, row = _place(bundle, finding)
        stem = "head" if len(bundle.tasks) == 1 else f"head.{place}"
        for part in ("weight", "bias"):
            changed = grown[f"{stem}.{part}"].clone()
            changed[row] = getattr(taught.head, part).detach()[0]
            grown[f"{stem}.{part}"] = changed
        tasks = bundle.tasks
    else:
        if len(bundle.tasks) == 1:
            grown = {f"head.0.{key[5:]}" if key.startswith("head.") else key: value for key, value in grown.items()}
        for part in ("weight", "bias"):
            grown[f"head.{len(bundle.tasks)}.{part}"] = getattr(taught.head, part).detach()
        used = {task.name for task in bundle.tasks}
        name = f"{finding} (taught)" if finding in used else finding
        tasks = (*bundle.tasks, Task(name=name, findings=(finding,), exclusive=False))
    chosen = taught.calibration
    return replace(
        bundle,
        findings=tuple(name for task in tasks for name in task.findings),
        exclusive=len(tasks) == 1 and tasks[0].exclusive,
        tasks=tasks,
        thresholds=bundle.thresholds | chosen.thresholds,
        temperatures=bundle.temperatures | chosen.temperatures,
        training=bundle.training | {f"taught later: {finding}": taught.said},
        calibration=f"{bundle.calibration}; taught later: {chosen.note}",
        bands=_anew(bundle.bands, finding) | chosen.bands,
        observed=_anew(bundle.observed, finding) | chosen.observed,
        caveats=bundle.caveats | {finding: taught.caveats},
    ), grown


def with_scans(
    reference: Reference, before: Sequence[str], findings: Sequence[str], examples: Examples, embeddings: Tensor
) -> Reference:
    """The reference with the examples among its scans, and a column for each finding.

    Of what was taught it knows the examples' labels only. Whose the earlier scans are is known by number alone, so each
    patient of the new ones gets a number of his own.

    Args:
        before, findings: the bundle's findings until now and from now on.
        embeddings: (N, D) of the examples, of all levels.
    """
    place = {name: i for i, name in enumerate(reference.scan_ids)}
    new = np.array([i for i, name in enumerate(examples.scan_ids) if name not in place], np.int64)
    place |= {examples.scan_ids[i]: len(reference) + k for k, i in enumerate(new)}
    labels = np.full((len(place), len(findings)), np.nan, np.float32)
    for column, finding in enumerate(findings):
        if finding in examples.table.findings:
            values = examples.table.values[:, examples.table.findings.index(finding)]
            labels[[place[name] for name in examples.scan_ids], column] = values
        else:
            labels[: len(reference), column] = reference.labels[:, before.index(finding)]
    whose = np.unique(examples.patients[new], return_inverse=True)[1] + reference.patients.max(initial=-1) + 1
    pictures = None
    if reference.thumbnails is not None:
        kept = reference.thumbnails[:]
        shown = [thumbnail(block, colour=kept.ndim == 4) for block in examples.stored(new)] if len(new) else []
        pictures = np.concatenate([kept, np.array(shown, np.uint8).reshape(-1, *kept.shape[1:])])
    return Reference(
        embeddings=np.concatenate([reference.embeddings, embeddings.numpy()[new, -reference.embeddings.shape[1] :]]),
        labels=labels,
        scan_ids=tuple(place),
        patients=np.concatenate([reference.patients, whose]),
        thumbnails=pictures,
        levels=reference.levels,
    )


def _place(bundle: Bundle, finding: str) -> tuple[int, int]:
    """Which task a finding is of, and which of its outputs."""
    return next((i, task.findings.index(finding)) for i, task in enumerate(bundle.tasks) if finding in task.findings)


def _anew(of: Mapping[str, T], finding: str) -> dict[str, T]:
    """What was said of the other findings."""
    return {name: each for name, each in of.items() if name != finding}
