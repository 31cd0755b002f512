"""What the headers of a detector's training scans say, as counts, so that a scan of another kind is noticed."""

from collections.abc import Iterator

import pandas as pd

from medtl.data.nameless import OLDEST_YEARS
from medtl.data.scan import Header

FACTS = {"modality": "modality", "body_part": "body part", "view": "view", "scanner": "scanner"}
"""Columns of the manifest, and how a person calls them."""
AGE = "age_years"
YOUNGEST, OLDEST = "youngest", "oldest"


def population(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many scans have which value of each of `FACTS`, and between which ages they lie.

    Args:
        manifest: rows of the training scans. Ages above 90 are 90 there.

    Returns:
        Facts that no header states are left out.
    """
    found: dict[str, dict[str, int]] = {}
    for name in FACTS:
        values = _scanners(manifest) if name == "scanner" else manifest[name]
        counts = values.dropna().astype(str).value_counts(sort=False).sort_index()
        if len(counts):
            found[name] = {str(value): int(count) for value, count in counts.items()}
    ages = manifest[AGE].dropna()
    if len(ages):
        found[AGE] = {YOUNGEST: int(ages.min()), OLDEST: int(ages.max())}
    return found


def strangeness(header: Header, known: dict[str, dict[str, int]]) -> Iterator[tuple[str, str]]:
    """What a scan's header says that none of the training scans' headers says, as code and sentence.

    A fact that the header or all training scans leave open is no reason.
    """
    for name, word in FACTS.items():
        value = scanner(header.manufacturer, header.scanner) if name == "scanner" else getattr(header, name)
        seen = known.get(name, {})
        if value and seen and str(value) not in seen:
            usual = max(seen, key=lambda each: (seen[each], each))
            yield f"other_{name}", f"no training scan has the {word} {value}; most have {usual}"
    if header.age_years is not None and (ages := known.get(AGE)):
        years = min(header.age_years, OLDEST_YEARS)
        if not ages[YOUNGEST] <= int(years) <= ages[OLDEST]:
            aged = f"{ages[YOUNGEST]} to {ages[OLDEST]} years old"
            side = "younger" if int(years) < ages[YOUNGEST] else "older"
            yield "other_age", f"the patient is {side} than all patients of the training scans ({aged})"


def scanner(manufacturer: str | None, model: str | None) -> str | None:
    """Maker and model in one; None where neither is known."""
    return " ".join(part for part in (manufacturer, model) if part) or None


def _scanners(manifest: pd.DataFrame) -> "pd.Series[str]":
    both = zip(manifest["manufacturer"], manifest["scanner"], strict=True)
    named = [scanner(*(None if pd.isna(part) else str(part) for part in pair)) for pair in both]
    return pd.Series(named, index=manifest.index, dtype="object")
