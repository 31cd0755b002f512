"""What `medtl ingest --add` reads of a folder, and what it keeps of the dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

from medtl.data.dataset import Dataset
from medtl.data.manifest import read_rejects
from medtl.data.reading import reject_row
from medtl.data.staging import Staging
from medtl.data.units import Unit


def key_of(unit: Unit) -> str:
    """What an interrupted ingest knows a unit by."""
    return f"{unit.source}|{unit.name}"


def new_units(units: Sequence[Unit], base: Dataset | None, staging: Staging) -> list[Unit]:
    """The units that a dataset does not hold yet; one that it holds in another version is refused."""
    if base is None:
        return list(units)
    names = (path.partition("#")[0] for path in base.manifest["path"])
    held = dict(zip(zip(base.manifest["source"], names, strict=True), base.manifest["version"], strict=True))
    changed = (
        "has changed since it was ingested; the dataset keeps what it held. Ingest anew, without --add, to take it"
    )
    new = []
    for unit in units:
        version = held.get((unit.source, unit.name))
        if version is None:
            new.append(unit)
        elif version != unit.version() and key_of(unit) not in staging.done:
            staging.add_refused(reject_row(unit.files[0], "changed", changed))
            staging.finish(key_of(unit))
    return new


def with_earlier(refused: Sequence[Mapping[str, Any]], base: Dataset | None) -> list[Mapping[str, Any]]:
    """The rejects of now, after those of the dataset that were not tried again."""
    if base is None:
        return list(refused)
    again = {(row["source"], row["path"]) for row in refused}
    earlier = [{str(name): cell for name, cell in row.items()} for row in read_rejects(base.folder).to_dict("records")]
    kept = [{"patient_id": ""} | row for row in earlier if (row["source"], row["path"]) not in again]
    return [*kept, *refused]
