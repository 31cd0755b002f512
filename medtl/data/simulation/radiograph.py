"""One visit to the scanner: a pose, a breath, a setting, and the radiograph that comes of it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import rotate

from medtl.data.simulation.anatomy import Anatomy
from medtl.data.simulation.attenuation import chest
from medtl.data.simulation.detector import Detector, Setting, expose
from medtl.data.simulation.devices import electrodes
from medtl.data.simulation.findings import NAMES, Finding, add
from medtl.data.simulation.rays import Array, Pose, Rays


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """A detector with its matrix and the names that its files carry."""

    manufacturer: str
    model: str
    detector_id: str
    rows: int
    columns: int
    pitch_mm: float
    detector: Detector
    kvp: float


SCANNERS = (
    Scanner(
        manufacturer="Simulated Imaging",
        model="Flatfield 43",
        detector_id="SIM-A",
        rows=232,
        columns=232,
        pitch_mm=1.87,
        kvp=120,
        detector=Detector(
            photons=240000,
            scatter=0.11,
            blur_px=0.65,
            contrast=1.75,
            edge=0.35,
            latitude=0.22,
            stored_range=(300, 1450),
            inverted=False,
        ),
    ),
    Scanner(
        manufacturer="Phantom Radiology",
        model="Portrait DR",
        detector_id="SIM-B",
        rows=248,
        columns=216,
        pitch_mm=1.81,
        kvp=110,
        detector=Detector(
            photons=150000,
            scatter=0.16,
            blur_px=0.8,
            contrast=1.45,
            edge=0.65,
            latitude=0.30,
            stored_range=(900, 2050),
            inverted=True,
        ),
    ),
)


@dataclass(frozen=True)
class Radiograph:
    """Stored pixels and truth of one image."""

    stored: npt.NDArray[np.uint16]
    """(H, W), 12 bits, as the scanner stores them."""
    masks: dict[str, npt.NDArray[np.bool_]]
    """(H, W) per finding by name; a finding that nothing is seen of has none."""
    scanner: Scanner
    frontal: bool
    """AP if true, PA if not."""
    dose: float


def draw_pose(rng: np.random.Generator, scanner: Scanner, *, frontal: bool) -> tuple[Pose, float]:
    """How a patient stands or lies this time, and how far (mm) the diaphragm stands above full inspiration."""
    pose = Pose(
        rows=scanner.rows,
        columns=scanner.columns,
        pitch_mm=scanner.pitch_mm,
        frontal=frontal,
        source_mm=float(rng.uniform(1000, 1250) if frontal else rng.uniform(1750, 1850)),
        yaw=float(rng.normal(0, 0.06 if frontal else 0.03)),
        lean=float(rng.normal(-0.05, 0.07) if frontal else rng.normal(0.04, 0.04)),
        center_mm=(float(rng.normal(0, 8)), float(rng.normal(-22, 10))),
    )
    return pose, float(max(0, rng.normal(22, 12) if frontal else rng.normal(9, 8)))


def radiograph(anatomy: Anatomy, findings: list[Finding], scanner: Scanner, rng: np.random.Generator) -> Radiograph:
    """Take one frontal radiograph of a person with `findings`."""
    frontal = bool(rng.random() < 0.4)
    pose, raised_mm = draw_pose(rng, scanner, frontal=frontal)
    rays = Rays(pose)
    body = chest(rays, anatomy, raised_mm, rng)
    integral = body.integral
    masks = {}
    for finding in findings:
        added, masks[NAMES[type(finding)]] = add(finding, body, rays, anatomy, raised_mm)
        integral = integral + added
    if frontal and rng.random() < 0.4:
        integral = integral + electrodes(rays, rng)
    roll = float(rng.normal(0, 2.2 if frontal else 1.0))
    integral = _turn(integral, roll) + marker(rays.shape, rng)
    setting = Setting(
        dose=float(np.exp(rng.normal(0, 0.25))),
        contrast=float(np.exp(rng.normal(0, 0.12))),
        brightness=float(rng.normal(0, 0.13)),
    )
    lung_mm = _turn(rays.integrate(body.organs.lung), roll)
    stored = expose(integral, lung_mm, scanner.detector, setting, pitch_mm=pose.pitch_mm, rng=rng)
    field = collimation(rays.shape, rng)
    low, high = scanner.detector.stored_range
    stored[~field] = high if scanner.detector.inverted else low
    turned = {name: (_turn(mask.astype(np.float32), roll) > 0.5) & field for name, mask in masks.items()}
    turned = {name: mask for name, mask in turned.items() if mask.any()}
    return Radiograph(stored, turned, scanner, frontal, setting.dose)


def _turn(image: Array, degrees: float) -> Array:
    turned: Array = rotate(image, degrees, reshape=False, order=1, mode="nearest", output=np.float32)
    return turned


def marker(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Line integral (H, W) of a lead letter L beside the patient's left shoulder."""
    letter = np.zeros(shape, np.float32)
    high, thick = int(rng.integers(10, 15)), int(rng.integers(2, 4))
    top = int(rng.integers(6, shape[0] // 6))
    left = shape[1] - int(rng.integers(14, 30)) - high // 2
    letter[top : top + high, left : left + thick] = 4
    letter[top + high - thick : top + high, left : left + high * 2 // 3] = 4
    return letter


def collimation(shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The field (H, W) that the shutters leave open; in about half of the images they show on some side."""
    field = np.ones(shape, bool)
    if rng.random() < 0.5:
        return field
    top, bottom, left, right = (int(max(0, rng.normal(0, 6))) for _ in range(4))
    field[:top] = field[shape[0] - bottom :] = False
    field[:, :left] = field[:, shape[1] - right :] = False
    return field
