"""One scan in memory, image or volume: display pixels, spacing, what the header says; valid once constructed."""

import datetime
from collections.abc import Callable, Iterable
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
    acquired: datetime.date | None = None
    burned_in: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image or one volume, ready to be shown or preprocessed.

    Args:
        pixels: (H, W) or (D, H, W) float32 in 0..1, display values: after rescale, VOI and inversion, so that denser
            is brighter whatever the photometric interpretation was. The axes of a volume grow towards the patient's
            head (D), front (H) and right (W): RAS, read backwards.
        spacing_mm: distance of neighbours along each axis of `pixels`, or None where the file does not say.
        hu: Hounsfield units of the same shape, float32, for CT; None for all else.
        rgb: (H, W, 3) float32 red, green and blue in 0..1 of an image in colour, whose `pixels` are its luminance; None
            for all else, also where the three are equal everywhere.
        header: what the file says about patient, study and scanner.
        source: the path as the user gave it; images inside a larger file are `file.npz#split/index`,
            `file.dcm#frame/index`; a series is named by its first file.
        sha256: hex digest of the file's bytes (of the image and its place for images inside a larger file, of all
            files' digests for a series).
        steps: what was done to reach the pixels, in order, in words.
        file_shape: sides of the image in the file, where `pixels` may have been decoded at a lower resolution.
        coarser: reads the file again with a longer side of at least so many pixels, where that may be faster.

    Raises:
        ScanError: pixels of a wrong shape, type or range.
    """

    pixels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, ...] | None = None
    hu: npt.NDArray[np.float32] | None = None
    rgb: npt.NDArray[np.float32] | None = None
    header: Header = field(default_factory=Header)
    source: str
    sha256: str
    steps: tuple[str, ...] = ()
    file_shape: tuple[int, ...] | None = None
    coarser: Callable[[int], "Scan"] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) not in (2, 3) or min(shape) < 2:
            raise ScanError(
                "shape", self.source, f"holds {by_sides(shape)} values; expected at least 2 along each axis"
            )
        if self.pixels.dtype != np.float32:
            raise ScanError("dtype", self.source, f"pixels of type {self.pixels.dtype}; expected float32")
        low, high = float(self.pixels.min()), float(self.pixels.max())
        if not (low >= 0.0 and high <= 1.0):  # also catches NaN
            raise ScanError("range", self.source, f"pixels from {low} to {high}; expected 0 to 1")
        if self.hu is not None and (self.hu.shape != shape or self.hu.dtype != np.float32):
            raise ScanError(
                "shape", self.source, f"Hounsfield units of {by_sides(self.hu.shape)}, pixels of {by_sides(shape)}"
            )
        if self.rgb is not None:
            self._check_rgb(self.rgb)
        if self.spacing_mm is not None and len(self.spacing_mm) != len(shape):
            raise ScanError("spacing", self.source, f"{len(self.spacing_mm)} distances for {len(shape)} axes")
        self.pixels.flags.writeable = False

    def _check_rgb(self, rgb: npt.NDArray[np.float32]) -> None:
        if self.dims != 2 or rgb.shape != (*self.pixels.shape, 3) or rgb.dtype != np.float32:
            raise ScanError(
                "shape", self.source, f"colours of {by_sides(rgb.shape)}, pixels of {by_sides(self.pixels.shape)}"
            )
        low, high = float(rgb.min()), float(rgb.max())
        if not (low >= 0.0 and high <= 1.0):
            raise ScanError("range", self.source, f"colours from {low} to {high}; expected 0 to 1")
        rgb.flags.writeable = False

    @property
    def dims(self) -> int:
        """2 for an image, 3 for a volume."""
        return self.pixels.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The sides of the image or volume in its file."""
        return self.file_shape or self.pixels.shape

    def at_least(self, side_px: int) -> "Scan":
        """The same scan with no more pixels than a longer side of `side_px` needs, where its file offers fewer.

        The pixels are those that reading with this side in mind gives at once.
        """
        return self if self.coarser is None or max(self.shape) < 2 * side_px - 1 else self.coarser(side_px)

    @property
    def scan_id(self) -> str:
        """The name in tables: the first 16 hex digits of the digest, the same wherever the file lies."""
        return self.sha256[:16]


def by_sides(shape: Iterable[int]) -> str:
    """A shape as messages say it: `512 x 512`."""
    return " x ".join(str(side) for side in shape)
