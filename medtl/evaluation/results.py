"""What an evaluation found, and its form in `report.json`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medtl.data.tasks import Task
from medtl.evaluation.conformal import SetResult
from medtl.evaluation.intervals import BinaryIntervals, Estimate, MulticlassIntervals
from medtl.evaluation.metrics import Array


@dataclass(frozen=True, kw_only=True)
class FindingResult:
    """One finding, over the scans whose label is known.

    Args:
        name: the finding.
        y: (N,) 0 or 1.
        p: (N,) probabilities.
        n_patients: how many patients these scans are of.
        n_unknown: how many further scans have no label for this finding.
        threshold: the operating point; a scan is flagged where p >= threshold.
        intervals: the measures.
        brier, ece: calibration.
        sets: how the conformal sets did; None where the bundle has none for the finding.
    """

    name: str
    y: Array = field(repr=False)
    p: Array = field(repr=False)
    n_patients: int
    n_unknown: int
    threshold: float
    intervals: BinaryIntervals
    brier: float
    ece: float
    sets: SetResult | None = None

    @property
    def n_positive(self) -> int:
        return int((self.y == 1).sum())

    @property
    def n_negative(self) -> int:
        return int((self.y == 0).sum())

    @property
    def n_flagged(self) -> int:
        return int((self.p >= self.threshold).sum())

    @property
    def true_positives(self) -> int:
        return int((self.p[self.y == 1] >= self.threshold).sum())

    @property
    def false_positives(self) -> int:
        return self.n_flagged - self.true_positives

    def as_json(self) -> dict[str, Any]:
        named = ("auroc", "ap", "sensitivity", "specificity", "accuracy")
        content: dict[str, Any] = {name: _estimate(getattr(self.intervals, name)) for name in named} | {
            "threshold": _finite(self.threshold),
            "brier": _finite(self.brier),
            "ece": _finite(self.ece),
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
        }
        if self.sets is not None:
            sets = ("coverage", "covered_present", "covered_absent", "uncertain", "right")
            content["sets"] = {name: _estimate(getattr(self.sets, name)) for name in sets}
            content["sets"] |= {"error": self.sets.band.error}
        return content


@dataclass(frozen=True, kw_only=True)
class MulticlassResult:
    """All findings together, where exactly one of them is true of each scan.

    Args:
        classes: C names.
        intervals: the measures.
        confusion: (C, C) counts of scans; rows are the truth, columns the most probable class.
        n_left_out: how many scans have no single known class and are not counted here.
    """

    classes: tuple[str, ...]
    intervals: MulticlassIntervals
    confusion: Array
    n_left_out: int

    def as_json(self) -> dict[str, Any]:
        return {
            "accuracy": _estimate(self.intervals.accuracy),
            "macro_auroc": _estimate(self.intervals.macro_auroc),
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One of several tasks.

    Args:
        task: its findings, as far as they were evaluated.
        n_scans: how many scans have a label of it.
        auroc: the mean over its findings.
    """

    task: Task
    n_scans: int
    auroc: Estimate

    def as_json(self) -> dict[str, Any]:
        return {"findings": list(self.task.findings), "n_scans": self.n_scans, "auroc": _estimate(self.auroc)}


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole evaluation.

    Args:
        n_scans, n_patients: that were evaluated.
        findings: a result each.
        multiclass: where the findings exclude each other, else None.
        tasks: a result each where the detector has several, else none.
        context: what was evaluated, in words.
        caveats: what a reader must know before trusting the numbers, a sentence each.
    """

    n_scans: int
    n_patients: int
    findings: tuple[FindingResult, ...]
    multiclass: MulticlassResult | None
    context: Mapping[str, str]
    caveats: tuple[str, ...]
    tasks: tuple[TaskResult, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The content of `report.json`; a number that cannot be computed is None."""
        content: dict[str, Any] = {
            "n_scans": self.n_scans,
            "n_patients": self.n_patients,
            "findings": {each.name: each.as_json() for each in self.findings},
        }
        if self.multiclass is not None:
            content["multiclass"] = self.multiclass.as_json()
        if self.tasks:
            content["tasks"] = {each.task.name: each.as_json() for each in self.tasks}
        return content


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in asdict(estimate).items()}
