"""Encoders on disk, and the ways to start: random weights, ImageNet, a run, a bundle, a checkpoint of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from medtl.config import build, nearest
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.table import IMAGENET_ENCODER, Encoder, build_encoder, default_network, default_px, find
from medtl.errors import EncoderError
from medtl.files import BUNDLE, atomic_file, read_json, write_json

BEST = "best"
"""In the folder of a run that goes on: the encoder of its best check so far, or of its last good one."""
RANDOM_START = "random weights"
"""What a bundle says of a start that had learned nothing."""
SUPERVISED = "supervised on"
"""How a history's entry begins that tells of labeled scans."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """An encoder ready to be trained on, and where its weights come from.

    Args:
        encoder: the network with its weights.
        spec: the preprocessing it expects.
        origin: "random", "imagenet", or the folder or file.
        history: what the weights have learned from so far, oldest first; empty for random weights.
    """

    encoder: Encoder
    spec: PreprocessSpec
    origin: str
    history: tuple[str, ...]

    @property
    def pretrained(self) -> bool:
        """Whether the weights have learned anything yet."""
        return bool(self.history)

    @property
    def own(self) -> bool:
        """Whether they have learned from scans in medtl, and not only elsewhere."""
        return self.pretrained and not learned_elsewhere(self.origin)


def default_start(*, dims: int, network: str | None, input_px: int | None) -> str:
    """The start that is taken when nobody chooses: ImageNet, unless a network or an input side is asked for that its
    encoder does not have."""
    suits = network in (None, IMAGENET_ENCODER) and (
        input_px is None or input_px >= find(IMAGENET_ENCODER).least_px(dims)
    )
    return "imagenet" if suits else "random"


def learned_elsewhere(origin: str | Path) -> bool:
    """Whether an origin's weights come from ImageNet or from others' files: from pictures unlike the user's scans."""
    return str(origin) == "imagenet" or Path(origin).is_file()


def start_from(
    origin: str | Path,
    *,
    spec: PreprocessSpec,
    network: str | None = None,
    input_px: int | None = None,
    enlarge: bool = False,
) -> Start:
    """Build the encoder that training starts from.

    Args:
        origin: "random", "imagenet", the folder of a pretraining run or of a bundle, or a file with a ResNet's weights.
        spec: the dataset's preprocessing.
        network: a name of the encoder table; ImageNet has one, folders and files bring their own.
        input_px: the network's input side in pixels; None takes the encoder's default, of a run or bundle its own.
        enlarge: let a run's encoder see images at the network's default side where it learned at a smaller one: what
            was learned on small pictures tells more from larger ones (Touvron 2019, arXiv 1906.06423).

    Raises:
        EncoderError: an unknown origin, or a network, resolution or dataset that does not fit the origin.
    """
    if str(origin) == "random":
        name = network or default_network(spec.dims)
        side = input_px or default_px(name, size_px=spec.size_px, dims=spec.dims)
        encoder = build_encoder(name, input_px=side, dims=spec.dims, channels=spec.channels)
        return Start(encoder=encoder, spec=spec.at(side), origin="random", history=())
    if str(origin) == "imagenet":
        from medtl.encoders.lite0 import imagenet_weights

        if network not in (None, IMAGENET_ENCODER):
            raise EncoderError(
                f"ImageNet weights are at hand for {IMAGENET_ENCODER} only, not for {network}; "
                "leave the network out, or start from random"
            )
        side = input_px or default_px(IMAGENET_ENCODER, size_px=spec.size_px, dims=spec.dims)
        encoder = build_encoder(IMAGENET_ENCODER, input_px=side, dims=spec.dims, channels=spec.channels)
        # What goes along depth begins as a mean, and has no weights of images.
        encoder.net.load_state_dict(encoder.net.state_dict() | imagenet_weights(in_channels=spec.channels))
        return Start(encoder=encoder, spec=spec.at(side), origin="imagenet", history=("ImageNet",))
    path = Path(origin)
    if path.is_file():
        return _from_file(path, spec=spec, network=network, input_px=input_px)
    if (path / BUNDLE).is_file():
        return _from_folder(path, *_load_bundle(path), spec=spec, network=network, input_px=input_px)
    encoder, run_spec, about = load_encoder(path)
    if enlarge and spec.dims == 2 and input_px is None:
        learned_at = run_spec.input_px or encoder.input_px
        input_px = max(learned_at, default_px(encoder.name, size_px=spec.size_px))
    return _from_folder(path, encoder, run_spec, about["history"], spec=spec, network=network, input_px=input_px)


def _from_file(path: Path, *, spec: PreprocessSpec, network: str | None, input_px: int | None) -> Start:
    from medtl.encoders.foreign import MEANT_PX, read_checkpoint

    found = read_checkpoint(path)
    _check_network(path, found.network, network)
    side = input_px or default_px(found.network, size_px=spec.size_px, dims=spec.dims)
    # Whatever the scans' side, the stem is the one that the weights were learned with.
    encoder = build_encoder(found.network, input_px=MEANT_PX, dims=spec.dims, channels=spec.channels)
    encoder.net.load_state_dict(found.state(channels=spec.channels, dims=spec.dims))
    return Start(encoder=encoder, spec=spec.at(side), origin=str(path), history=(found.origin,))


