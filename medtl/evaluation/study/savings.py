"""How many labels would the base start need to be as good? Read off its label-efficiency curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression


@dataclass(frozen=True)
class Saving:
    """The base start needs `times` the labels.

    Args:
        times: number of labels of the base start by number of labels of the other.
        beyond: "more" where even the most labels tried are too few for the base start, "less" where the fewest do;
            `times` is then the limit of what was tried. Else "".
    """

    times: float
    beyond: str = ""


def label_saving(n_labels: float, auroc: float, *, base_labels: Sequence[float], base: Sequence[float]) -> Saving:
    """Where the base start's curve reaches `auroc`, linear between points on the logarithm of the labels.

    More labels do not make a start worse, so the curve is first made to rise (isotonic regression). It is not drawn
    on beyond what was measured.

    Args:
        n_labels, auroc: of the start that is compared.
        base_labels: numbers of labels of the base start, rising.
        base: its AUROCs.
    """
    logs = np.log(np.asarray(base_labels, np.float64))
    curve = IsotonicRegression().fit_transform(logs, np.asarray(base, np.float64))
    if auroc > curve[-1]:
        return Saving(base_labels[-1] / n_labels, "more")
    if auroc < curve[0]:
        return Saving(base_labels[0] / n_labels, "less")
    levels, first = np.unique(curve, return_index=True)  # of a level stretch the fewest labels
    return Saving(math.exp(np.interp(auroc, levels, logs[first])) / n_labels)
