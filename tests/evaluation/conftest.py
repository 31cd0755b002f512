"""Scores whose truth is known: the binormal model, where AUROC = Phi(d' / sqrt 2) (Green & Swets 1966)."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Sample = tuple[Floats, Floats, NDArray[np.str_]]


@pytest.fixture(scope="session")
def binormal() -> Callable[..., Sample]:
    """`binormal(patients, d, seed, scans_each=1, shared=0.0)` -> labels, probabilities, patient ids.

    `shared` is the correlation of the scores of one patient's scans; the label belongs to the patient.
    """

    def draw(patients: int, d: float, seed: int, *, scans_each: int = 1, shared: float = 0.0) -> Sample:
        random = np.random.default_rng(seed)
        own = np.repeat(random.normal(size=patients), scans_each)
        noise = random.normal(size=patients * scans_each)
        y = np.repeat((random.random(patients) < 0.4).astype(float), scans_each)
        score = np.sqrt(shared) * own + np.sqrt(1 - shared) * noise + d * y
        return y, norm.cdf(score - d / 2), np.repeat([f"P{i}" for i in range(patients)], scans_each)

    return draw
