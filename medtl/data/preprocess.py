"""The one path from a scan to network input, shared by ingest, training, scoring and the page.

It has two halves. `stored` makes the small uint8 square or cube that a dataset keeps on disk; `network_input` takes
such blocks, from a dataset or fresh from a file, to the tensor a network sees. Because a file that is scored
passes through both, its probability is the one that the dataset's copy of it gets.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from medtl.config import StrictModel
from medtl.data.resample import resized, resized_coarse
from medtl.data.scan import Scan
from medtl.data.windows import NAMED_HU, windowed
from medtl.errors import ScanError

if TYPE_CHECKING:
    import torch

Stored = npt.NDArray[np.uint8]


class PreprocessSpec(StrictModel):
    """How scans become network input; travels from the dataset into the run and the bundle."""

    dims: Literal[2, 3] = 2
    """2 for images, 3 for volumes."""
    size_px: int = Field(default=256, ge=16, le=2048)
    """Side of the stored square or cube in pixels."""
    spacing_mm: float | None = Field(default=None, gt=0)
    """Volumes: the side of a stored voxel; all volumes have the same, so that sizes can be compared. Images keep no
    scale: their longer side fills the square."""
    window: tuple[str, ...] = ()
    """CT: names of windows, each of which becomes a channel; without names there is one channel, as displayed."""
    input_px: int | None = Field(default=None, ge=16, le=2048)
    """Side of the network's input in pixels; None, in a dataset, means that no network has chosen yet."""

    @model_validator(mode="after")
    def _usable(self) -> "PreprocessSpec":
        if unknown := [name for name in self.window if name not in NAMED_HU]:
            raise ValueError(f"unknown window '{unknown[0]}'; choose from {', '.join(NAMED_HU)}")
        if (self.dims == 3) != (self.spacing_mm is not None):
            raise ValueError("volumes need a spacing_mm, images have none")
        return self

    @property
    def channels(self) -> int:
        """How many channels a stored block has."""
        return max(1, len(self.window))

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """(C, S, S) or (C, S, S, S)."""
        return (self.channels, *[self.size_px] * self.dims)

    @property
    def least_px(self) -> int | None:
        """The longer side that images are decoded with at least, so that what is stored is an average; None is all."""
        return 2 * self.size_px if self.dims == 2 else None

    def stored(self, scan: Scan) -> Stored:
        """The scan as the square or cube that datasets keep.

        An image keeps its aspect ratio: the longer side becomes `size_px`. A volume gets voxels of `spacing_mm`; what
        reaches over the cube is cut off at both ends. The rest is filled with black on both sides. Shrinking
        averages (Pillow's antialiased bilinear filter), so fine structures fade, not alias.

        Returns:
            uint8 of `stored_shape`.

        Raises:
            ScanError: `dims`: a volume where images are stored, or the other way round; `no_hounsfield`: windows
                are asked for and the scan is no CT.
        """
        self._check(scan)
        if self.least_px is not None:
            scan = scan.at_least(self.least_px)
        shape = self.scaled_shape(scan)
        if self.window:
            assert scan.hu is not None
            values = _scaled(scan.hu, shape, scan)
            channels = [windowed(values, centre=NAMED_HU[w][0], width=NAMED_HU[w][1]) for w in self.window]
        else:
            channels = [_scaled(scan.pixels, shape, scan)]
        block = np.zeros(self.stored_shape, np.uint8)
        take, put = self.placement(shape)
        for channel, pixels in zip(block, channels, strict=True):
            channel[put] = np.clip(pixels[take] * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
        return block

    def _check(self, scan: Scan) -> None:
        if scan.dims != self.dims:
            found, wanted = ("a volume", "images") if scan.dims == 3 else ("an image", "volumes")
            raise ScanError("dims", scan.source, f"is {found}; {wanted} are expected here")
        if self.window and scan.hu is None:
            raise ScanError(
                "no_hounsfield", scan.source, f"has no Hounsfield units to see through the window '{self.window[0]}'"
            )

    def scaled_shape(self, scan: Scan) -> tuple[int, ...]:
        """The sides of the scan in stored pixels, before anything is cut off or filled up."""
        sides = scan.shape
        if self.spacing_mm is None:
            scales = [self.size_px / max(sides)] * len(sides)
        else:
            scales = [mm / self.spacing_mm for mm in scan.spacing_mm or (1.0,) * len(sides)]
        return tuple(max(1, round(side * scale)) for side, scale in zip(sides, scales, strict=True))

    def placement(self, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Which part of a scan of `shape` stored pixels is kept, and where in the stored block it lies."""
        take, put = [], []
        for side in shape:
            kept, cut = min(side, self.size_px), max(0, side - self.size_px) // 2
            margin = (self.size_px - kept) // 2
            take.append(slice(cut, cut + kept))
            put.append(slice(margin, margin + kept))
        return tuple(take), tuple(put)

    def network_input(self, stored: "torch.Tensor") -> "torch.Tensor":
        """Stored blocks as the network sees them: averaged down to `input_px`, scaled from 0..255 to -1..1.

        Args:
            stored: (B, *stored_shape) uint8.

        Returns:
            (B, C, input_px, input_px) or (B, C, input_px, input_px, input_px) float32.
        """
        import torch.nn.functional as F

        images = stored.float().div_(127.5).sub_(1.0)
        side = self.input_px or self.size_px
        if side == self.size_px:
            return images
        if side < self.size_px:
            return F.interpolate(images, size=[side] * self.dims, mode="area")
        mode = "bilinear" if self.dims == 2 else "trilinear"
        return F.interpolate(images, size=[side] * self.dims, mode=mode, align_corners=False)

    def at(self, input_px: int) -> "PreprocessSpec":
        """The same spec with the network's input side chosen."""
        return self.model_copy(update={"input_px": input_px})

    def same_storage(self, other: "PreprocessSpec") -> bool:
        """Whether both keep the same blocks, so that one's dataset can be read with the other's network."""
        return self.at(self.size_px) == other.at(self.size_px)

    def words(self) -> str:
        """What is stored, for people: `images of 256 px`, `volumes of 64 px, 1 mm each`."""
        window = f", windows {', '.join(self.window)}" if self.window else ""
        if self.dims == 2:
            return f"images of {self.size_px} px{window}"
        return f"volumes of {self.size_px} px, {self.spacing_mm:g} mm each{window}"

    def options(self) -> str:
        """The options of `medtl ingest` that store scans so."""
        kind = "" if self.dims == 2 else f"--as volumes --spacing-mm {self.spacing_mm:g} "
        return f"{kind}--size-px {self.size_px}" + "".join(f" --window {name}" for name in self.window)


def _scaled(values: npt.NDArray[np.float32], shape: tuple[int, ...], scan: Scan) -> npt.NDArray[np.float32]:
    return resized(values, shape) if values.shape == scan.shape else resized_coarse(values, shape, of=scan.shape)
