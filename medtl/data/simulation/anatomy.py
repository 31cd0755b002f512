"""One person's chest: the numbers that make it this person's, drawn from a random generator."""

from dataclasses import dataclass

import numpy as np

# Outlines of an average adult chest by height z in mm; each person's is stretched.
LEVELS = np.array([132, 127, 116, 98, 70, 30, -20, -70, -120, -175, -230], float)
OUTER = np.array([50, 62, 76, 91, 108, 122, 131, 136, 138, 137, 135], float)  # x of the lungs' outer wall
INNER = np.array([46, 37, 30, 24, 18, 13, 10, 10, 10, 10, 10], float)  # and of their inner one
BACK = np.array([-32, -42, -54, -68, -84, -97, -102, -100, -94, -88, -85], float)
FRONT = np.array([-26, -12, 4, 22, 44, 64, 77, 83, 82, 78, 75], float)

BODY_LEVELS = np.array([260, 200, 174, 160, 150, 140, 130, 118, 102, 80, 50, 0, -60, -130, -220, -280], float)
BODY_WIDTH = np.array([70, 56, 58, 66, 84, 108, 136, 164, 184, 190, 186, 178, 174, 168, 168, 170], float)
BODY_DEPTH = np.array([80, 60, 60, 63, 67, 72, 80, 88, 98, 106, 114, 120, 118, 114, 112, 112], float)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What stays the same in all radiographs of one person; lengths in mm."""

    sex: str
    age_years: int
    seed: int
    """Where this person's vessels and small irregularities come from."""
    stretch: tuple[float, float, float]
    """Size against the average adult in x, y and z."""
    fat_mm: float
    heart: float
    """Heart size against the average."""
    heart_turn: float
    """Turn of the heart's axis from the vertical, in radians."""
    aorta_mm: float
    unfolding_mm: float
    """How far the aorta bows out to the left, which grows with age."""
    dome_mm: tuple[float, float]
    """Height z of the right and left dome of the diaphragm at full inspiration."""
    breast_mm: float
    """Thickness of a breast; small for men."""
    rib_slope: float
    shoulder_mm: float
    """How far the shoulders are raised."""
    bend_mm: float
    """Sideways bend of the spine."""
    vessels: float
    """Fullness of the lung vessels against the average."""
    bone: float
    """Mineral density against the average; falls with age."""
    stomach_mm: float
    """Size of the gas bubble in the stomach."""
    thymic: float
    """Width of the upper mediastinum against the average."""


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A random adult."""
    sex = str(rng.choice(["F", "M"]))
    age = int(np.clip(rng.normal(57, 17), 19, 91))
    tall = rng.normal(0.95 if sex == "F" else 1.03, 0.04)
    weight = np.clip(rng.gamma(4.0, 0.25), 0.2, 2.4)  # 1 is average
    old = (age - 20) / 70
    right = rng.normal(-66, 9)
    return Anatomy(
        sex=sex,
        age_years=age,
        seed=int(rng.integers(2**31)),
        stretch=(tall * rng.normal(1, 0.035), tall * rng.normal(1, 0.05), tall * rng.normal(1, 0.035)),
        fat_mm=float(5 + 17 * weight),
        heart=float(np.clip(rng.normal(0.97 + 0.10 * old, 0.10), 0.80, 1.30)),
        heart_turn=float(rng.normal(0.72 + 0.12 * (weight - 1), 0.12)),
        aorta_mm=float(rng.normal(12.5 + 3.5 * old, 1.2)),
        unfolding_mm=float(max(0, rng.normal(9 * old, 3))),
        dome_mm=(right, right - rng.normal(11, 5)),
        breast_mm=float(min(58, rng.gamma(6, 5) * (0.6 + 0.4 * weight))) if sex == "F" else float(rng.gamma(2, 2.5)),
        rib_slope=float(rng.normal(1.0, 0.16)),
        shoulder_mm=float(rng.normal(0, 9)),
        bend_mm=float(rng.normal(0, 3.5)),
        vessels=float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.3)),
        bone=float(np.clip(rng.normal(1.08 - 0.28 * old, 0.08), 0.6, 1.3)),
        stomach_mm=float(max(0, rng.normal(20, 13))),
        thymic=float(np.clip(rng.normal(1, 0.1), 0.8, 1.3)),
    )
