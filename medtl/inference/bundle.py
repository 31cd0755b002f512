"""The bundle: everything a detector needs, in one folder that can be moved anywhere."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from medtl import __version__
from medtl.config import build
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.store import BUNDLE, load_weights
from medtl.encoders.table import Encoder, build_encoder
from medtl.errors import BundleError, EncoderError
from medtl.evaluation.conformal import Band
from medtl.evaluation.observed import Observed
from medtl.files import atomic_folder, read_json, write_json
from medtl.inference.card import render_card
from medtl.inference.reference import NAME as REFERENCE
from medtl.inference.reference import Bytes, write_reference

MARKER = BUNDLE
INTENDED_USE = "Research use only. Not a medical device; not for diagnosis without a physician's own reading."


class Classifier(nn.Module):
    """An encoder with a linear head: (B, C, H, W) or (B, C, D, H, W) -> logits (B, F)."""

    def __init__(self, encoder: Encoder, n_findings: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.embedding_dim, n_findings)

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
        bands: where the answer stays open, by finding; a finding with too few scans to tell has none.
        observed: what scans of like probability turned out to be, by finding; none where too few are known.
        population: what the headers of the training scans say, see `medtl.inference.population`.
        bundle_id: digest of weights and settings; set when written.
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
    bundle_id: str = ""


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
        patients: (N,) whose they are; see `write_reference`.
        thumbnails: (N, 96, 96) their pictures; None keeps none.

    Returns:
        The bundle with its id.
    """
    with atomic_folder(folder, marker=MARKER) as temporary:
        weights = {key: value.cpu().contiguous() for key, value in classifier.state_dict().items()}
        (temporary / "model.safetensors").write_bytes(save(weights))
        write_reference(
            temporary,
            embeddings=embeddings.float().numpy(),
            labels=labels.float().numpy(),
            scan_ids=scan_ids,
            patients=patients,
            thumbnails=thumbnails,
        )
        settings = asdict(bundle) | {"spec": bundle.spec.model_dump(mode="json")}
        digest = hashlib.sha256((temporary / "model.safetensors").read_bytes())
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
    if not path.is_dir():
        raise BundleError(f"{path}: no such folder; expected a bundle that medtl finetune left")
    if not (path / MARKER).is_file():
        raise BundleError(f"{path}: holds no {MARKER}; expected a bundle that medtl finetune left")
    bundle, digest = _read_settings(path)
    for name in ("model.safetensors", REFERENCE):
        if not (path / name).is_file():
            raise BundleError(f"{path}: {name} is missing; copy the whole folder again, or fine-tune again")
    try:
        encoder = build_encoder(
            bundle.network, input_px=bundle.input_px, dims=bundle.spec.dims, channels=bundle.spec.channels
        )
    except EncoderError as problem:
        raise BundleError(f"{path / MARKER}: {problem}") from None
    classifier = Classifier(encoder, len(bundle.findings))
    load_weights(classifier, path / "model.safetensors", error=BundleError)
    digest_now = hashlib.sha256((path / "model.safetensors").read_bytes())
    digest_now.update(digest)
    if digest_now.hexdigest()[:12] != bundle.bundle_id:
        raise BundleError(f"{path}: weights or settings were changed after training; copy the bundle again")
    return bundle, classifier.eval()


def _read_settings(folder: Path) -> tuple[Bundle, bytes]:
    """The bundle and the bytes of its settings that its id was made from."""
    settings = read_json(folder / MARKER, error=BundleError)
    for software in ("medtl", "torch"):
        settings.pop(software, None)
    signed = json.dumps({k: v for k, v in settings.items() if k != "bundle_id"}, sort_keys=True).encode()
    try:
        settings["spec"] = build(PreprocessSpec, settings["spec"], source=str(folder / MARKER))
        settings["findings"] = tuple(settings["findings"])
        settings["bands"] = {name: Band(**band) for name, band in settings.get("bands", {}).items()}
        settings["observed"] = {
            name: tuple(Observed(**group) for group in groups) for name, groups in settings.get("observed", {}).items()
        }
        return Bundle(**settings), signed
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BundleError(f"{folder / MARKER}: is damaged ({problem}); copy the bundle again") from None
