"""`medtl ingest`: files in, dataset out."""

import hashlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from medtl import __version__
from medtl.config import build
from medtl.data.adding import key_of, new_units, with_earlier
from medtl.data.assign import assign_parts, fill_modalities, named_people, own_labels, same_bytes, write_labels
from medtl.data.colour import keeps_colour
from medtl.data.dataset import MARKER, Dataset, open_dataset
from medtl.data.duplicates import near_duplicates
from medtl.data.input_report import write_input_report
from medtl.data.input_words import windows_to_choose
from medtl.data.kinds import LISTED
from medtl.data.label_rows import LabelFiles, LabelRows, files_of, read_labels
from medtl.data.labels import join_labels, match_labels, merged_labels
from medtl.data.manifest import manifest_table, read_rejects, reject_table
from medtl.data.modalities import modality_of
from medtl.data.npz import count_of, side_of
from medtl.data.preprocess import PreprocessSpec
from medtl.data.pseudonyms import salt
from medtl.data.quality import with_odd_body_parts
from medtl.data.reading import ReadPlan, Refused, duplicate_row, read_units, reject_row
from medtl.data.shards import ShardReader
from medtl.data.sources import FoundFile, find_files, is_npz
from medtl.data.split import SPLITS
from medtl.data.staging import Staging
from medtl.data.units import As, Unit, grid_of, image_units, looks_like_volumes, volume_units
from medtl.data.windows import check_windows
from medtl.errors import ConfigError, DatasetError, ScanError, Stopped
from medtl.files import DISK_FULL, resumable_folder, write_json
from medtl.progress import progress, say

DEFAULT_SIZE_PX = 256
_SOFTWARE = ("numpy", "pillow", "pydicom", "imagecodecs", "tifffile", "nibabel")


def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    labels: LabelFiles = None,
    as_: str = "auto",
    size_px: int | None = None,
    spacing_mm: float | None = None,
    window: Sequence[str] = (),
    colour: bool | None = None,
    modality: str | None = None,
    add: bool = False,
    seed: int = 0,
) -> Dataset:
    """Read scans once into a dataset folder, split by patient.

    Every file is either part of a row of the manifest or a row of `rejects.csv` with the reason. A call that was
    interrupted goes on where it stopped when it is made again.

    Args:
        source: files, folders of any depth, globs.
        out: the dataset's folder; an earlier dataset in it is replaced once the new one is complete.
        labels: a labels file, or several of which a later one corrects the earlier; what they say about patients and
            parts decides the split.
        as_: "images", "volumes" (slices are put together by series), or "auto": volumes where most files are NIfTI
            volumes, else images.
        size_px: side of the stored squares or cubes; None is 256 for images, what the largest volumes need but at most
            96 for volumes, and the images' own side for `.npz` files alone.
        spacing_mm: side of a stored voxel, for volumes; None takes what lets the largest volumes fit.
        window: for CT: names of windows that become channels, such as lung, mediastinum, bone.
        colour: whether images are stored in red, green and blue, or as luminance alone; None looks at some of them and
            keeps colour where most are in colour.
        modality: of scans of which neither file nor labels file says it, as a DICOM code: CR, CT, DX, MG, MR, SM, US,
            ...; decides how views of them may differ.
        add: take up scans into the dataset that `out` holds; what is in it already is not read again, and no patient
            in it changes parts.
        seed: decides which patients go to train, val and test.

    Returns:
        The dataset, open.

    Raises:
        DatasetError: nothing to read, not one usable file, or no space left.
        LabelError: the labels file cannot be used; names the row.
        MedtlError: `out` holds something else.
    """
    if as_ not in get_args(As):
        raise ConfigError(f"as: '{as_}' is none of {', '.join(get_args(As))}")
    check_windows(window)
    code = modality_of(modality) if modality is not None else None
    folder = Path(out)
    base = _base(folder, size_px, spacing_mm, window, colour) if add else None
    rows = [read_labels(file) for file in files_of(labels)]  # before the long work
    files = find_files([source] if isinstance(source, str | Path) else source)
    seed = base.seed if base else seed
    try:
        with resumable_folder(folder, marker=MARKER) as work:
            units, left_out, spec = _look(files, as_, size_px, spacing_mm, tuple(window), colour, base)
            plan = ReadPlan(spec=spec, key=salt(), seed=seed)
            start = (base.folder, len(base)) if base else None
            with Staging(work, plan=_identity(plan, files, base), shape=spec.stored_shape, base=start) as staging:
                _store(units, plan, staging, base)
            refused = [reject_row(file, problem.code, problem.message) for file, problem in left_out] + staging.refused
            if not staging.taken and base is None:
                shutil.rmtree(work)
                raise DatasetError(_nothing(refused))
            rejects = reject_table(with_earlier(refused, base))
            manifest, notes = _assigned(staging.taken, rejects, base, rows, code, plan, work, folder.name)
            rejects.drop(columns="patient_id").to_csv(work / "rejects.csv", index=False)
            write_json(work / MARKER, _description(spec, manifest, rejects, files, base, seed))
            staging.forget()
    except OSError as problem:
        if problem.errno not in DISK_FULL:
            raise
        raise DatasetError(
            f"{folder}: no space left on the disk; the dataset is as it was. Make space and give the same command "
            f"again: what was read is kept in {folder.parent / f'.{folder.name}.part'}"
        ) from None
    dataset = open_dataset(folder)
    _tell(dataset, read_rejects(folder))
    for note in notes + ([] if base else windows_to_choose(dataset)):
        say(note)
    return dataset


