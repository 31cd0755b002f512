"""A picture of views, for a person to judge whether the lesions are still there."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.files import atomic_file
from medtl.pretraining.draws import Draws
from medtl.pretraining.views import ViewsConfig, random_views
from medtl.training.batches import Rows

Picture = npt.NDArray[np.uint8]

SCANS = 6
VIEWS = 6
CROPS = 3
TILE_PX = 128
"""An image is about this large in the picture, so that its pixels can be seen; a slice of a volume a little less."""
GAP_PX = 4


def views_path(dataset: Path, out: Path | None) -> Path:
    """Where the picture goes: beside the run, never into it, for a folder with other files cannot become a run."""
    if out is not None and out.suffix.lower() == ".png":
        return out
    if out is None:
        return Path(f"{dataset.resolve().name}-views.png")
    return out.with_name(f"{out.name}-views.png")


def show_views(
    data: Dataset, rows: Rows, spec: PreprocessSpec, config: ViewsConfig, *, n_crops: int, seed: int, path: Path
) -> None:
    """Write a PNG with a row for each of some scans: what the network would see of it, then random views of it.

    Args:
        rows: to choose from; scans evenly spread over them are shown.
        n_crops: of the objective; small crops are shown where it has any.
    """
    chosen = rows[np.linspace(0, len(rows) - 1, min(SCANS, len(rows))).astype(np.int64)]
    images, detail = spec.with_detail(torch.from_numpy(data.pixels(chosen)))
    draws = Draws("show views", seed, total=len(chosen))
    columns = {"scan": images}
    for i in range(VIEWS):
        columns[f"view {i + 1}"] = random_views(
            images, config, draws.named(f"whole {i}"), detail=detail, colour=spec.colour
        )
    small = config.local_px(images.shape[-1])
    for i in range(min(CROPS, n_crops)):
        columns[f"crop {i + 1}"] = random_views(
            images, config.local(), draws.named(f"crop {i}"), side_px=small, detail=detail, colour=spec.colour
        )
    with atomic_file(path) as temporary:
        _sheet(columns, colour=spec.colour).save(temporary, format="PNG")


def _sheet(columns: dict[str, Tensor], *, colour: bool) -> Image.Image:
    """All scans of all columns in a grid with a line of titles."""
    cells = [[_cell(scan, colour=colour) for scan in scans] for scans in columns.values()]
    widths, height, head = [column[0].shape[1] for column in cells], cells[0][0].shape[0], 16
    count = len(cells[0])
    size = (sum(widths) + GAP_PX * len(widths), head + count * (height + GAP_PX))
    sheet = Image.new("RGB", size, (64, 64, 64)) if colour else Image.new("L", size, 64)
    pen, left = ImageDraw.Draw(sheet), 0
    for title, column, width in zip(columns, cells, widths, strict=True):
        pen.text((left + 2, 2), title, fill="white")
        for row, cell in enumerate(column):
            sheet.paste(Image.fromarray(cell), (left, head + row * (height + GAP_PX)))
        left += width + GAP_PX
    return sheet


def _cell(scan: Tensor, *, colour: bool = False) -> Picture:
    """One scan (C, H, W), or (C, D, H, W) as its middle slices: in colour, else channels below each other."""
    pixels = ((scan + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    enlarged = max(1, round(TILE_PX / (1 if pixels.ndim == 3 else 1.5) / pixels.shape[-1]))
    shown = np.moveaxis(pixels, 0, -1) if colour else np.vstack([_slices(channel) for channel in pixels])
    return shown.repeat(enlarged, axis=0).repeat(enlarged, axis=1)


def _slices(channel: Picture) -> Picture:
    """An image as it is; of a volume the axial, coronal and sagittal slice through its middle, as the page shows them.

    Axes grow towards head, front and right: turned by half, the patient's right is on the viewer's left.
    """
    if channel.ndim == 2:
        return channel
    return np.hstack([channel.take(side // 2, axis=axis)[::-1, ::-1] for axis, side in enumerate(channel.shape)])
