"""A problem that an objective must solve: what views share is faint, what differs between them is loud."""

from typing import Any

import torch
from torch import Tensor

from medtl.pretraining.methods import METHODS
from medtl.pretraining.objectives import Objective
from tests.pretraining.tiny import tiny_encoder, views_of

CLASSES = 4
SHARED, NUISANCE = 4, 8  # dimensions, of the 16 pixels of a scan


def toy_views(seed: int, count: int = 64, crops: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Views (B, 2, 1, 4, 4), crops (B, L, 1, 4, 4) and classes (B,): a scan's class moves it by 1 along one of the
    four directions that views share; in eight others every view is moved at random with standard deviation 2."""
    basis, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(123)))
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(CLASSES, (count,), generator=g)
    shared = torch.eye(SHARED)[kind] + 0.2 * torch.randn(count, SHARED, generator=g)
    nuisance = 2 * torch.randn(count, 2 + crops, NUISANCE, generator=g)
    views = shared[:, None] @ basis[:SHARED] + nuisance @ basis[SHARED : SHARED + NUISANCE]
    views = views.reshape(count, 2 + crops, 1, 4, 4)
    return views[:, :2], views[:, 2:], kind


def knn_accuracy(objective: Any, seed: int = 9999) -> float:
    """Share of scans whose five nearest others, by cosine, are mostly of their class; 0.25 is chance."""
    views, _, kind = toy_views(seed, count=256)
    with torch.no_grad():
        z = torch.nn.functional.normalize(objective.encoder(views[:, 0]), dim=1)
    similarity = (z @ z.T).fill_diagonal_(-2)
    votes = torch.nn.functional.one_hot(kind[similarity.topk(5).indices], CLASSES).sum(dim=1)
    return float((votes.argmax(dim=1) == kind).float().mean())


def learned(name: str, *, steps: int, lr: float = 1e-2, **settings: Any) -> tuple[Any, float, float]:
    """Train a method on the toy problem; the objective, and its kNN accuracy before and after."""
    torch.manual_seed(0)
    cls = METHODS[name].load()
    objective: Objective = cls(tiny_encoder(), cls.Config(**settings))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=lr)  # type: ignore[attr-defined]
    before = knn_accuracy(objective)
    for step in range(steps):
        whole, crops, _ = toy_views(step, crops=objective.n_crops)
        loss, _ = objective(views_of(whole, crops=crops if objective.n_crops else None))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
    return objective, before, knn_accuracy(objective)
