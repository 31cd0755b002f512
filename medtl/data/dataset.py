"""The dataset folder, open: what pretraining, fine-tuning and evaluation read."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from medtl.config import build
from medtl.data.label_rows import LabelFiles, files_of
from medtl.data.labels import LabelTable, join_labels
from medtl.data.manifest import read_manifest, read_rejects
from medtl.data.preprocess import PreprocessSpec
from medtl.data.shards import ShardReader
from medtl.errors import DatasetError, LabelError
from medtl.files import DATASET, check_dataset, read_json

MARKER = DATASET
DEFAULT_SIZE_PX = 256


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An open dataset folder. Make one with `medtl.open_dataset` or `medtl.ingest`.

    Args:
        folder: where it is.
        spec: how its scans were preprocessed.
        manifest: a row for each scan; its columns are those of `medtl.data.manifest`.
        fingerprint: digest of the scans, their patients and parts, and the spec.
        seed: of the split.
    """

    folder: Path
    spec: PreprocessSpec
    manifest: pd.DataFrame
    fingerprint: str
    seed: int
    _shards: ShardReader = field(repr=False)

    def __len__(self) -> int:
        return len(self.manifest)

    def pixels(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Stored blocks (B, *spec.stored_shape) of manifest rows (B,), in any order."""
        return self._shards.read(np.asarray(rows, np.int64))

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        """(N,) the patient of each row of the manifest."""
        return self.manifest["patient_id"].to_numpy(dtype=str)

    def grey(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The same as one channel (B, 1, ...): luminance, or the first window."""
        return self.spec.grey(self.pixels(rows))

    def labels(self, csv: LabelFiles = None) -> LabelTable:
        """The labels in a file or several, of which a later one corrects the earlier, or those in the dataset.

        Raises:
            DatasetError: no file is named and the dataset came without labels.
            LabelError: a file cannot be used; names the row.
        """
        own = self.folder / "labels.csv"
        files = files_of(csv)
        if not files and not own.is_file():
            raise DatasetError(f"{self.folder}: was ingested without labels; name a labels file with --labels")
        if own.is_file() and (gone := [file for file in files if not file.exists()]):
            raise LabelError(f"{gone[0]}: no such file; the labels that the scans came with are in {own}")
        return join_labels(files or [own], self.manifest, read_rejects(self.folder))

    def check_storage(self, spec: PreprocessSpec) -> None:
        """Make sure that a network with `spec` can read this dataset.

        Raises:
            DatasetError: scans are stored otherwise than the network's.
        """
        if not self.spec.same_storage(spec):
            raise DatasetError(
                f"{self.folder}: stores {self.spec.words()}, the network was made for {spec.words()}; "
                f"ingest the scans again with {spec.options(instead_of=self.spec)}"
            )


def open_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder; pixels stay on disk until asked for.

    Raises:
        DatasetError: not a dataset, damaged, or of another format.
    """
    path = check_dataset(Path(folder))
    content = read_json(path / MARKER, error=DatasetError)
    try:
        spec = build(PreprocessSpec, content["spec"], source=str(path / MARKER))
        count, fingerprint = int(content["counts"]["scans"]), str(content["fingerprint"])
        seed = int(content["seed"])
    except (KeyError, TypeError, ValueError):
        raise DatasetError(f"{path / MARKER}: lacks what every dataset has; ingest the scans again") from None
    manifest = read_manifest(path)
    if len(manifest) != count:
        raise DatasetError(
            f"{path}: manifest.parquet has {len(manifest):,} rows, dataset.json says {count:,}; "
            "the folder is damaged: ingest the scans again"
        )
    shards = ShardReader(path, count=count, shape=spec.stored_shape)
    return Dataset(folder=path, spec=spec, manifest=manifest, fingerprint=fingerprint, seed=seed, _shards=shards)
