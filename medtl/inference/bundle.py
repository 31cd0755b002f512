"""The bundle: everything a detector needs, in one folder that can be moved anywhere."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medtl import __version__
from medtl.config import build
from medtl.data.preprocess import PreprocessSpec
from medtl.data.tasks import MAIN, Task
from medtl.encoders.store import BUNDLE, load_weights
from medtl.encoders.table import Encoder, build_encoder
from medtl.errors import BundleError, EncoderError
from medtl.files import atomic_folder, read_json, write_json
from medtl.inference.card import render_card

MARKER = BUNDLE
WEIGHTS, REFERENCE = "model.safetensors", "reference.safetensors"
INTENDED_USE = "Research use only. Not a medical device; not for diagnosis without a physician's own reading."


class Heads(nn.ModuleList):
    """Linear heads side by side: embeddings (B, D) -> logits (B, F), the outputs of each in turn."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return torch.cat([head(embeddings) for head in self], dim=1)


class Classifier(nn.Module):
    """An encoder with a linear head for each task: (B, C, H, W) or (B, C, D, H, W) -> logits (B, F).

    Args:
        encoder: what all heads share.
        n_findings: how many outputs each head has.
    """

    def __init__(self, encoder: Encoder, *n_findings: int) -> None:
        super().__init__()
        self.encoder = encoder
        heads = [nn.Linear(encoder.embedding_dim, count) for count in n_findings]
        self.head: nn.Linear | Heads = heads[0] if len(heads) == 1 else Heads(heads)

    @property
    def heads(self) -> list[nn.Linear]:
        """The head of each task."""
        return [self.head] if isinstance(self.head, nn.Linear) else list(self.head)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))
        return logits


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What `bundle.json` says.

    Args:
        name: the name it was given, its folder's at the time of training.
        findings: what is detected, in the order of the network's outputs.
        exclusive: whether exactly one finding holds for each scan (softmax), or each for itself (sigmoid).
        thresholds: the operating point of each finding, a probability.
        temperatures: logits are divided by these, one a finding (Guo 2017, arXiv 1706.04599, sec. 4.2).
        flip_average: whether logits are the mean over the scan and its mirror image.
        spec: preprocessing.
        network, input_px: the encoder, a row of the encoder table.
        training: what it was trained on and how, for people.
        calibration: how temperature and threshold were chosen, in words.
        tasks: the findings by tasks, each with a head of the network; without any, all of them are one task.
        caveats: what must be known of a finding, a sentence each; none of most.
        bundle_id: digest of weights and settings; set when written.

    Raises:
        BundleError: the tasks are not those of the findings.
    """

    name: str
    findings: tuple[str, ...]
    exclusive: bool
    thresholds: dict[str, float]
    temperatures: dict[str, float]
    flip_average: bool
    spec: PreprocessSpec
    network: str
    input_px: int
    training: dict[str, Any]
    calibration: str
    intended_use: str = INTENDED_USE
    tasks: tuple[Task, ...] = ()
    caveats: dict[str, list[str]] = field(default_factory=dict)
    bundle_id: str = ""

    def __post_init__(self) -> None:
        if not self.tasks:
            whole = Task(name=MAIN, findings=self.findings, exclusive=self.exclusive)
            object.__setattr__(self, "tasks", (whole,))
        alone = len(self.tasks) == 1 and self.tasks[0].exclusive
        if tuple(name for task in self.tasks for name in task.findings) != self.findings or self.exclusive != alone:
            raise BundleError(f"{self.name}: its tasks are not those of its findings; the bundle is damaged")


def write_bundle(
    folder: Path,
    bundle: Bundle,
    classifier: Classifier,
    *,
    embeddings: Tensor,
    labels: Tensor,
    scan_ids: list[str],
) -> Bundle:
    """Write a bundle in place of what `folder` held.

    Args:
        embeddings: (N, D) of the labeled scans that it was trained on, for trust and similar cases.
        labels: (N, F) their labels, NaN is unknown.
        scan_ids: (N,) their names.

    Returns:
        The bundle with its id.
    """
    reference = Reference(embeddings=embeddings, labels=labels, scan_ids=tuple(scan_ids))
    return write_weights(folder, bundle, classifier.state_dict(), reference)


def write_weights(folder: Path, bundle: Bundle, weights: Mapping[str, Tensor], reference: "Reference") -> Bundle:
    """The same from the classifier's weights, without a network.

    Returns:
        The bundle with its id.
    """
    with atomic_folder(folder, marker=MARKER) as temporary:
        kept = {key: value.cpu().contiguous() for key, value in weights.items()}
        (temporary / WEIGHTS).write_bytes(save(kept))
        tensors = {
            "embeddings": reference.embeddings.half().contiguous(),
            "labels": reference.labels.float().contiguous(),
        }
        names = {"scan_ids": json.dumps(reference.scan_ids)}
        (temporary / REFERENCE).write_bytes(save(tensors, names))
        settings = asdict(bundle) | {"spec": bundle.spec.model_dump(mode="json")}
        digest = hashlib.sha256((temporary / WEIGHTS).read_bytes())
        digest.update(json.dumps({k: v for k, v in settings.items() if k != "bundle_id"}, sort_keys=True).encode())
        settings["bundle_id"] = digest.hexdigest()[:12]
        write_json(temporary / MARKER, settings | {"medtl": __version__, "torch": torch.__version__})
        written, _ = _read_settings(temporary)
        (temporary / "card.md").write_text(render_card(written), encoding="utf-8")
    return written


def read_bundle(folder: str | Path) -> tuple[Bundle, Classifier]:
    """Read a bundle and its network, in evaluation mode.

    Raises:
        BundleError: the folder is missing, incomplete, damaged or of another format.
    """
    path = Path(folder)
    bundle, signed = _open(path)
    classifier = Classifier(_encoder(path, bundle), *(len(task.findings) for task in bundle.tasks))
    load_weights(classifier, path / WEIGHTS, error=BundleError)
    _check_signature(path, bundle, signed)
    return bundle, classifier.eval()


def read_weights(folder: str | Path) -> tuple[Bundle, dict[str, Tensor]]:
    """Read a bundle and the weights of its classifier, without building the network, which takes longer.

    Raises:
        BundleError: as `read_bundle`.
    """
    path = Path(folder)
    bundle, signed = _open(path)
    try:
        weights = load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as problem:
        raise BundleError(f"{path / WEIGHTS}: is damaged ({problem}); copy the bundle again") from None
    _check_signature(path, bundle, signed)
    return bundle, weights


def encoder_of(folder: str | Path, bundle: Bundle) -> Encoder:
    """The encoder of a bundle alone, in evaluation mode.

    Raises:
        BundleError: its network is unknown, or its weights are damaged.
    """
    encoder = _encoder(Path(folder), bundle)
    load_weights(encoder, Path(folder) / WEIGHTS, error=BundleError, below="encoder.")
    return encoder.eval()


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The labeled scans that a detector was trained on.

    Args:
        embeddings: (N, D).
        labels: (N, F) of 0, 1 or NaN.
        scan_ids: their N names.
    """

    embeddings: Tensor
    labels: Tensor
    scan_ids: tuple[str, ...]


