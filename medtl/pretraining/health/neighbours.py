"""What the network takes for similar: nearest scans of other patients, and a map of all."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from medtl.training.batches import Rows


def nearest(embeddings: Tensor, patients: Rows, queries: Rows, *, count: int) -> Rows:
    """(Q, count) the scans nearest to each query by cosine, none of its own patient; fewer where there are fewer.

    Args:
        embeddings: (N, D).
        patients: (N,) a number for each patient.
        queries: (Q,) places in the embeddings.
    """
    unit = F.normalize(embeddings, dim=1)
    similarity = unit[torch.from_numpy(queries)] @ unit.T
    own = torch.from_numpy(patients[queries][:, None] == patients[None, :])
    most = int((~own).sum(dim=1).min())
    found: Any = similarity.masked_fill(own, -torch.inf).topk(min(count, most), dim=1).indices.numpy()
    return np.asarray(found, np.int64)


def queries_of(patients: Rows, *, count: int) -> Rows:
    """(Q,) places of scans of different patients, evenly spaced."""
    first = np.sort(np.unique(patients, return_index=True)[1])
    return np.asarray(first[np.linspace(0, len(first) - 1, min(count, len(first))).astype(np.int64)])


def flat_map(embeddings: Tensor, *, thorough: bool) -> npt.NDArray[np.float64]:
    """(N, 2) places on a map: the first two principal components of the unit-length embeddings, or t-SNE of 30.

    Args:
        thorough: t-SNE (van der Maaten & Hinton 2008), which takes a second or two for 500 scans.
    """
    unit = F.normalize(embeddings.double(), dim=1)
    u, s, _ = torch.linalg.svd(unit - unit.mean(dim=0), full_matrices=False)
    components = (u * s).numpy()
    if not thorough or len(components) < 20 or float(s[0]) < 1e-6:
        return np.pad(components, ((0, 0), (0, 2)))[:, :2]
    from sklearn.manifold import TSNE

    places: npt.NDArray[np.float64] = TSNE(
        perplexity=min(30, (len(components) - 1) / 3), init="pca", random_state=0, max_iter=500
    ).fit_transform(components[:, :30] / components[:, 0].std())
    return places
