"""Views a second: medtl's batched tensor views against the same augmentations as MONAI's per-sample transforms.

    python benchmarks/views.py

Both make one random view of each of the same scans, in one process with one thread, in turn, several times;
printed are the medians and the ratio. The augmentations are those of `ViewsConfig`'s defaults: crop with
scale and rotation in one affine resampling, gamma, contrast, brightness, blur in half the views, noise. Ours also
deform elastically.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffine,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
    ScaleIntensityRange,
)

from medtl.pretraining.draws import Draws
from medtl.pretraining.views import ViewsConfig, random_views


def monai_views(config: ViewsConfig, side_px: int) -> Compose:
    """The same augmentations with MONAI's own transforms, a scan (1, H, W) in 0..1 at a time."""
    narrow, wide = (area**0.5 for area in config.crop_area)
    turn = np.deg2rad(config.rotation_deg)
    return Compose(
        [
            RandAffine(
                prob=1.0, rotate_range=(turn,), scale_range=((narrow - 1, wide - 1),) * 2, translate_range=(8, 8),
                padding_mode="zeros", mode="bilinear", spatial_size=(side_px, side_px), cache_grid=True,
            ),
            RandAdjustContrast(prob=1.0, gamma=(float(np.exp(-config.gamma)), float(np.exp(config.gamma)))),
            RandScaleIntensity(factors=config.contrast, prob=1.0),
            RandShiftIntensity(offsets=config.brightness, prob=1.0),
            RandGaussianSmooth(sigma_x=(0.1, config.blur_px), sigma_y=(0.1, config.blur_px), prob=0.5),
            RandGaussianNoise(prob=1.0, std=config.noise),
            ScaleIntensityRange(a_min=0.0, a_max=1.0, b_min=-1.0, b_max=1.0, clip=True),
        ]
    )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = ViewsConfig()
    for side in asked.side_px:
        theirs = monai_views(config, side)
        images = torch.rand(asked.batch, 1, side, side, generator=torch.Generator().manual_seed(0))
        ours, monai = [], []
        for round_ in range(asked.rounds + 1):
            draws = Draws("benchmark", round_, total=asked.batch)
            times = (
                seconds(lambda d=draws, i=images: random_views(i * 2 - 1, config, d)),
                seconds(lambda i=images, t=theirs: torch.stack([torch.as_tensor(t(image)) for image in i])),
            )
            if round_:  # the first is a warm-up
                ours.append(asked.batch / times[0])
                monai.append(asked.batch / times[1])
        ratio = statistics.median(a / b for a, b in zip(ours, monai, strict=True))
        print(
            f"{side} px, one core: medtl {statistics.median(ours):,.0f} views/s, "
            f"MONAI per sample {statistics.median(monai):,.0f} views/s, ratio {ratio:.1f}"
        )


if __name__ == "__main__":
    main()
