"""The one path from a scan to network input, shared by ingest, training, scoring and the page.

It has two halves. `stored` makes the small uint8 square or cube that a dataset keeps on disk; `network_input` takes
such blocks, from a dataset or fresh from a file, to the tensor a network sees. Because a file that is scored
passes through both, its probability is the one that the dataset's copy of it gets.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medtl.config import StrictModel
from medtl.data.resample import resized, resized_coarse
from medtl.data.scan import Scan
from medtl.data.values import luminance
from medtl.data.windows import NAMED_HU, windowed
from medtl.errors import ScanError

if TYPE_CHECKING:
    import torch

Stored = npt.NDArray[np.uint8]
CHUNK_PX = 1 << 18


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
    colour: bool = False
    """Images: red, green and blue are three channels; else there is one, the luminance."""
    input_px: int | None = Field(default=None, ge=16, le=2048)
    """Side of the network's input in pixels; None, in a dataset, means that no network has chosen yet."""

    @model_validator(mode="after")
    def _usable(self) -> "PreprocessSpec":
        if unknown := [name for name in self.window if name not in NAMED_HU]:
            raise ValueError(f"unknown window '{unknown[0]}'; choose from {', '.join(NAMED_HU)}")
        if (self.dims == 3) != (self.spacing_mm is not None):
            raise ValueError("volumes need a spacing_mm, images have none")
        if self.colour and (self.window or self.dims == 3):
            raise ValueError("colour is for images without a window: volumes and CT have none")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Grey scans are described as they were before there was colour, so that what was derived of it still holds."""
        content: dict[str, Any] = write(self)
        if not self.colour:
            del content["colour"]
        return content

    @property
    def channels(self) -> int:
        """How many channels a stored block has."""
        return 3 if self.colour else max(1, len(self.window))

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
        averages (Pillow's antialiased bilinear filter), so fine structures fade, not alias. Where colour is stored, a
        grey scan has three equal channels.

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
        elif self.colour and scan.rgb is not None:
            channels = [resized(scan.rgb[..., channel], shape) for channel in range(3)]
        else:
            channels = [_scaled(scan.pixels, shape, scan)] * self.channels
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
        return self._averaged(stored, self.input_px or self.size_px)

    def with_detail(self, stored: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor | None]":
        """The network's input, and the same scans with twice as many pixels a side, for crops to be sharp.

        Args:
            stored: (B, *stored_shape) uint8.

        Returns:
            What `network_input` gives, and (B, C, 2S, 2S) or (B, C, 2S, 2S, 2S) float32; None where the dataset
            keeps fewer pixels.
        """
        side = self.input_px or self.size_px
        return self.network_input(stored), self._averaged(stored, 2 * side) if self.size_px >= 2 * side else None

    def _averaged(self, stored: "torch.Tensor", side: int) -> "torch.Tensor":
        """Stored blocks at another side, in -1..1."""
        import torch

        # A few scans at a time, which stay in the processor's cache.
        chunk = max(1, CHUNK_PX // stored[0].numel()) if stored.device.type == "cpu" else len(stored)
        return torch.cat([shrunk(stored[first : first + chunk], side) for first in range(0, len(stored), chunk)])

    def grey(self, stored: Stored) -> Stored:
        """Stored blocks (..., C, [S,] S, S) as one channel (..., 1, [S,] S, S): luminance, or the first window."""
        if self.colour:
            return np.rint(luminance(np.moveaxis(stored, -3, -1))).astype(np.uint8)[..., None, :, :]
        first = -1 - self.dims
        return stored.take([0], axis=first)

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
            return f"images of {self.size_px} px{window}{' in colour' if self.colour else ''}"
        return f"volumes of {self.size_px} px, {self.spacing_mm:g} mm each{window}"

    def options(self, *, instead_of: "PreprocessSpec") -> str:
        """The options of `medtl ingest` that store scans so, which were stored in another way."""
        kind = "" if self.dims == 2 else f"--as volumes --spacing-mm {self.spacing_mm:g} "
        return f"{kind}--size-px {self.size_px}" + self.more_options(instead_of)

    def more_options(self, instead_of: "PreprocessSpec") -> str:
        """Those of them that say what the channels are."""
        windows = "".join(f" --window {name}" for name in self.window)
        if self.colour == instead_of.colour:
            return windows
        return windows + (" --colour" if self.colour else " --no-colour")


def picture_of(stored: Stored, *, colour: bool) -> Stored:
    """A stored block (C, S, S) or (C, S, S, S) as people see it: (S, S), or (S, S, 3) in colour.

    Of a volume it is the axial slice through the middle, as radiologists see it: the front is up, the patient's right
    is on the left.
    """
    if colour:
        return np.moveaxis(stored, 0, -1)
    return stored[0] if stored.ndim == 3 else stored[0, stored.shape[1] // 2, ::-1, ::-1]


def shrunk(stored: "torch.Tensor", side: int) -> "torch.Tensor":
    """Blocks (B, C, [S,] S, S) of uint8 to another side, averaging where it shrinks, as float32 from 0..255 to -1..1.

    Halving adds neighbours as integers, which is exact and ten times as fast as torch's average over areas; what is
    no power of two is left to the latter.
    """
    import torch
    import torch.nn.functional as F

    dims, sums, bits = stored.ndim - 2, stored, 0
    while sums.shape[-1] % (2 * side) == 0 and bits + dims <= 7:  # 255 * 2**7 still fits 16 bits
        for axis in range(2, stored.ndim):
            even, odd = (sums[(slice(None),) * axis + (slice(first, None, 2),)] for first in (0, 1))
            sums = even.to(torch.int16).add_(odd)
        bits += dims
    images = sums.float().mul_(1 / (127.5 * 2**bits)).sub_(1.0)
    if side == images.shape[-1]:
        return images
    if side < images.shape[-1]:
        return F.interpolate(images, size=[side] * dims, mode="area")
    mode = "bilinear" if dims == 2 else "trilinear"
    return F.interpolate(images, size=[side] * dims, mode=mode, align_corners=False)


def _scaled(values: npt.NDArray[np.float32], shape: tuple[int, ...], scan: Scan) -> npt.NDArray[np.float32]:
    return resized(values, shape) if values.shape == scan.shape else resized_coarse(values, shape, of=scan.shape)