def _base(
    folder: Path, size_px: int | None, spacing_mm: float | None, window: Sequence[str], colour: bool | None
) -> Dataset:
    """The dataset that scans are added to, which has its own preprocessing."""
    base = open_dataset(folder)
    for name, asked, stored in (
        ("--size-px", size_px, base.spec.size_px),
        ("--spacing-mm", spacing_mm, base.spec.spacing_mm),
        ("--window", tuple(window) or None, base.spec.window),
        ("--colour", colour, base.spec.colour),
    ):
        if asked is not None and asked != stored:
            raise ConfigError(f"{folder}: was ingested with another {name} ({stored}); leave the option out with --add")
    return base


def _look(
    files: Sequence[FoundFile],
    as_: str,
    size_px: int | None,
    spacing_mm: float | None,
    window: tuple[str, ...],
    colour: bool | None,
    base: Dataset | None,
) -> tuple[list[Unit], list[tuple[FoundFile, ScanError]], PreprocessSpec]:
    """What is to be read, what is not, and how scans are stored."""
    volumes = base.spec.dims == 3 if base else as_ == "volumes" or (as_ == "auto" and looks_like_volumes(files))
    dims = 3 if volumes else 2
    if dims == 2 and spacing_mm is not None:
        raise ConfigError("spacing_mm is for volumes; images keep no scale")
    units, left_out = volume_units(files) if dims == 3 else (image_units(files), [])
    if base:
        return units, left_out, base.spec
    settings: dict[str, Any] = {"dims": dims, "window": window}
    if dims == 3:
        settings |= grid_of(units, size_px, spacing_mm)
    else:
        settings["size_px"] = size_px or (_own_side(files) if _only_npz(files) else DEFAULT_SIZE_PX)
    settings["colour"] = colour if colour is not None else dims == 2 and not window and keeps_colour(units)
    return units, left_out, build(PreprocessSpec, settings)


def _identity(plan: ReadPlan, files: Sequence[FoundFile], base: Dataset | None) -> dict[str, Any]:
    """What must be the same for an interrupted ingest to go on."""
    names = hashlib.sha256("\n".join(f"{file.source}|{file.name}|{file.version()}" for file in files).encode())
    return {
        "medtl": __version__,
        "spec": plan.spec.model_dump(mode="json"),
        "seed": plan.seed,
        "salt": hashlib.sha256(plan.key).hexdigest()[:16],
        "files": names.hexdigest(),
        "base": base.fingerprint if base else None,
    }


def _store(units: Sequence[Unit], plan: ReadPlan, staging: Staging, base: Dataset | None) -> None:
    """Read all units that are not finished; blocks go to disk at once, rows stay in memory."""
    path_of: dict[str, str] = {}
    if base:
        path_of = dict(zip(base.manifest["sha256"], base.manifest["path"], strict=True))
    path_of |= {row["sha256"]: row["path"] for row in staging.taken}
    todo = [unit for unit in new_units(units, base, staging) if key_of(unit) not in staging.done]
    if staging.done:
        say(f"going on: {len(staging.done):,} of {len(units):,} files were read by an earlier call")
    only_npz = _only_npz([unit.files[0] for unit in todo])
    total = sum(count_of(unit.files[0].path, name=unit.name) for unit in todo) if only_npz else len(todo)
    try:
        with progress("reading", total) as update:
            done = 0
            for unit, items in read_units(todo, plan):
                for item in items:
                    if isinstance(item, Refused):
                        staging.add_refused(item.row)
                    elif (of := path_of.setdefault(item.row["sha256"], item.row["path"])) is item.row["path"]:
                        staging.add_taken(item.row, item.block)
                    else:
                        staging.add_refused(duplicate_row(item.row, of=of))
                    done += only_npz
                    update(done, unused=len(staging.refused))
                staging.finish(key_of(unit))
                done += not only_npz
                update(done, unused=len(staging.refused))
    except KeyboardInterrupt:
        raise Stopped(f"reading: stopped after {len(staging.done):,} files; they are kept", again=()) from None