def _from_folder(
    folder: Path,
    encoder: Encoder,
    learned: PreprocessSpec,
    history: Sequence[str],
    *,
    spec: PreprocessSpec,
    network: str | None,
    input_px: int | None,
) -> Start:
    """The encoder of a run or bundle, if it suits the dataset."""
    _check_network(folder, encoder.name, network)
    if learned.dims != spec.dims:
        before, now = ("volumes", "images") if learned.dims == 3 else ("images", "volumes")
        raise EncoderError(f"{folder}: learned from {before}, this dataset keeps {now}; pretrain on this dataset")
    if not learned.same_storage(spec):
        raise EncoderError(
            f"{folder}: learned from {_words(learned)}, this dataset keeps {_words(spec)}; "
            f"ingest again with {_options(learned, instead_of=spec)}, or pretrain on this dataset"
        )
    side = input_px or learned.input_px or encoder.input_px
    return Start(encoder=encoder, spec=spec.at(side), origin=str(folder), history=tuple(history))


def _check_network(path: Path, found: str, asked: str | None) -> None:
    if asked not in (None, found):
        raise EncoderError(f"{path}: holds a {found}, not a {asked}; leave the network out")


def _words(spec: PreprocessSpec) -> str:
    """What is stored: `scans of 64 px`, `scans of 64 px, 1 mm each, windows lung, bone`."""
    each = f", {spec.spacing_mm:g} mm each" if spec.spacing_mm else ""
    colour = " in colour" if spec.colour else ""
    windows = f", windows {', '.join(spec.window)}" if spec.window else ""
    return f"scans of {spec.size_px} px{each}{windows}{colour}"


def _options(spec: PreprocessSpec, *, instead_of: PreprocessSpec) -> str:
    """The options of `medtl ingest` that store scans so."""
    spacing = f" --spacing-mm {spec.spacing_mm:g}" if spec.spacing_mm else ""
    return f"--size-px {spec.size_px}{spacing}{spec.more_options(instead_of)}"


def save_encoder(folder: Path, encoder: Encoder, *, spec: PreprocessSpec, about: dict[str, Any]) -> None:
    """Write `encoder.safetensors`, then `encoder.json`; the latter says that the former is complete."""
    weights = {key: value.contiguous() for key, value in encoder.net.state_dict().items()}
    with atomic_file(folder / "encoder.safetensors") as temporary:
        temporary.write_bytes(save(weights))
    content = {
        "network": encoder.name,
        "input_px": encoder.input_px,
        "embedding_dim": encoder.embedding_dim,
        "preprocess": spec.model_dump(mode="json"),
    }
    write_json(folder / "encoder.json", content | about)


def load_encoder(folder: Path) -> tuple[Encoder, PreprocessSpec, dict[str, Any]]:
    """Read an encoder that `save_encoder` wrote.

    Raises:
        EncoderError: no encoder in the folder, an unfinished run, or damaged weights.
    """
    if not folder.is_dir():
        near = nearest(str(folder), ["random", "imagenet"])
        raise EncoderError(
            f"{folder}: no such folder or file; "
            + (f"did you mean '{near}'? If not, " if near else "")
            + "expected 'random', 'imagenet', the folder of a run or of a bundle, or a ResNet checkpoint "
            "(.safetensors, .pth or .pt)"
        )
    if not (folder / "encoder.json").is_file():
        if (folder / "config.yaml").is_file():
            best = folder / BEST
            raise EncoderError(
                f"{folder}: this run has not finished; go on with medtl pretrain --resume"
                + (f", or take {best}, its encoder so far" if (best / "encoder.json").is_file() else "")
            )
        raise EncoderError(f"{folder}: holds no encoder.json; expected the folder that medtl pretrain or finetune left")
    about = read_json(folder / "encoder.json", error=EncoderError)
    try:
        network, side = about.pop("network"), about.pop("input_px")
        spec = build(PreprocessSpec, about.pop("preprocess"), source=str(folder / "encoder.json"))
    except KeyError as missing:
        raise EncoderError(f"{folder / 'encoder.json'}: lacks {missing}; the run is damaged") from None
    encoder = build_encoder(network, input_px=side, dims=spec.dims, channels=spec.channels)
    load_weights(encoder.net, folder / "encoder.safetensors", error=EncoderError)
    return encoder, spec, about


def _load_bundle(folder: Path) -> tuple[Encoder, PreprocessSpec, list[str]]:
    """The encoder of a bundle, its preprocessing, and what it has learned from."""
    marker = folder / BUNDLE
    about = read_json(marker, error=EncoderError)
    try:
        training, (network, side) = about["training"], (about["network"], about["input_px"])
        spec = build(PreprocessSpec, about["spec"], source=str(marker))
        before = [] if training["start"] == RANDOM_START else training["start"].split(" > ")
        learned = f"{SUPERVISED} {training['labeled_scans']:,} scans ({training['labels']})"
    except (KeyError, TypeError) as missing:
        raise EncoderError(f"{marker}: lacks {missing}; the bundle is damaged") from None
    encoder = build_encoder(network, input_px=side, dims=spec.dims, channels=spec.channels)
    load_weights(encoder, folder / "model.safetensors", error=EncoderError, below="encoder.")
    return encoder, spec, [*before, learned]


def load_weights(
    module: Any, path: Path, *, error: type[EncoderError] | type[Exception], below: str | None = None
) -> None:
    """Load a safetensors file into a module, every key of it, or every key that starts with `below`, without that.

    Raises:
        error: the file is missing, damaged, or belongs to another network.
    """
    try:
        weights = load_file(path)
        if below is not None:
            weights = {key.removeprefix(below): w for key, w in weights.items() if key.startswith(below)}
        module.load_state_dict(weights)
    except FileNotFoundError:
        raise error(f"{path}: no such file; the folder is incomplete, make it again") from None
    except (SafetensorError, OSError) as problem:
        raise error(f"{path}: is damaged ({problem}); make it again") from None
    except RuntimeError:
        raise error(
            f"{path}: its weights belong to another network than the folder names, or to that of an earlier medtl; "
            "make it again"
        ) from None
