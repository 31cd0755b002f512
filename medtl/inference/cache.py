"""Embeddings that are kept, so that what is taught to a bundle later need not go through the encoder again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from medtl.data.preprocess import PreprocessSpec
from medtl.files import atomic_file
from medtl.inference.runtime import CHUNK
from medtl.progress import say

FOLDER = ".embeddings"
Stored = npt.NDArray[np.uint8]


class EmbeddingCache:
    """A file of embeddings, by the names of the scans.

    Its name is a digest of what embeddings depend on: the encoder's weights, the preprocessing, and the dataset. With
    other scans in the dataset it is another file, and the one before is removed. A file that cannot be read is made
    again; where none can be written, everything is computed each time.

    Args:
        beside: the dataset or the bundle next to which the file lies.
        dataset: names the scans; of a dataset its fingerprint.
        encoder: digest of the encoder's weights, see `encoder_digest`.
        spec: preprocessing.
        flip_average: whether an embedding is the mean over the scan and its mirror image.
    """

    def __init__(self, beside: Path, *, dataset: str, encoder: str, spec: PreprocessSpec, flip_average: bool) -> None:
        self._depends = {
            "dataset": dataset,
            "encoder": encoder,
            "spec": json.dumps(spec.model_dump(mode="json"), sort_keys=True),
            "flip_average": str(flip_average),
        }
        key = hashlib.sha256(json.dumps(self._depends, sort_keys=True).encode()).hexdigest()[:16]
        self._folder, self._stem = beside.absolute().parent / FOLDER, beside.absolute().name
        self.file = self._folder / f"{self._stem}-{key}.safetensors"
        self._spec, self._flip_average = spec, flip_average

    def embeddings(
        self, names: Sequence[str], stored: Callable[[npt.NDArray[np.int64]], Stored], encoder: Callable[[], nn.Module]
    ) -> tuple[Tensor, int]:
        """Embeddings of scans, computed where they are not in the file and then kept in it.

        Args:
            names: (N,) what the scans are called.
            stored: gives the stored blocks (B, *spec.stored_shape) of places in `names`.
            encoder: builds the network, in evaluation mode; called only where something is to be computed.

        Returns:
            (N, D) float32, and how many of them were in the file.
        """
        known = self._read()
        missing = np.array([i for i, name in enumerate(names) if name not in known], np.int64)
        if len(missing):
            computed = embed_stored(encoder(), missing, stored, self._spec, flip_average=self._flip_average)
            known |= {names[i]: row for i, row in zip(missing, computed, strict=True)}
            self._write(known)
        return torch.stack([known[name] for name in names]), len(names) - len(missing)

    def _read(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.file, "pt") as content:
                rows = content.get_tensor("embeddings")
                return dict(zip(json.loads(content.metadata()["names"]), rows, strict=True))
        except FileNotFoundError:
            return {}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
            say(f"{self.file}: cannot be read ({problem}); embeddings are computed again")
            return {}

    def _write(self, known: Mapping[str, Tensor]) -> None:
        tensors = {"embeddings": torch.stack(list(known.values()))}
        try:
            with atomic_file(self.file) as temporary:
                temporary.write_bytes(save(tensors, {"names": json.dumps(list(known))} | self._depends))
            self._remove_outdated()
        except OSError as problem:
            say(f"{self.file}: cannot be written ({problem.strerror or problem}); embeddings are not kept")

    def _remove_outdated(self) -> None:
        """Remove what was kept of the same dataset when it held other scans."""
        for file in self._folder.glob(f"{self._stem}-????????????????.safetensors"):
            try:
                with safe_open(file, "pt") as content:
                    outdated = content.metadata()["dataset"] != self._depends["dataset"]
            except (SafetensorError, OSError, KeyError, TypeError):
                outdated = True
            if outdated:
                file.unlink(missing_ok=True)


def encoder_digest(weights: Mapping[str, Tensor]) -> str:
    """A digest of the encoder's part of a classifier's weights; heads do not change it."""
    digest = hashlib.sha256()
    for key in sorted(key for key in weights if key.startswith("encoder.")):
        value = weights[key].cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def embed_stored(
    encoder: nn.Module,
    places: npt.NDArray[np.int64],
    stored: Callable[[npt.NDArray[np.int64]], Stored],
    spec: PreprocessSpec,
    *,
    flip_average: bool,
) -> Tensor:
    """Embeddings of stored blocks, `CHUNK` at a time as in scoring, so that company does not change a scan's.

    Returns:
        (N, D) float32 of the N places.
    """
    parts: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(places), CHUNK):
            here = places[first : first + CHUNK]
            full = np.zeros((CHUNK, *spec.stored_shape), np.uint8)
            full[: len(here)] = stored(here)
            images = spec.network_input(torch.from_numpy(full))
            embeddings: Tensor = encoder(images)
            if flip_average:
                embeddings = (embeddings + encoder(images.flip(-1))) / 2
            parts.append(embeddings[: len(here)].clone())
    return torch.cat(parts)
