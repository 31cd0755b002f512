"""What the recorded checks mean: has the network collapsed, does it still improve, which check was the best.

Pure functions over the lines of `metrics.jsonl`, so that a resumed run comes to the same conclusions.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medtl.pretraining.methods import methods_of

Check = Mapping[str, Any]
WARMUP = 0.05
"""Share of the run in which nothing is held against it: the learning rate still rises."""
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


def collapsed(checks: Sequence[Check], *, steps: int) -> bool:
    """Whether the last two checks after warm-up were flat; one alone may be a passing dip."""
    late = [check for check in checks if check["step"] > WARMUP * steps]
    return len(late) >= 2 and all(flat(check, checks[0]) for check in late[-2:])


def improvements(checks: Sequence[Check]) -> list[int]:
    """The steps of the checks that were better than all before them; the start does not count.

    With a probe the kNN AUROC decides. Without, RankMe or uniformity must have improved: only a run in which neither
    does stands still.
    """
    found: list[int] = []
    knn, rank, uniform = -1.0, 0.0, float("inf")
    for check in checks[1:]:
        if "knn_auroc" in check:
            better = bool(check["knn_auroc"] > knn)
            knn = max(knn, check["knn_auroc"])
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
    rank = f"RankMe {start['rankme']:.0f} → {now['rankme']:.0f}"
    if len(checks) == 1:
        return f"Just started: RankMe {now['rankme']:.0f}, spread {now['spread']:.2f}"
    if collapsed(checks, steps=steps):
        return (
            f"Collapsed: scans look alike to the network ({rank}, spread {start['spread']:.2f} → {now['spread']:.3f})"
        )
    if flat(now, start):
        return f"Look closer: the embeddings may be collapsing ({rank}, spread {now['spread']:.3f})"
    told = rank
    if "knn_auroc" in now:
        told += f", kNN AUROC {start['knn_auroc']:.3f} → {now['knn_auroc']:.3f}"
        if now["knn_auroc"] < start["knn_auroc"] - 0.02:
            return f"Not collapsed, but the labels are told apart less well than at the start: {told}"
    if now["uniformity"] > start["uniformity"] and now["rankme"] < start["rankme"]:
        return f"Not collapsed, but scans are told apart less than at the start: {told}"
    return f"Looks healthy: {told}"


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
