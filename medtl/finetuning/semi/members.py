"""An ensemble: its members, and what they believe about scans together."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.model_selection import StratifiedGroupKFold

from medtl.data.dataset import Dataset
from medtl.data.label_rows import Values
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.errors import RunError
from medtl.evaluation.calibration import fit_temperature, fit_temperature_multiclass
from medtl.files import atomic_file
from medtl.finetuning.calibrate import SHARPEST
from medtl.finetuning.parts import Fold, count, enough
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import logits_of_rows, probabilities_of
from medtl.progress import say
from medtl.training.batches import Rows


@dataclass(frozen=True, kw_only=True)
class Member:
    """A fitted member and the preprocessing that it expects."""

    classifier: Classifier
    spec: PreprocessSpec


def folds(data: Dataset, labels: LabelTable, rows: Rows, *, members: int, seed: int) -> list[Fold]:
    """Leave a part of the patients out for each member, like in labels.

    A member that would be left with one class of a finding is fitted to all rows instead, and holds none.
    """
    values = labels.values[rows]
    patients = data.manifest["patient_id"].to_numpy()[rows].astype(str)
    whole = Fold(fit=rows, held=rows[:0])
    parts = min(members, len(np.unique(patients)))
    if parts < 2:
        return [whole] * members
    alike = ["".join("?" if np.isnan(v) else str(int(v)) for v in row) for row in values]
    divide = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a combination of labels that is rarer than the folds
        divided = [Fold(fit=rows[fit], held=rows[held]) for fit, held in divide.split(values, alike, patients)]
    good = [fold if all(min(count(column)) > 0 for column in labels.values[fold.fit].T) else whole for fold in divided]
    return good + [whole] * (members - parts)


def ensemble(
    data: Dataset,
    labels: LabelTable,
    divided: Sequence[Fold],
    rows: Rows,
    folder: Path,
    *,
    identity: str,
    fit_member: Callable[[int, Fold, Path], Member],
) -> Values:
    """Calibrated probabilities of unlabeled rows, averaged over members; of labeled ones by those who did not see them.

    Members that an interrupted call has finished are not fitted again.

    Args:
        rows: the rows without labels.
        folder: to work in.
        identity: what the members depend on besides their number.
        fit_member: makes the member of a number, working in a folder of its own.

    Returns:
        (N, F) aligned with the manifest, NaN elsewhere.

    Raises:
        RunError: a member of another dataset or of other labels.
    """
    asked = np.concatenate([rows, *(fold.held for fold in divided)])
    logits = np.full((len(divided), len(data), len(labels.findings)), np.nan)
    for number, fold in enumerate(divided):
        own = folder / f"member-{number}"
        own.mkdir(parents=True, exist_ok=True)
        seen = np.concatenate([rows, fold.held])
        if (own / "logits.safetensors").is_file():
            logits[number, seen] = _read(own / "logits.safetensors", identity)
            continue
        say(f"member {number + 1} of {len(divided)}: fitted to {len(fold.fit):,} labeled scans")
        member = fit_member(number, fold, own)
        found = logits_of_rows(member.classifier, data, seen, member.spec, flip_average=False)
        with atomic_file(own / "logits.safetensors") as temporary:
            temporary.write_bytes(save({"logits": found.contiguous()}, {"identity": identity}))
        logits[number, seen] = found.numpy()
    held = np.concatenate([fold.held for fold in divided])
    temperatures = _temperatures(logits, labels, held, data.patients[held])
    each = [
        np.where(
            np.isnan(one), np.nan, probabilities_of(torch.from_numpy(one), temperatures, exclusive=labels.exclusive)
        )
        for one in logits
    ]
    soft = np.full((len(data), len(labels.findings)), np.nan, np.float32)
    soft[asked] = np.nanmean(np.stack([one[asked] for one in each]), axis=0)
    return soft


def _temperatures(
    logits: npt.NDArray[np.float64], labels: LabelTable, held: Rows, patients: npt.NDArray[np.str_]
) -> list[float]:
    """Of each finding, from the logits of those members that did not see the scan; patients as `held`, (N,)."""
    if len(held) == 0:
        return [1.0] * len(labels.findings)
    unseen, truth = np.nanmean(logits[:, held], axis=0), labels.values[held]
    if labels.exclusive:
        return [max(SHARPEST, fit_temperature_multiclass(unseen, truth.argmax(axis=1)))] * len(labels.findings)
    found = []
    for z, y in zip(unseen.T, truth.T, strict=True):
        known = ~np.isnan(y)
        found.append(max(SHARPEST, fit_temperature(z[known], y[known])) if enough(y, patients) else 1.0)
    return found


def _read(path: Path, identity: str) -> npt.NDArray[np.float64]:
    try:
        with safe_open(path, "pt") as file:
            found, logits = file.metadata()["identity"], np.asarray(file.get_tensor("logits").numpy(), np.float64)
    except (SafetensorError, OSError, KeyError, TypeError) as problem:
        raise RunError(f"{path}: is damaged ({problem}); delete it, its member is then fitted again") from None
    if found != identity:
        raise RunError(
            f"{path}: is of another dataset or other labels; resume with what the run was started with, or start anew "
            "with another --out"
        )
    return logits
