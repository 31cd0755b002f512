"""One scan in memory: its display pixels, its spacing and what the header says; valid once constructed."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medtl.errors import ScanError


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known about a scan beside its pixels; None where the file does not say."""

    patient_id: str | None = None
    patient_name: str | None = None
    study_id: str | None = None
    series_id: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    manufacturer: str | None = None
    scanner: str | None = None
    age_years: float | None = None
    sex: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image, ready to be shown or preprocessed.

    Args:
        pixels: (H, W) float32 in 0..1, display values: after rescale, VOI and inversion, so that denser is
            brighter whatever the photometric interpretation was.
        spacing_mm: row and column spacing in mm, or None where the file does not say.
        header: what the file says about patient, study and scanner.
        source: the path as the user gave it; images inside an `.npz` are `file.npz#split/index`.
        sha256: hex digest of the file's bytes (of the image and its place for images inside an `.npz`).
        steps: what was done to reach the pixels, in order, in words.

    Raises:
        ScanError: pixels of a wrong shape, type or range.
    """

    pixels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    header: Header = field(default_factory=Header)
    source: str
    sha256: str
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or min(self.pixels.shape) < 2:
            raise ScanError("shape", self.source, f"an image of shape {self.pixels.shape}; expected (H, W)")
        if self.pixels.dtype != np.float32:
            raise ScanError("dtype", self.source, f"pixels of type {self.pixels.dtype}; expected float32")
        low, high = float(self.pixels.min()), float(self.pixels.max())
        if not (low >= 0.0 and high <= 1.0):  # also catches NaN
            raise ScanError("range", self.source, f"pixels from {low} to {high}; expected 0 to 1")
        self.pixels.flags.writeable = False

    @property
    def scan_id(self) -> str:
        """The name in tables: the first 16 hex digits of the digest, the same wherever the file lies."""
        return self.sha256[:16]
