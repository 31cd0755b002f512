"""Views by modality: what may differ between two looks at one scan, and what may not.

Left and right change places only where both are the same finding: breasts come in pairs that mirror each other, an
ultrasound probe and a slide have no side. A chest film, a CT and an MR have one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from medtl.config import closest
from medtl.errors import ConfigError
from medtl.pretraining.views_config import ViewsConfig

GENTLE = ViewsConfig(
    preset="gentle", crop_area=(0.7, 1.0), crop_aspect=1.1, rotation_deg=10.0, elastic=0.0, brightness=0.1,
    contrast=0.2, gamma=0.2, blur_px=0.0, noise=0.02, keep_scale=True,
)  # fmt: skip
"""For fine-tuning: the label must stay true."""

PRESETS: Mapping[str, ViewsConfig] = {
    "other": ViewsConfig(preset="other"),
    # Exposure varies, and falls off from one side to the other (heel effect).
    "radiograph": ViewsConfig(preset="radiograph", bias_field=0.1),
    # Calcifications are a few pixels wide: little blur and noise.
    "mammography": ViewsConfig(preset="mammography", crop_area=(0.4, 1.0), flip=0.5, blur_px=0.5, noise=0.02),
    # Hounsfield units are calibrated: what varies is the window.
    "ct": ViewsConfig(preset="ct", window=0.2, gamma=0.1, contrast=0.1, brightness=0.05),
    # Units are arbitrary, and coils shade.
    "mr": ViewsConfig(preset="mr", bias_field=0.3, brightness=0.1),
    # Gain and attenuation vary with depth; the probe may be held the other way round.
    "ultrasound": ViewsConfig(preset="ultrasound", crop_area=(0.4, 1.0), flip=0.5, bias_field=0.2, elastic=0.01),
    "microscopy": ViewsConfig(preset="microscopy", flip=0.5, rotation_deg=45.0),
    "gentle": GENTLE,
}
BY_MODALITY = {
    "DX": "radiograph", "CR": "radiograph", "RF": "radiograph", "RG": "radiograph", "XA": "radiograph",
    "PX": "radiograph", "IO": "radiograph", "MG": "mammography", "CT": "ct", "MR": "mr", "US": "ultrasound",
    "SM": "microscopy", "GM": "microscopy",
}  # fmt: skip
"""DICOM PS3.3 C.7.3.1.1.1 (Modality); all others are "other"."""


VOLUME_AREA = 0.5
"""Crops of volumes show at least this share of each plane, 35 % of the volume; 30 % would be a sixth of it."""


def settled(config: ViewsConfig, base: ViewsConfig, *, dims: int) -> ViewsConfig:
    """A complete config: what `config` says itself, else its preset's, else that of `base`.

    Args:
        dims: 2 for images, 3 for volumes.

    Raises:
        ConfigError: no preset of that name.
    """
    if config.preset is not None:
        if config.preset not in PRESETS:
            raise ConfigError(f"views.preset: unknown preset '{config.preset}'{closest(config.preset, list(PRESETS))}")
        base = PRESETS[config.preset]
    if dims == 3:
        low, high = base.crop_area
        base = base.model_copy(update={"crop_area": (max(low, VOLUME_AREA), high)})
    said = {name: getattr(config, name) for name in config.model_fields_set if name != "preset"}
    # Built anew, so that every field counts as said: read back from config.yaml it stays what it is.
    return ViewsConfig(**(base.model_dump() | said))


def gentle_for(modalities: Iterable[Any]) -> ViewsConfig:
    """`GENTLE`, mirrored where the scans' own preset is: see `preset_for`."""
    return GENTLE.model_copy(update={"flip": preset_for(modalities)[0].flip})


def preset_for(modalities: Iterable[Any]) -> tuple[ViewsConfig, str]:
    """The preset that suits the scans, and why in a few words.

    That of most scans where it has the majority; it flips only where all scans are of its kind.

    Args:
        modalities: of each scan, as its DICOM header says; None or NA where it is not known.
    """
    known = pd.Series(list(modalities), dtype="string")
    kinds = known.str.strip().str.upper().map(lambda name: BY_MODALITY.get(name, "other"), na_action="ignore")
    total, counts = len(kinds), kinds.value_counts()
    if not len(counts):
        return PRESETS["other"], "the scans do not say their modality"
    name, count = str(counts.index[0]), int(counts.iloc[0])
    if 2 * count <= total:
        return PRESETS["other"], f"no modality has a majority among {total:,} scans"
    of = ", ".join(sorted(known[kinds == name].str.upper().unique()))
    why = f"{count:,} of {total:,} scans are {of}"
    base = PRESETS[name]
    if base.flip and count < total:
        return base.model_copy(update={"flip": 0.0}), f"{why}; not flipped, as the others may not be"
    return base, why
