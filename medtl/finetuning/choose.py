"""Which strategy: the one that was asked for, or what `auto` finds; and logits to calibrate with on the way."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.encoders.store import Start
from medtl.errors import RunError
from medtl.evaluation.intervals import patient_weights
from medtl.files import read_json, write_json
from medtl.finetuning.config import FinetuneConfig, filled_in, kind_of, semi_of, strategies_for
from medtl.finetuning.crossfit import OutOfFold, crossfit
from medtl.finetuning.folds import FEWEST, FOLDS, folds_of
from medtl.finetuning.parts import MOST_LABELS, Fold, Parts
from medtl.finetuning.strategies import AUTO, Kind
from medtl.inference.bundle import Classifier
from medtl.progress import say

MOST_PAIRED = 2000
RESAMPLES = 200
SAVED = "choice.json"
HEADS = "all levels"
"""What heads read, so that a run of earlier times is not gone on with."""
WORDS: dict[Kind, str] = {
    "random": "random weights",
    "elsewhere": "a start that learned elsewhere",
    "scans": "a start that learned from scans",
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen.

    Args:
        strategy: a name of the table.
        why: for people.
        out_of_fold: logits of the labeled scans, where the val part has too few labels to calibrate with.
        fitted: what was trained on all labeled scans in order to choose, as `fit` gives it.
    """

    strategy: str
    why: str
    out_of_fold: OutOfFold | None
    fitted: tuple[Classifier, dict[str, Any]] | None = None


def choose(
    data: Dataset, labels: LabelTable, parts: Parts, start: Start, plan: FinetuneConfig, work: Path, *, resume: bool
) -> Choice:
    """Compare the candidates on patients that they have not seen, never of the test part.

    Where the val part has labels enough it judges; else the labeled scans do, in folds by patient. The first candidate
    is taken unless another is better by more than the standard error of the difference (Breiman 1984, sec. 3.4.3: the
    one-standard-error rule), because few labels say little.

    Args:
        work: the run's folder; what was chosen is kept there for `resume`.

    Raises:
        ConfigError: no such strategy, or one that does not suit the start.
    """
    if not (resume and (work / SAVED).is_file()):
        choice = _chosen(data, labels, parts, start, plan, work, resume=resume)
        _write(work / SAVED, choice)
        return choice
    choice, judged = _read(work / SAVED)
    if not judged:
        return choice
    named = _plan(plan, start, parts, choice.strategy)
    again = crossfit(data, labels, _whole(parts), start, named, work / "folds", resume=True)
    return replace(choice, fitted=again.fitted)


def _chosen(
    data: Dataset, labels: LabelTable, parts: Parts, start: Start, plan: FinetuneConfig, work: Path, *, resume: bool
) -> Choice:
    names = strategies_for(plan, start, len(parts.fit))
    calibrated = len(parts.calibrate) > 0
    asked = (
        "asked for"
        if plan.strategy != AUTO
        else f"the default for {WORDS[kind_of(start)]} and {len(parts.fit):,} labels"
    )
    if len(names) == 1 if calibrated else len(parts.fit) > MOST_LABELS:
        return Choice(strategy=names[0], why=asked, out_of_fold=None)
    patients = data.patients
    folds = _whole(parts) if calibrated else folds_of(labels, parts.fit, patients, seed=plan.seed)
    if not folds:
        why = f"{asked}; nothing was compared: fewer than {FEWEST} patients with or without each finding"
        say(f"{names[0]}: {why}")
        return Choice(strategy=names[0], why=why, out_of_fold=None)
    say(f"trying {', '.join(names)} on " + ("the val part" if calibrated else f"{FOLDS} folds by patient"))
    found = {name: crossfit(data, labels, folds, start, _plan(plan, start, parts, name), work / "folds", resume=resume)
             for name in names}  # fmt: skip
    best, why = names[0], asked
    for name in names[1:]:
        truth = labels.values[found[name].rows]
        owners = patients[found[name].rows]
        gain, error = compare(truth, found[name].fold, owners, found[best].logits, found[name].logits, seed=plan.seed)
        say(f"{name} against {best}: AUROC {gain:+.3f}, standard error {error:.3f}")
        where = "on the val part" if calibrated else "in cross-validation"
        why = f"{name} against {best}: AUROC {gain:+.3f} +- {error:.3f} {where}; {asked} is {names[0]}"
        if gain > error:
            best = name
    if not calibrated:
        return Choice(strategy=best, why=why, out_of_fold=found[best])
    # Joined by scans without labels, or stopped early, the training that counts is another than the trial.
    same = semi_of(plan) == "none" and not plan.patience
    return Choice(strategy=best, why=why, out_of_fold=None, fitted=found[best].fitted if same else None)


