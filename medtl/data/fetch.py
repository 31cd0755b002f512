"""`medtl.fetch`: the public MedMNIST v2 image sets, from their archive to a file that `medtl ingest` reads.

Yang et al., MedMNIST v2, Scientific Data 2023, doi:10.1038/s41597-022-01721-8.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from medtl.config import closest
from medtl.data.download import download, md5_of
from medtl.errors import ConfigError, FetchError
from medtl.progress import say

ARCHIVE = "https://zenodo.org/records/10519652/files"
_TABLE = Path(__file__).with_name("medmnist_files.json")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """What the table says of a set.

    Args:
        kind: "2D grey", "2D colour" or "3D".
        images: how many, in all parts.
        licence: as the authors name it.
        source: what is seen, and whose data they were first.
        md5: of the file, by the side of its images in pixels or voxels.
    """

    kind: str
    images: int
    licence: str
    source: str
    md5: dict[str, str]


def fetch(name: str | None = None, *, size: int = 28, out: str | Path = Path()) -> Path | None:
    """Load one MedMNIST set, checked by its MD5; without a name, print which there are.

    An interrupted download goes on when called again.

    Args:
        name: such as "pneumoniamnist".
        size: side of the images: 28, 64, 128 or 224 px; of volumes: 28 or 64 voxels.
        out: the folder to put it in.

    Returns:
        The `.npz` file; None where only the list was asked for.

    Raises:
        ConfigError: there is no such set, or not of this size.
        FetchError: it cannot be loaded, or `out` holds another file of its name.
    """
    sets = _sets()
    if name is None:
        print(_list(sets))
        return None
    if name not in sets:
        raise ConfigError(f"unknown set '{name}'{closest(name, list(sets))}")
    wanted = sets[name]
    if str(size) not in wanted.md5:
        raise ConfigError(f"{name} has no size {size}; choose from: {', '.join(wanted.md5)}")
    md5 = wanted.md5[str(size)]
    path = Path(out) / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    say(f"{name}: {wanted.images:,} images, {wanted.source}; licence {wanted.licence}{_limits(wanted)}")
    if path.exists():
        if (found := md5_of(path)) != md5:
            raise FetchError(
                f"{path}: is there already but is another file (MD5 {found}, expected {md5}); remove it, or choose "
                "another --out"
            )
        say(f"{path}: is there already and is right (MD5 checked)")
    else:
        download(f"{ARCHIVE}/{path.name}?download=1", path, md5=md5)
        say(f"{path}: loaded, MD5 checked")
    say(f"next: medtl ingest {shlex.quote(str(path))} --out {shlex.quote(str(path.with_suffix('')))}")
    return path


def _sets() -> dict[str, ImageSet]:
    table = json.loads(_TABLE.read_text(encoding="utf-8"))["sets"]
    return {name: ImageSet(**row) for name, row in table.items()}


def _limits(wanted: ImageSet) -> str:
    return " (not for commercial use)" if "NC" in wanted.licence else ""


def _list(sets: dict[str, ImageSet]) -> str:
    rows = [("set", "images", "kind", "sizes", "licence", "what is seen, and where it comes from")]
    rows += [
        (name, f"{each.images:,}", each.kind, " ".join(each.md5), each.licence, each.source)
        for name, each in sets.items()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "Fetch one with: medtl fetch NAME --size SIZE"])