def read_reference(folder: Path) -> Reference:
    """What a bundle keeps of its training scans.

    Raises:
        BundleError: the file is missing or damaged.
    """
    try:
        with safe_open(folder / REFERENCE, "pt") as file:
            names = tuple(json.loads(file.metadata()["scan_ids"]))
            embeddings, labels = file.get_tensor("embeddings").float(), file.get_tensor("labels")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
        raise BundleError(f"{folder / 'reference.safetensors'}: cannot be read ({problem}); copy it again") from None
    return Reference(embeddings=embeddings, labels=labels, scan_ids=names)


def _open(folder: Path) -> tuple[Bundle, bytes]:
    """A bundle whose files are all there, and the bytes of its settings that its id was made from."""
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; expected a bundle that medtl finetune left")
    if not (folder / MARKER).is_file():
        raise BundleError(f"{folder}: holds no {MARKER}; expected a bundle that medtl finetune left")
    opened = _read_settings(folder)
    for name in (WEIGHTS, REFERENCE):
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the whole folder again, or fine-tune again")
    return opened


def _encoder(folder: Path, bundle: Bundle) -> Encoder:
    """The network of a bundle's encoder, with random weights."""
    spec = bundle.spec
    try:
        return build_encoder(bundle.network, input_px=bundle.input_px, dims=spec.dims, channels=spec.channels)
    except EncoderError as problem:
        raise BundleError(f"{folder / MARKER}: {problem}") from None


def _check_signature(folder: Path, bundle: Bundle, signed: bytes) -> None:
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes())
    digest.update(signed)
    if digest.hexdigest()[:12] != bundle.bundle_id:
        raise BundleError(f"{folder}: weights or settings were changed after training; copy the bundle again")


def _read_settings(folder: Path) -> tuple[Bundle, bytes]:
    """The bundle and the bytes of its settings that its id was made from."""
    settings = read_json(folder / MARKER, error=BundleError)
    for software in ("medtl", "torch"):
        settings.pop(software, None)
    signed = json.dumps({k: v for k, v in settings.items() if k != "bundle_id"}, sort_keys=True).encode()
    try:
        settings["spec"] = build(PreprocessSpec, settings["spec"], source=str(folder / MARKER))
        settings["findings"] = tuple(settings["findings"])
        tasks = settings.pop("tasks", ())  # bundles of medtl 0.1 have one
        settings["tasks"] = tuple(Task(**task | {"findings": tuple(task["findings"])}) for task in tasks)
        return Bundle(**settings), signed
    except (KeyError, TypeError) as problem:
        raise BundleError(f"{folder / MARKER}: is damaged ({problem}); copy the bundle again") from None