def compare(
    truth: npt.NDArray[np.float32],
    fold: npt.NDArray[np.int64],
    patients: npt.NDArray[np.str_],
    logits: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    *,
    seed: int,
) -> tuple[float, float]:
    """By how much the other's AUROC is higher, and the standard error of that by a bootstrap of patients.

    Only pairs of a positive and a negative scan within a fold count: logits of different networks are not comparable.
    Of many scans `MOST_PAIRED` are drawn: pairs grow with the square.

    Args:
        truth: (N, F) 0, 1 or NaN.
        fold, patients: (N,).
        logits, other: (N, F).

    Returns:
        The mean over findings of which there are such pairs; zeros where there are none.
    """
    if len(truth) > MOST_PAIRED:
        drawn = np.random.default_rng(seed).permutation(len(truth))[:MOST_PAIRED]
        truth, fold, patients, logits, other = truth[drawn], fold[drawn], patients[drawn], logits[drawn], other[drawn]
    gains = [_Gain(truth[:, i], fold, logits[:, i], other[:, i]) for i in range(truth.shape[1])]
    gains = [gain for gain in gains if gain.pairs.any()]
    if not gains:
        return 0.0, 0.0
    value = float(np.mean([gain.at(np.ones(len(truth))) for gain in gains]))
    weights = np.concatenate(list(patient_weights(patients, resamples=RESAMPLES, seed=seed)))
    each = [[draw for gain in gains if not np.isnan(draw := gain.at(weight))] for weight in weights]
    return value, float(np.std([np.mean(draws) for draws in each if draws]))


class _Gain:
    """The difference of two AUROCs as a weighted mean over pairs (Mann & Whitney 1947)."""

    def __init__(
        self,
        y: npt.NDArray[np.float32],
        fold: npt.NDArray[np.int64],
        one: npt.NDArray[np.float64],
        other: npt.NDArray[np.float64],
    ) -> None:
        self.positive, self.negative = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
        p, n = self.positive[:, None], self.negative[None]
        self.pairs = (fold[p] == fold[n]).astype(np.float64)
        self.gains = self.pairs * (np.sign(other[p] - other[n]) - np.sign(one[p] - one[n])) / 2

    def at(self, weight: npt.NDArray[np.float64]) -> float:
        """With so much weight on each scan; NaN where no pair has any."""
        p, n = weight[self.positive], weight[self.negative]
        total = float(p @ self.pairs @ n)
        return float(p @ self.gains @ n) / total if total else float("nan")


def _whole(parts: Parts) -> tuple[Fold, ...]:
    """All scans to learn from, judged by those that calibrate."""
    return (Fold(fit=parts.fit, held=parts.calibrate),)


def _plan(plan: FinetuneConfig, start: Start, parts: Parts, name: str) -> FinetuneConfig:
    """What a candidate is tried with: labels alone."""
    named = plan.model_copy(update={"strategy": name, "semi": "none"})
    return named.model_copy(update=filled_in(named, start, len(parts.fit)))


def _write(path: Path, choice: Choice) -> None:
    said = choice.out_of_fold
    arrays = None if said is None else {k: getattr(said, k).tolist() for k in ("rows", "fold", "logits")}
    kept = {"strategy": choice.strategy, "why": choice.why, "out_of_fold": arrays, "heads": HEADS}
    write_json(path, kept | {"judged": choice.fitted is not None})


def _read(path: Path) -> tuple[Choice, bool]:
    """What was chosen, and whether the val part has judged the network that is to be kept."""
    found = read_json(path, error=RunError)
    if found.get("heads") != HEADS:
        raise RunError(
            f"{path.parent}: was begun by an earlier medtl, whose heads read less; begin anew, without --resume"
        )
    arrays = found["out_of_fold"] and {key: np.array(value) for key, value in found["out_of_fold"].items()}
    out_of_fold = OutOfFold(**arrays) if arrays else None
    return Choice(strategy=found["strategy"], why=found["why"], out_of_fold=out_of_fold), found["judged"]