def _assigned(
    taken: Sequence[Mapping[str, Any]],
    rejects: pd.DataFrame,
    base: Dataset | None,
    rows: Sequence[LabelRows],
    modality: str | None,
    plan: ReadPlan,
    work: Path,
    name: str,
) -> tuple[pd.DataFrame, list[str]]:
    """Give every scan its patient, part and labels; write the tables and the report of what was read.

    Returns:
        The manifest, and what to say about the parts.
    """
    manifest = manifest_table(taken)
    if base:
        manifest = pd.concat([base.manifest, manifest], ignore_index=True)
        manifest["row"] = range(len(manifest))
    earlier = len(manifest) - len(taken)
    manifest["warnings"] = with_odd_body_parts(manifest)
    join = match_labels(rows, manifest, rejects, key=plan.key) if rows else None
    fill_modalities(manifest, earlier=earlier, join=join, others=modality)
    pixels = ShardReader(work, count=len(manifest), shape=plan.spec.stored_shape).read
    places = [None] * earlier + [row["place"] for row in taken]
    people = named_people(manifest, earlier=earlier, places=places, join=join, key=plan.key, seed=plan.seed)
    near = near_duplicates(
        [str(text) for text in manifest["phash"]], lambda rows: plan.spec.grey(pixels(rows)), patients=people.named
    )
    notes = assign_parts(manifest, people, links=near.tolist(), twins=same_bytes(manifest, rejects))
    table = join.table if join else own_labels([None] * earlier + [row["labels"] for row in taken])
    given = ", ".join(each.file.name for each in rows)
    if join and any(row["labels"] for row in taken):
        say(f"labels: those of {given}; those inside the .npz are not used")
    if base and (base.folder / "labels.csv").is_file():
        before = join_labels([base.folder / "labels.csv"], manifest, rejects)
        table = merged_labels(before, table, name=given or "the files read now") if table else before
    manifest.to_parquet(work / "manifest.parquet", index=False)
    if table:
        write_labels(work / "labels.csv", manifest, table)
    write_input_report(pixels, plan.spec, manifest, table, rejects, near, work / "report.html", name=name)
    return manifest, notes


def _only_npz(files: Sequence[FoundFile]) -> bool:
    """Looks no further than the first file that is none."""
    return all(is_npz(file) for file in files)


def _own_side(files: Sequence[FoundFile]) -> int:
    side = max(side_of(file.path, name=str(file.path)) for file in files)
    return min(max(side, 16), 2048)


def _nothing(refused: Sequence[Mapping[str, Any]]) -> str:
    first = refused[0]
    return f"none of the {len(refused):,} files can be used; the first: {first['path']}: {first['message']}"


def _description(
    spec: PreprocessSpec,
    manifest: pd.DataFrame,
    rejects: pd.DataFrame,
    files: Sequence[FoundFile],
    base: Dataset | None,
    seed: int,
) -> dict[str, Any]:
    identity = [*manifest["scan_id"], *manifest["patient_id"], *manifest["split"], spec.model_dump_json()]
    digest = hashlib.sha256("\n".join(identity).encode())
    parts = manifest["split"].value_counts()
    return {
        "spec": spec.model_dump(mode="json"),
        "counts": {
            "scans": len(manifest),
            "patients": int(manifest["patient_id"].nunique()),
            **{part: int(parts.get(part, 0)) for part in SPLITS},
            "rejects": len(rejects),
        },
        "fingerprint": digest.hexdigest()[:16],
        "sources": sorted({file.source for file in files} | set(base.manifest["source"] if base else ())),
        "seed": seed,
        "software": {"medtl": __version__, "python": platform.python_version()} | {n: version(n) for n in _SOFTWARE},
    }


def _tell(data: Dataset, rejects: pd.DataFrame) -> None:
    parts = data.manifest["split"].value_counts()
    shares = ", ".join(f"{part} {parts.get(part, 0):,}" for part in SPLITS)
    patients, spec = data.manifest["patient_id"].nunique(), data.spec
    size = (
        f"{spec.size_px} px{' in colour' if spec.colour else ''}"
        if spec.dims == 2
        else f"{' x '.join([str(spec.size_px)] * 3)} of {spec.spacing_mm:g} mm"
    )
    say(f"{len(data):,} scans of {patients:,} patients at {size} ({shares}): {data.folder}")
    counts = rejects["code"].value_counts()
    if len(counts):
        say(f"  {'read':<8} {len(data):>8,}  into the dataset; what was not is in {data.folder / 'rejects.csv'}:")
    for title, chosen in (("listed", counts.index.isin(LISTED)), ("refused", ~counts.index.isin(LISTED))):
        for code, number in counts[chosen].items():
            first = rejects[rejects["code"] == code].iloc[0]
            say(f"  {title:<8} {number:>8,}  {code}: {first['path']} {first['message']}")
