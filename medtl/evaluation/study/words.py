"""What a difference between two starts says, in a sentence that claims no more than its interval does."""

import math

from medtl.evaluation.intervals import Estimate
from medtl.evaluation.study.savings import Saving

SHOWN, UNCLEAR, WORSE = "benefit shown", "no benefit shown", "worse"
NOTEWORTHY = 1.05
"""Times the labels: less than that is not worth a word."""


def verdict(gain: Estimate) -> str:
    """One of the three, by the side of 0 on which the whole interval lies."""
    if gain.low > 0:
        return SHOWN
    return WORSE if gain.high < 0 else UNCLEAR


def tag(found: str, against: str) -> str:
    """A verdict with the name of what it is over, such as: no benefit over ImageNet shown."""
    return {
        SHOWN: f"benefit over {called(against)} shown",
        UNCLEAR: f"no benefit over {called(against)} shown",
        WORSE: f"worse than {called(against)}",
    }[found]


def called(start: str) -> str:
    """A start's name in a sentence."""
    return {"random": "random weights", "imagenet": "ImageNet"}.get(start, start)


def sentence(gain: Estimate, saving: Saving | None, *, start: str, against: str, n_labels: float) -> str:
    """Such as: With 60 labels run is worth +0.04 AUROC over random weights (95 % CI 0.01 to 0.07), ..."""
    ours, base, labels = called(start), called(against), f"With {n_labels:,.0f} labels"
    if not math.isfinite(gain.low):
        return f"{labels} {ours} and {base} cannot be compared: the test part is too small for an interval."
    shown = _digits(gain)
    between = f"95 % CI {_number(gain.low, shown)} to {_number(gain.high, shown)}"
    found = verdict(gain)
    if found == SHOWN:
        return f"{labels} {ours} is worth {gain.value:+.{shown}f} AUROC over {base} ({between}){_worth(saving, base)}."
    if found == WORSE:
        return f"{labels} {ours} is worse than {base}: {_signed(gain.value, shown)} AUROC ({between})."
    return f"{labels} no benefit of {ours} over {base} was shown: {_signed(gain.value, shown)} AUROC ({between})."


def saving_words(saving: Saving | None) -> str:
    """Such as: 2.1 times."""
    if saving is None:
        return "not shown"
    sign = {"more": "> ", "less": "< ", "": ""}[saving.beyond]
    return f"{sign}{saving.times:.1f} times"


def _worth(saving: Saving | None, base: str) -> str:
    if saving is None:
        return ""
    if saving.times < NOTEWORTHY:
        return f", which {base} did not reach with any number of labels tried" if saving.beyond == "more" else ""
    return f", {'more than' if saving.beyond == 'more' else 'about'} {saving.times:.1f} times the labels"


def _digits(gain: Estimate) -> int:
    """Two, or three where one of the numbers would else read as 0."""
    return 2 if min(abs(gain.value), abs(gain.low), abs(gain.high)) >= 0.005 else 3


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
