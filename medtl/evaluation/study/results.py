"""What a study measured, and what follows from it; their form in `study.json`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medtl.evaluation.intervals import Estimate
from medtl.evaluation.metrics import Array
from medtl.evaluation.study.savings import Saving
from medtl.evaluation.study.words import verdict


@dataclass(frozen=True, kw_only=True)
class StartInfo:
    """Where fine-tuning starts.

    Args:
        name: its name in the study.
        origin: what was asked for: "random", "imagenet", a folder or a file.
        learned: what the weights have learned from, in words.
        network, input_px: the encoder.
        pretraining_minutes: that its run took, with those before it as far as they are known; None: not known.
        caveats: what to know about it, a sentence each.
    """

    name: str
    origin: str
    learned: str
    network: str
    input_px: int
    pretraining_minutes: float | None
    caveats: tuple[str, ...] = ()

    @property
    def went_on_from_imagenet(self) -> bool:
        """Whether it, or what it went on from, began with ImageNet's weights and has learned since."""
        return self.learned.startswith("ImageNet > ")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far fine-tuning was at one moment.

    Args:
        step: steps done.
        minutes: since it began, without the time that looking took.
        aurocs: (F,) on test scans.
    """

    step: int
    minutes: float
    aurocs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One fine-tuning.

    Args:
        start, labels, seed: which; `labels` is the name of a number of labels, such as "10 per class".
        n_labels: how many scans it learned from.
        n_repeated: how many of them are of a patient of whom another was drawn.
        strategy: how it was adapted.
        steps, minutes: how long it took.
        usual_steps: those of the default, where fewer were asked for; else 0.
        marks: while it went on.
        logits: (N, F) of the test scans.
        logits_file: where they are kept, below the study's folder.
    """

    start: str
    labels: str
    seed: int
    n_labels: int
    n_repeated: int
    strategy: str
    steps: int
    usual_steps: int = 0
    minutes: float
    marks: tuple[Mark, ...]
    logits: Array = field(repr=False)
    logits_file: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that a study measured, complete: a fit for each start, number of labels and seed.

    Args:
        findings: F names.
        exclusive: whether exactly one finding is true of each scan.
        y: (N, F) labels of the test scans, 0, 1 or NaN.
        patients: (N,) patient of each test scan.
        starts: in the order asked for.
        labels: names of the numbers of labels, fewest labels first.
        seeds: of the draws.
        fits: by start, labels and seed.
        context: what was studied, in words.
    """

    findings: tuple[str, ...]
    exclusive: bool
    y: Array = field(repr=False)
    patients: Array = field(repr=False)
    starts: tuple[StartInfo, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    fits: Mapping[tuple[str, str, int], Fitted] = field(repr=False)
    context: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A start with a number of labels: means over the draws.

    Args:
        auroc: over all findings.
        findings: of each finding.
        draws: AUROC of each draw, mean over the findings.
        curve: means over draws and findings at the marks, of those fine-tunings that take steps if any do.
        strategies: how draws were adapted, in words.
        n_labels, steps, minutes: means.
    """

    start: str
    labels: str
    n_labels: float
    auroc: Estimate
    findings: dict[str, Estimate]
    draws: tuple[float, ...]
    curve: tuple[Mark, ...]
    strategies: str
    steps: float
    minutes: float

    def as_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "labels": self.labels,
            "n_labels": self.n_labels,
            "auroc": estimate_json(self.auroc),
            "findings": {name: {"auroc": estimate_json(each)} for name, each in self.findings.items()},
            "auroc_of_draws": [round(each, 5) for each in self.draws],
            "strategies": self.strategies,
            "steps": self.steps,
            "minutes": round(self.minutes, 3),
            "convergence": [mark_json(each) for each in self.curve],
        }


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A start against another with the same labels.

    Args:
        auroc: the difference, mean over draws and findings.
        findings: of each finding.
        wins: in how many draws the start was better.
        draws: how many there were.
        saving: how many times the labels the other needs to be as good; None where no difference was shown.
        sentence: all this in words.
    """

    start: str
    against: str
    labels: str
    n_labels: float
    auroc: Estimate
    findings: dict[str, Estimate]
    wins: int
    draws: int
    saving: Saving | None
    sentence: str

    @property
    def verdict(self) -> str:
        return verdict(self.auroc)

    def as_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "against": self.against,
            "labels": self.labels,
            "n_labels": self.n_labels,
            "auroc_difference": estimate_json(self.auroc),
            "findings": {name: {"auroc_difference": estimate_json(each)} for name, each in self.findings.items()},
            "better_draws": self.wins,
            "draws": self.draws,
            "times_the_labels": asdict(self.saving) if self.saving else None,
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """A study and what follows from it.

    Args:
        base: the start that the others are compared with first.
        points: for each start and number of labels.
        gains: of each start over each that stands before it, the base first.
        fit_aurocs: of each fit and finding.
        caveats: what a reader must know before trusting the numbers.
    """

    measured: Measured
    base: str
    points: tuple[Point, ...]
    gains: tuple[Gain, ...]
    fit_aurocs: Mapping[tuple[str, str, int], dict[str, Estimate]]
    caveats: tuple[str, ...]

    @property
    def over_base(self) -> tuple[Gain, ...]:
        """What the page's first lines say."""
        return tuple(each for each in self.gains if each.against == self.base)

    def points_of(self, start: str) -> tuple[Point, ...]:
        """A start's label-efficiency curve."""
        return tuple(each for each in self.points if each.start == start)

    def as_json(self) -> dict[str, Any]:
        """The content of `study.json`; a number that cannot be computed is None."""
        study = self.measured
        return {
            "context": dict(study.context),
            "base": self.base,
            "seeds": list(study.seeds),
            "n_test_scans": len(study.y),
            "n_test_patients": len(set(study.patients.tolist())),
            "findings": {
                name: {"n_positive": int((column == 1).sum()), "n_negative": int((column == 0).sum())}
                for name, column in zip(study.findings, study.y.T, strict=True)
            },
            "starts": [asdict(each) for each in study.starts],
            "points": [each.as_json() for each in self.points],
            "differences": [each.as_json() for each in self.gains],
            "caveats": list(self.caveats),
            "fits": [self._fit_json(key, each) for key, each in study.fits.items()],
        }

    def _fit_json(self, key: tuple[str, str, int], fit: Fitted) -> dict[str, Any]:
        return {
            "start": fit.start,
            "labels": fit.labels,
            "seed": fit.seed,
            "n_labels": fit.n_labels,
            "strategy": fit.strategy,
            "steps": fit.steps,
            "minutes": round(fit.minutes, 3),
            "findings": {name: {"auroc": estimate_json(each)} for name, each in self.fit_aurocs[key].items()},
            "convergence": [mark_json(each) for each in fit.marks],
            "logits": fit.logits_file,
        }


def estimate_json(estimate: Estimate) -> dict[str, float | None]:
    """As in `report.json`."""
    return {name: finite(value) for name, value in asdict(estimate).items()}


def mark_json(mark: Mark) -> dict[str, Any]:
    """A moment, also as the file of a fit keeps it."""
    return {"step": mark.step, "minutes": round(mark.minutes, 4), "aurocs": [finite(each) for each in mark.aurocs]}


def finite(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if math.isfinite(value) else None
