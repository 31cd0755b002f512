"""What the recorded checks mean: has the network collapsed, does it still improve, which check was the best.

Pure functions over the lines of `metrics.jsonl`, so that a resumed run comes to the same conclusions.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl.pretraining.methods import methods_of

Check = Mapping[str, Any]
WARMUP, WARMUP_STEPS = 0.05, 100
"""Share of the run, and steps at least, in which nothing is held against it: the learning rate still rises, and the
statistics of batch normalisation lag behind the weights, so that healthy runs look flat around step 20."""
FLAT_SPREAD, FLAT_RANK = 0.05, 2.0
OUTPUTS = "std"
"""What objectives call the spread of their outputs; of several that are learned together `name.std`."""
LEAST_KEPT = 1 / 3
"""A collapse is also a loss: less than this share of what the start had, for starts that are flat themselves."""
RESTORING = ("masking", "restoration")
"""Families that begin flat: what all scans have in common is learned first."""
SPREADS = 1.05
LEAST_GRADIENT = 1e-8
"""AdamW's epsilon: what is shorter moves no weight."""
RANK_GAIN, UNIFORMITY_GAIN = 1.01, 0.01
"""Less than this is no improvement."""


def read_lines(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last one that a kill cut short is left out."""
    lines: list[dict[str, Any]] = []
    if metrics.is_file():
        for text in metrics.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def checks_of(lines: Sequence[Check]) -> list[Check]:
    """The lines at which health was checked; the first is of the start, step 0."""
    return [line for line in lines if "rankme" in line]


def flat(check: Check, start: Check) -> str:
    """Says so where embeddings are nearly one point or one direction and were not at the start, or where what the
    objective compares is one point, so that it has nothing left to teach; empty where all is well."""
    if float(check["spread"]) < min(FLAT_SPREAD, LEAST_KEPT * start["spread"]):
        return f"spread {start['spread']:.2f} → {check['spread']:.3f}"
    if float(check["rankme"]) < min(FLAT_RANK, LEAST_KEPT * start["rankme"]) + 0.05:  # rounded, and never below 1
        return f"RankMe {start['rankme']:.0f} → {check['rankme']:.2f}"
    outputs = {key: float(value) for key, value in check.items() if key.split(".")[-1] == OUTPUTS}
    return next(
        (f"{key} of the method's outputs {value:.3f}" for key, value in outputs.items() if value < FLAT_SPREAD), ""
    )


def _warm(check: Check, steps: int) -> bool:
    return bool(check["step"] <= max(WARMUP * steps, WARMUP_STEPS))


def collapsed(checks: Sequence[Check], *, steps: int, method: str) -> bool:
    """Whether the last two checks after warm-up were flat; one alone may be a dip, and what spreads recovers."""
    late = [check for check in checks if not _warm(check, steps)]
    if len(late) < 2 or not all(flat(check, checks[0]) for check in late[-2:]):
        return False
    return not spreads(late[-2:], method)


def without_gradient(check: Check) -> bool:
    """Whether the step of this check had nothing to learn."""
    return "grad_norm" in check and float(check["grad_norm"]) < LEAST_GRADIENT


def stands_still(checks: Sequence[Check]) -> bool:
    """Whether the last two checks had no gradient. No warm-up ends that: weights that do not move find none."""
    return len(checks) > 1 and all(map(without_gradient, checks[-2:]))


def spreads(checks: Sequence[Check], method: str) -> bool:
    """Whether a method that only restores has begun with what all scans have in common, and is coming to the rest."""
    restores = all(each.family in RESTORING for each in methods_of(method).values())
    return restores and len(checks) > 1 and checks[-1]["spread"] > SPREADS * checks[-2]["spread"]


def probed(check: Check) -> float:
    """What the labels say: the mean AUROC of both probes, which is steadier than either."""
    return float(check["knn_auroc"] + check["probe_auroc"]) / 2


def improvements(checks: Sequence[Check]) -> list[int]:
    """The steps of the checks that were better than all before them; the start does not count.

    With labels the mean AUROC of the probes decides. Without, RankMe or uniformity must have improved: only a run in
    which neither does stands still.
    """
    found: list[int] = []
    score, rank, uniform = -1.0, 0.0, float("inf")
    for check in checks[1:]:
        if "knn_auroc" in check:
            better = probed(check) > score
            score = max(score, probed(check))
        else:
            better = check["rankme"] > RANK_GAIN * rank or check["uniformity"] < uniform - UNIFORMITY_GAIN
            rank, uniform = max(rank, check["rankme"]), min(uniform, check["uniformity"])
        if better:
            found.append(int(check["step"]))
    return found


def stalled(checks: Sequence[Check], *, patience: int | None) -> bool:
    """Whether `patience` checks have passed without improvement."""
    if patience is None or len(checks) < 2:
        return False
    last = improvements(checks)[-1]
    return len([check for check in checks if check["step"] > last]) >= patience


def sentence(checks: Sequence[Check], *, steps: int, method: str) -> str:
    """Whether it looks healthy, for a person at a glance."""
    start, now = checks[0], checks[-1]
    told = f"RankMe {start['rankme']:.0f} → {now['rankme']:.0f}"
    if len(checks) == 1:
        return f"Just started: RankMe {now['rankme']:.0f}, spread {now['spread']:.2f}"
    if without_gradient(now):
        begin = "Nothing is learned." if stands_still(checks) else "Look closer, is anything learned?"
        return f"{begin} The gradient is 0: {told}"
    if what := flat(now, start):
        told += f", {what}"
        if _warm(now, steps):
            return f"Warming up, nothing to be said yet: {told}"
        if spreads(checks, method):
            return f"Still flat, and spreading: {told}"
        alarm = collapsed(checks, steps=steps, method=method)
        return f"{'Collapsed, scans look alike' if alarm else 'Look closer, is it collapsing?'}: {told}"
    worse = now["uniformity"] > start["uniformity"] and now["rankme"] < start["rankme"]
    if "knn_auroc" in now:
        told += f", AUROC of probes {probed(start):.3f} → {probed(now):.3f}"
        worse = probed(now) < probed(start) - 0.02
    return f"Not collapsed, but less is told apart than at the start: {told}" if worse else f"Looks healthy: {told}"


_WAYS = {
    "simclr": "objective.temperature=0.5",
    "moco": "objective.variance_weight=5",
    "byol": "objective.momentum=0.996",
    "dino": "objective.teacher_temperature=0.04",
    "barlow": "objective.redundancy_weight=0.02",
    "vicreg": "objective.variance_weight=50",
}
"""Of methods that have a setting against collapse: that setting."""


NO_GRADIENT = (
    "look at loss in metrics.jsonl: do nearly all scans belong to one patient, so that nothing is compared, or are "
    "settings of objective or weights at their end? Start anew with other settings, or another --method"
)
"""What to do where there is no gradient."""


def advice(method: str, *, lr: float, batch_size: int) -> str:
    """What to change after a collapse, for the methods that were used."""
    methods = methods_of(method)
    own = [way if len(methods) == 1 else way.replace("objective.", f"objective.{name}.")
           for name, way in _WAYS.items() if name in methods]  # fmt: skip
    ways = [f"--set {way}" for way in (f"lr={lr / 3:.1g}", *own, f"batch_size={2 * batch_size}")]
    other = "" if "simclr" in methods else "--method simclr"
    return f"start anew with {', '.join(ways)}" + (f", or {other}" if other else "")
