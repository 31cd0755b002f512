"""Is pretraining working? Figures that need no labels, and their picture."""

import json
from pathlib import Path

import torch
from torch import Tensor


def rankme(embeddings: Tensor) -> float:
    """Effective rank: exp of the entropy of the singular values (Garrido 2023, arXiv 2210.02885, eq. 2-3).

    Args:
        embeddings: (N, D).

    Returns:
        Between 1, when all scans share one direction, and min(N, D). Comparable only between runs of one method.
    """
    singular = torch.linalg.svdvals(embeddings.double())
    p = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))


def spread(embeddings: Tensor) -> float:
    """Mean standard deviation over dimensions of the unit-length embeddings, times sqrt(D).

    About 1 when directions are even, 0 when all scans have collapsed to one point (Chen & He 2021, sec. 4.1).
    """
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    return float(unit.std(dim=0).mean() * embeddings.shape[1] ** 0.5)


def draw_health(metrics: Path, picture: Path) -> None:
    """Plot loss, RankMe, spread and learning rate from `metrics.jsonl` against the step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    panels = {
        "loss": "Loss (says little by itself)",
        "top1": "Views that find their partner",
        "rankme": "RankMe (effective rank; higher is richer)",
        "spread": "Spread of embeddings (0 is collapse)",
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
    for axis, (key, title) in zip(axes.flat, panels.items(), strict=True):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else None, markersize=3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
