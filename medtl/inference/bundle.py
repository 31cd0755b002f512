"""The bundle: everything a detector needs, in one folder that can be moved anywhere."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medtl import __version__
from medtl.config import build
from medtl.data.preprocess import PreprocessSpec
from medtl.data.tasks import MAIN, Task
from medtl.encoders.store import load_weights
from medtl.encoders.table import Encoder, build_encoder
from medtl.errors import BundleError, EncoderError
from medtl.evaluation.conformal import Band
from medtl.evaluation.observed import Observed
from medtl.files import BUNDLE, atomic_folder, check_bundle, read_json, write_json
from medtl.inference.card import render_card
from medtl.inference.reference import NAME as REFERENCE
from medtl.inference.reference import Bytes, Reference, reference_of, write_reference

MARKER = BUNDLE
WEIGHTS = "model.safetensors"
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
        network, input_px: the encoder: a row of the encoder table, and the side that it was built for, which decides
            its stem. It may see scans at another side, `seen_px`.
        training: what it was trained on and how, for people.
        calibration: how temperature and threshold were chosen, in words.
        tasks: the findings by tasks, each with a head of the network; without any, all of them are one task.
        caveats: what must be known of a finding, a sentence each; none of most.
        bands: where the answer stays open, by finding; a finding with too few scans to tell has none.
        observed: what scans of like probability turned out to be, by finding; none where too few are known.
        population: what the headers of the training scans say, see `medtl.inference.population`.
        levels: how much of what the heads read comes from each level of the encoder (`Encoder.widths`); none where they
            read the last one alone, as in earlier bundles.
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
    bands: dict[str, Band] = field(default_factory=dict)
    observed: dict[str, tuple[Observed, ...]] = field(default_factory=dict)
    population: dict[str, dict[str, int]] = field(default_factory=dict)
    intended_use: str = INTENDED_USE
    tasks: tuple[Task, ...] = ()
    caveats: dict[str, list[str]] = field(default_factory=dict)
    levels: tuple[int, ...] = ()
    bundle_id: str = ""

    @property
    def seen_px(self) -> int:
        """The side at which the network sees scans."""
        return self.spec.input_px or self.spec.size_px

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
    patients: Sequence[str] | None = None,
    thumbnails: Bytes | None = None,
) -> Bundle:
    """Write a bundle in place of what `folder` held.

    Args:
        embeddings: (N, D) of the labeled scans that it was trained on, for trust and similar cases.
        labels: (N, F) their labels, NaN is unknown.
        scan_ids: (N,) their names.
        patients: (N,) whose they are; see `reference_of`.
        thumbnails: (N, 96, 96) or in colour (N, 96, 96, 3) their pictures; None keeps none.

    Returns:
        The bundle with its id.
    """
    reference = reference_of(
        embeddings=embeddings.float().numpy(),
        labels=labels.float().numpy(),
        scan_ids=scan_ids,
        patients=patients,
        thumbnails=thumbnails,
        levels=bundle.levels,
    )
    return write_weights(folder, bundle, classifier.state_dict(), reference)


def write_weights(folder: Path, bundle: Bundle, weights: Mapping[str, Tensor], reference: Reference) -> Bundle:
    """The same from the classifier's weights, without a network.

    Returns:
        The bundle with its id.
    """
    with atomic_folder(folder, marker=MARKER) as temporary:
        kept = {key: value.cpu().contiguous() for key, value in weights.items()}
        (temporary / WEIGHTS).write_bytes(save(kept))
        write_reference(temporary, reference)
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


def _open(folder: Path) -> tuple[Bundle, bytes]:
    """A bundle whose files are all there, and the bytes of its settings that its id was made from."""
    opened = _read_settings(check_bundle(folder))
    for name in (WEIGHTS, REFERENCE):
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the whole folder again, or fine-tune again")
    return opened


def _encoder(folder: Path, bundle: Bundle) -> Encoder:
    """The network of a bundle's encoder, with random weights."""
    spec = bundle.spec
    try:
        encoder = build_encoder(bundle.network, input_px=bundle.input_px, dims=spec.dims, channels=spec.channels)
    except EncoderError as problem:
        raise BundleError(f"{folder / MARKER}: {problem}") from None
    encoder.multilevel = bool(bundle.levels)
    if bundle.levels not in ((), encoder.widths):
        raise BundleError(f"{folder / MARKER}: its levels are not those of {bundle.network}; the bundle is damaged")
    return encoder


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
        settings["levels"] = tuple(settings.get("levels", ()))
        tasks = settings.pop("tasks", ())  # bundles of medtl 0.1 have one
        settings["tasks"] = tuple(Task(**task | {"findings": tuple(task["findings"])}) for task in tasks)
        settings["bands"] = {name: Band(**band) for name, band in settings.get("bands", {}).items()}
        settings["observed"] = {
            name: tuple(Observed(**group) for group in groups) for name, groups in settings.get("observed", {}).items()
        }
        return Bundle(**settings), signed
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BundleError(f"{folder / MARKER}: is damaged ({problem}); copy the bundle again") from None
