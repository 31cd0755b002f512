"""What a reader must know before trusting the numbers, said in words."""

from collections.abc import Sequence

import numpy as np

from medtl.evaluation.intervals import Estimate
from medtl.evaluation.results import FindingResult, MulticlassResult

FEW_SCANS = 30
"""With fewer scans of a class, one scan moves sensitivity or specificity by more than 3 points."""
WIDE_INTERVAL = 0.15


def data_caveats(patient_ids: Sequence[str], *, missing: int) -> list[str]:
    """What the patient ids say about the intervals.

    Args:
        patient_ids: of all scans, each missing one already replaced by a name of its own.
        missing: how many were.
    """
    scans, patients = len(patient_ids), len(set(patient_ids))
    if missing == scans:
        return [
            "No scan has a patient id, so the intervals are over scans, not over patients. If a patient has several "
            "scans they are too narrow. Add a column patient_id to the labels file."
        ]
    if missing:
        return [
            f"{missing:,} of {scans:,} scans have no patient id; each is taken for a patient of its own. If some "
            "are of one patient, the intervals are too narrow."
        ]
    if patients == scans > 1:
        return [
            "Every scan has a patient id of its own, so the intervals are over scans. That is right if no patient was "
            "scanned twice; otherwise they are too narrow."
        ]
    if patients == 1:
        return ["All scans are of one patient: nothing here speaks about other patients, and no interval is possible."]
    return []


def finding_caveats(result: FindingResult) -> list[str]:
    """What is thin or odd about one finding."""
    positives, negatives, name = result.n_positive, result.n_negative, result.name
    if positives + negatives == 0:
        return [f"{name}: no scan has a label, so nothing can be said."]
    found = []
    if positives == 0 or negatives == 0:
        seen, lacking = ("have", "without") if negatives == 0 else ("are free of", "with")
        found.append(
            f"{name}: all {positives + negatives:,} labeled scans {seen} the finding. AUROC and average precision "
            f"need scans {lacking} it too."
        )
    else:
        for count, kind in ((positives, "with"), (negatives, "without")):
            if count < FEW_SCANS:
                found.append(
                    f"{name}: only {_scans(count)} {kind} the finding. One scan read differently moves the "
                    f"{'sensitivity' if kind == 'with' else 'specificity'} by {100 / count:.0f} points."
                )
        found += _about_auroc(result)
    found += [
        f"{name}: the {word} is {100 * estimate.value:.0f} % on {count:,} scans, which leaves the interval no width. "
        f"That is not certainty: with {count:,} scans it may truly be {_rule_of_three(estimate, count)}."
        for word, estimate, count in (
            ("sensitivity", result.intervals.sensitivity, positives),
            ("specificity", result.intervals.specificity, negatives),
        )
        if count and estimate.value in (0.0, 1.0)
    ]
    if result.n_unknown:
        found.append(
            f"{name}: {_scans(result.n_unknown)} without a label for it {_were(result.n_unknown)} left out. If labels "
            "are missing for a reason (easy cases, say), the numbers do not hold for those scans."
        )
    return found


def _about_auroc(result: FindingResult) -> list[str]:
    auroc, name = result.intervals.auroc, result.name
    found = []
    if np.isfinite(auroc.low) and auroc.high - auroc.low > WIDE_INTERVAL:
        found.append(
            f"{name}: the AUROC may lie anywhere from {auroc.low:.2f} to {auroc.high:.2f}. "
            "More labeled test scans would narrow it."
        )
    if auroc.value == 1.0:
        found.append(
            f"{name}: every scan with the finding scores above every scan without it, so resampling finds no error and "
            "the interval no width. With few scans that also happens to a detector that is not perfect."
        )
    if auroc.high < 0.5:
        found.append(f"{name}: scores run the wrong way (AUROC below 0.5). Are 0 and 1 swapped in the labels?")
    elif auroc.low <= 0.5:
        found.append(f"{name}: chance level (AUROC 0.5) lies within the interval, so it is not shown to work at all.")
    if result.intervals.one_class:
        found.append(
            f"{name}: {result.intervals.one_class:,} of {result.intervals.resamples:,} bootstrap samples held one "
            "class only and were skipped; take the intervals as rough."
        )
    return found


def multiclass_caveats(result: MulticlassResult) -> list[str]:
    """What the table of classes leaves out."""
    found = []
    absent = [name for name, row in zip(result.classes, result.confusion, strict=True) if row.sum() == 0]
    if absent:
        found.append(f"No scan is of the class {', '.join(absent)}; the macro AUROC is over the other classes.")
    if result.n_left_out:
        found.append(
            f"{_scans(result.n_left_out)} without exactly one known class {_were(result.n_left_out)} left out of the "
            "table of classes."
        )
    return found


def _rule_of_three(estimate: Estimate, count: int) -> str:
    """The 95 % bound where no error was seen in n is about 3/n (Hanley & Lippman-Hand 1983)."""
    bound = 1 - 0.05 ** (1 / count)
    return f"as low as {100 * (1 - bound):.0f} %" if estimate.value == 1.0 else f"as high as {100 * bound:.0f} %"


def _scans(count: int) -> str:
    return f"{count:,} scan{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
