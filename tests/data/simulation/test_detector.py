"""Noise that follows the dose, and the tone of two scanners."""

from dataclasses import replace

import numpy as np
import pytest

from medtl.data.simulation.detector import TOP, Detector, Setting, expose
from medtl.data.simulation.radiograph import SCANNERS

FLAT = np.full((128, 128), 2.5)
LINEAR = Detector(
    photons=10_000,
    scatter=0.0,
    blur_px=0.3,
    contrast=1.0,
    edge=0.0,
    latitude=0.0,
    stored_range=(0, TOP),
    inverted=False,
)
USUAL = Setting(dose=1.0, contrast=1.0, brightness=0.0)


def noise(dose: float) -> float:
    setting = replace(USUAL, dose=dose)
    stored = expose(FLAT, FLAT, LINEAR, setting, pitch_mm=1.7, rng=np.random.default_rng(0))
    assert stored.dtype == np.uint16 and stored.max() <= TOP
    shown = stored[8:-8, 8:-8] / TOP
    return float(np.std(np.log(shown / (1 - shown))))  # back through the tone curve


@pytest.mark.parametrize("dose", [1.0, 4.0])
def test_noise_is_that_of_poisson(dose: float) -> None:
    # The relative noise of N quanta is 1 / sqrt(N); 12,500 pixels give it to about 1 %.
    assert noise(dose) == pytest.approx(1 / np.sqrt(10_000 * dose), rel=0.04)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda s: s.model)
def test_dense_is_bright_unless_inverted(scanner) -> None:  # type: ignore[no-untyped-def]
    integral = np.full((120, 120), 2.4)
    integral[40:80, 40:80] = 4.5
    stored = expose(integral, 5 - integral, scanner.detector, USUAL, pitch_mm=1.7, rng=np.random.default_rng(0)) * 1.0
    brighter = stored[50:70, 50:70].mean() > stored[:20, :20].mean()
    assert brighter != scanner.detector.inverted
