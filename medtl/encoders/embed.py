"""Embeddings of a dataset's scans."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec

BATCH = 64


def embed(encoder: nn.Module, data: Dataset, rows: np.ndarray[Any, np.dtype[np.int64]], spec: PreprocessSpec) -> Tensor:
    """Embeddings of rows of a dataset, with the encoder in evaluation mode for the while.

    Args:
        rows: (N,) rows of the dataset's manifest.

    Returns:
        (N, D) float32 on the CPU.
    """
    training, where = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    parts: list[Tensor] = []
    with torch.no_grad():
        for first in range(0, len(rows), BATCH):
            stored = torch.from_numpy(data.pixels(rows[first : first + BATCH])).to(where)
            parts.append(encoder(spec.network_input(stored)).cpu())
    encoder.train(training)
    return torch.cat(parts)
