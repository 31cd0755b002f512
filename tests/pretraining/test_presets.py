"""Which preset suits which scans, who may flip, and that a config read back stays what it was."""

import pandas as pd
import pytest
import yaml

from medtl.config import build, dump
from medtl.errors import ConfigError
from medtl.pretraining.presets import BY_MODALITY, GENTLE, PRESETS, gentle_for, preset_for, settled
from medtl.pretraining.views import ViewsConfig


@pytest.mark.parametrize(
    ("modality", "preset", "flips"),
    [
        ("DX", "radiograph", False), ("CR", "radiograph", False), ("RF", "radiograph", False),
        ("MG", "mammography", True),
        ("CT", "ct", False), ("MR", "mr", False), ("US", "ultrasound", True), ("SM", "microscopy", True),
        ("GM", "microscopy", True), ("XA", "radiograph", False), ("PT", "other", False), ("dx ", "radiograph", False),
        (None, "other", False), ("??", "other", False),
    ],
)  # fmt: skip
def test_each_modality(modality: str | None, preset: str, flips: bool) -> None:
    base, why = preset_for(pd.Series([modality] * 5, dtype="string"))
    assert (base.preset, base.flip > 0) == (preset, flips), why


@pytest.mark.parametrize(
    ("modalities", "preset", "flip", "why"),
    [
        (["DX"] * 3 + ["CR"] * 3 + ["CT"] * 4, "radiograph", 0.0, "6 of 10 scans are CR, DX"),
        (["CT"] * 5 + ["MR"] * 5, "other", 0.0, "no modality has a majority among 10 scans"),
        (["MG"] * 9 + ["DX"], "mammography", 0.0, "9 of 10 scans are MG; not flipped, as the others may not be"),
        (["MG"] * 9 + [None], "mammography", 0.0, "not flipped"),
        (["CT"] + [None] * 5, "other", 0.0, "no modality has a majority"),
        ([], "other", 0.0, "do not say their modality"),
    ],
)
def test_mixtures(modalities: list[str | None], preset: str, flip: float, why: str) -> None:
    base, said = preset_for(modalities)
    assert (base.preset, base.flip) == (preset, flip) and why in said


def test_left_and_right_change_places_only_where_they_may() -> None:
    assert {name for name, views in PRESETS.items() if views.flip} == {"mammography", "ultrasound", "microscopy"}
    assert set(BY_MODALITY.values()) <= set(PRESETS)
    assert all(views.preset == name for name, views in PRESETS.items())
    assert {name for name, views in PRESETS.items() if views.window} == {"ct"}
    assert min(views.crop_area[0] for views in PRESETS.values()) >= 0.3
    assert GENTLE.elastic == GENTLE.flip == GENTLE.window == GENTLE.bias_field == 0


@pytest.mark.parametrize(
    ("modalities", "flip"),
    [(["US"] * 3, 0.5), (["MG"] * 3, 0.5), (["SM"] * 3, 0.5), (["US", "US", None], 0.0), (["DX"] * 3, 0.0),
     (["CT"] * 3, 0.0), ([None] * 3, 0.0)],
)  # fmt: skip
def test_fine_tuning_mirrors_what_pretraining_mirrors(modalities: list[str | None], flip: float) -> None:
    assert gentle_for(modalities) == GENTLE.model_copy(update={"flip": flip})


def test_what_is_said_overrides_single_fields_of_the_preset() -> None:
    asked = ViewsConfig(preset="ct", noise=0.5)
    views = settled(asked, PRESETS["mr"], dims=2)
    assert views == PRESETS["ct"].model_copy(update={"noise": 0.5})
    assert settled(ViewsConfig(flip=0.25), PRESETS["mr"], dims=2).bias_field == PRESETS["mr"].bias_field
    assert settled(ViewsConfig(), GENTLE, dims=3) == GENTLE


def test_crops_of_volumes_are_larger_unless_said() -> None:
    assert settled(ViewsConfig(), PRESETS["mr"], dims=3).crop_area == (0.5, 1.0)
    assert settled(ViewsConfig(crop_area=(0.2, 0.4)), PRESETS["mr"], dims=3).crop_area == (0.2, 0.4)


def test_a_settled_config_is_complete_and_stays_what_it_is() -> None:
    first = settled(ViewsConfig(noise=0.1), PRESETS["ct"], dims=3)
    again = build(ViewsConfig, yaml.safe_load(dump(first)))
    assert settled(again, PRESETS["mr"], dims=3) == first == again


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigError, match=r"views.preset: unknown preset 'radiogram'; did you mean 'radiograph'\?"):
        settled(ViewsConfig(preset="radiogram"), GENTLE, dims=2)
