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
LEAST_KEPT = 1 / 3
"""A collapse is also a loss: less than this share of what the start had, for starts that are flat themselves."""
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


def flat(check: Check, start: Check) -> bool:
    """Whether embeddings are nearly one point or one direction, and were not at the start."""
    return any(
        float(check[key]) < min(limit, LEAST_KEPT * start[key]) + floor
        for key, limit, floor in (("spread", FLAT_SPREAD, 0.0), ("rankme", FLAT_RANK, 0.05))
    )


def _warm(check: Check, steps: int) -> bool:
    return bool(check["step"] <= max(WARMUP * steps, WARMUP_STEPS))


def collapsed(checks: Sequence[Check], *, steps: int) -> bool:
    """Whether the last two checks after warm-up were flat; one alone may be a passing dip."""
    late = [check for check in checks if not _warm(check, steps)]
    return len(late) >= 2 and all(flat(check, checks[0]) for check in late[-2:])


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


def sentence(checks: Sequence[Check], *, steps: int) -> str:
    """Whether it looks healthy, for a person at a glance."""
    start, now = checks[0], checks[-1]
    told = f"RankMe {start['rankme']:.0f} → {now['rankme']:.0f}"
    if len(checks) == 1:
        return f"Just started: RankMe {now['rankme']:.0f}, spread {now['spread']:.2f}"
    if flat(now, start):
        told += f", spread {start['spread']:.2f} → {now['spread']:.3f}"
        if _warm(now, steps):
            return f"Warming up, nothing to be said yet: {told}"
        alarm = collapsed(checks, steps=steps)
        return (
            f"Collapsed, scans look alike to the network: {told}" if alarm else f"Look closer, is it collapsing? {told}"
        )
    worse = now["uniformity"] > start["uniformity"] and now["rankme"] < start["rankme"]
    if "knn_auroc" in now:
        told += f", AUROC of probes {probed(start):.3f} → {probed(now):.3f}"
        worse = probed(now) < probed(start) - 0.02
    return f"Not collapsed, but less is told apart than at the start: {told}" if worse else f"Looks healthy: {told}"


_BY_FAMILY = {
    "contrast": "a higher temperature",
    "self-distillation": "a momentum nearer to 1",
    "redundancy reduction": "a larger --set views.crop_area=[0.5,1.0]",
}
_VARIANCE = "more weight on its variance term"
_BY_NAME = {"moco": _VARIANCE, "vicreg": _VARIANCE, "byol": "a momentum nearer to 1"}


def advice(method: str, *, lr: float, batch_size: int) -> str:
    """What to change after a collapse, for the methods that were used."""
    methods = methods_of(method)
    own = [_BY_NAME.get(name) or _BY_FAMILY.get(row.family) for name, row in methods.items()]
    other = "" if "simclr" in methods else ", or --method simclr"
    ways = [f"--set lr={lr / 3:.1g}", *dict.fromkeys(way for way in own if way), f"--set batch_size={2 * batch_size}"]
    return f"start anew with {', '.join(ways[:-1])} or {ways[-1]}{other}"
