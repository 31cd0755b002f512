"""What is known of a start before it is studied: where its weights come from, what they cost, whom they know."""

import hashlib
from pathlib import Path

import yaml

from medtl.encoders.store import RANDOM_START, Start
from medtl.errors import EncoderError
from medtl.evaluation.study.results import StartInfo
from medtl.files import BUNDLE, read_json
from medtl.training.runs import CONFIG

WEIGHTS = ("encoder.safetensors", "model.safetensors")


def describe(name: str, start: Start, *, fingerprint: str) -> StartInfo:
    """A start for the page.

    Args:
        fingerprint: of the dataset that is studied.
    """
    return StartInfo(
        name=name,
        origin=start.origin,
        learned=" > ".join(start.history) or RANDOM_START,
        network=start.encoder.name,
        input_px=start.spec.input_px or start.encoder.input_px,
        pretraining_minutes=minutes_of(start.origin),
        caveats=tuple(_caveats(name, Path(start.origin), fingerprint)),
    )


def weights_digest(origin: str) -> str:
    """Changes with the weights of a folder or file, so that a study is not continued with others."""
    path = Path(origin)
    file = next((path / name for name in WEIGHTS if (path / name).is_file()), path)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else origin


def minutes_of(origin: str) -> float | None:
    """What learning took: of a run with those that it went on from, as far as their folders are there; else None."""
    if origin in ("random", "imagenet"):
        return 0.0
    path = Path(origin)
    if (path / BUNDLE).is_file():
        return _number(read_json(path / BUNDLE, error=EncoderError).get("training", {}).get("minutes"))
    if not (path / "encoder.json").is_file():
        return None
    own = _number(read_json(path / "encoder.json", error=EncoderError).get("minutes"))
    config = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8")) if (path / CONFIG).is_file() else {}
    before = minutes_of(str(config.get("from", "random")))
    return None if own is None or before is None else own + before


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _caveats(name: str, path: Path, fingerprint: str) -> list[str]:
    if (path / BUNDLE).is_file():
        learned = read_json(path / BUNDLE, error=EncoderError).get("training", {}).get("dataset")
        if learned == fingerprint:
            return [
                f"{name}: is a bundle that has learned from labels of this very dataset, many more perhaps than the "
                "study gives it. Its gain is not that of pretraining without labels."
            ]
    elif (path / "encoder.json").is_file():
        learned = read_json(path / "encoder.json", error=EncoderError).get("dataset")
        if learned == fingerprint:
            return []
    else:
        return []
    return [
        f"{name}: has learned from another dataset, or from this one before it was changed. If scans of this test part "
        "were among those, the numbers flatter it."
    ]
