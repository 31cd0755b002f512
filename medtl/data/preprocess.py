"""The one path from a scan to network input, shared by ingest, training, scoring and the page.

It has two halves. `stored` makes the small uint8 square that a dataset keeps on disk; `network_input` takes
such squares, from a dataset or fresh from a file, to the tensor a network sees. Because a file that is scored
passes through both, its probability is the one that the dataset's copy of it gets.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from medtl.config import StrictModel
from medtl.data.scan import Scan

if TYPE_CHECKING:
    import torch

Stored = npt.NDArray[np.uint8]


class PreprocessSpec(StrictModel):
    """How scans become network input; travels from the dataset into the run and the bundle."""

    size_px: int = Field(default=256, ge=16, le=2048)
    """Side of the stored square in pixels."""
    input_px: int | None = Field(default=None, ge=16, le=2048)
    """Side of the network's input in pixels; None, in a dataset, means that no network has chosen yet."""

    def stored(self, scan: Scan) -> Stored:
        """The scan as the square that datasets keep.

        The aspect ratio is kept: the longer side becomes `size_px`, the rest is filled with black on both sides.
        Shrinking averages (Pillow's antialiased bilinear filter), so fine structures fade, not alias.

        Returns:
            (1, size_px, size_px) uint8.
        """
        height, width = scan.pixels.shape
        scale = self.size_px / max(height, width)
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
        image = Image.fromarray(scan.pixels)
        if (new_height, new_width) != (height, width):
            image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        square = np.zeros((1, self.size_px, self.size_px), np.uint8)
        top, left = self.margins((height, width))
        values = np.clip(np.asarray(image) * 255.0 + 0.5, 0, 255).astype(np.uint8)
        square[0, top : top + new_height, left : left + new_width] = values
        return square

    def margins(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows above and columns left of a scan of `shape` (H, W) inside its stored square."""
        scale = self.size_px / max(shape)
        height, width = (max(1, round(side * scale)) for side in shape)
        return (self.size_px - height) // 2, (self.size_px - width) // 2

    def network_input(self, stored: "torch.Tensor") -> "torch.Tensor":
        """Stored squares as the network sees them: averaged down to `input_px`, scaled from 0..255 to -1..1.

        Args:
            stored: (B, 1, size_px, size_px) uint8.

        Returns:
            (B, 1, input_px, input_px) float32.
        """
        import torch.nn.functional as F

        images = stored.float().div_(127.5).sub_(1.0)
        side = self.input_px or self.size_px
        if side == self.size_px:
            return images
        if side < self.size_px:
            return F.interpolate(images, size=(side, side), mode="area")
        return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)

    def at(self, input_px: int) -> "PreprocessSpec":
        """The same spec with the network's input side chosen."""
        return self.model_copy(update={"input_px": input_px})

    def same_storage(self, other: "PreprocessSpec") -> bool:
        """Whether both keep the same squares, so that one's dataset can be read with the other's network."""
        return self.size_px == other.size_px
