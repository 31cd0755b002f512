"""What an objective is given: random views of a batch of scans, who belongs together, and further random numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.pretraining.draws import Draws
from medtl.pretraining.sampling import Sampler
from medtl.pretraining.views import ViewsConfig, random_views


@dataclass(frozen=True, kw_only=True)
class Views:
    """A batch.

    Args:
        whole: (B, V, C, [D,] H, W) random views in -1..1, V as many as the objective's `n_views`. With pairs by study
            or patient, the views of one row may show different scans.
        crops: (B, L, C, [D,] h, w) small crops, L as many as the objective's `n_crops`; None where it is 0.
        group: (B,) scans with the same number show the same patient, or pictures that are near-duplicates: never
            negatives of each other.
        draws: random numbers for what the objective itself draws (masks, corruptions).
    """

    whole: Tensor
    crops: Tensor | None = None
    group: Tensor
    draws: Draws

    def __len__(self) -> int:
        return len(self.whole)


def view_batches(
    data: Dataset,
    sampler: Sampler,
    spec: PreprocessSpec,
    config: ViewsConfig,
    *,
    n_views: int,
    n_crops: int,
    seed: int,
    part: slice | None = None,
    side_at: Callable[[], int] | None = None,
) -> Callable[[int, torch.device], tuple[Views]]:
    """From a step's number to its batch.

    Args:
        part: the scans of the batch that this process holds; None is all.
        side_at: the side of scans in pixels as it is now, where it grows; None is the spec's.
    """

    def batch_at(step: int, device: torch.device) -> tuple[Views]:
        chosen = sampler.at(step)
        draws = Draws("views", seed, step, total=len(chosen), part=part, device=device)
        mine = chosen.part(part)
        seen = spec if side_at is None else spec.at(side_at())
        # Each row's views show its scan and its partners in turn; where they are one scan it is read once.
        sources: dict[bytes, tuple[Tensor, Tensor | None]] = {}
        for rows in mine.scans.T:
            if (key := rows.tobytes()) not in sources:
                sources[key] = seen.with_detail(torch.from_numpy(data.pixels(rows)).to(device))
        shown = [sources[mine.scans[:, view % mine.scans.shape[1]].tobytes()] for view in range(n_views)]
        whole = [
            random_views(images, config, draws.named(f"whole {i}"), detail=detail, colour=spec.colour)
            for i, (images, detail) in enumerate(shown)
        ]
        images, detail = shown[0]
        small = config.local_px(images.shape[-1])
        crops = [
            random_views(
                images, config.local(), draws.named(f"crop {i}"), side_px=small, detail=detail, colour=spec.colour
            )
            for i in range(n_crops)
        ]
        return (
            Views(
                whole=torch.stack(whole, dim=1),
                crops=torch.stack(crops, dim=1) if crops else None,
                group=torch.from_numpy(mine.group).to(device),
                draws=draws.named("objective"),
            ),
        )

    return batch_at
