"""DICOM files to volumes: which files belong together, and reading them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medtl.data.frames import frames_stacked
from medtl.data.geometry import close, most_at_one_place, stacked
from medtl.data.kinds import LARGEST_PIXELS
from medtl.data.slice_head import SliceHead
from medtl.errors import ScanError

FEWEST_SLICES = 4
"""Fewer are single images and scouts."""
SAME_ECHO_MS = 0.1


@dataclass(frozen=True, kw_only=True)
class Series:
    """Files that make one volume.

    Args:
        paths: the files, in spatial order; one for a multi-frame object.
        name: of the member with the smallest name.
        shape: voxels towards head, front and right (D, H, W).
        spacing_mm: along the same axes.
    """

    paths: tuple[Path, ...]
    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def group_series(heads: Sequence[SliceHead]) -> tuple[list[Series], list[ScanError]]:
    """Sort files into volumes, whatever order they come in.

    Images of one series are told apart by kind, orientation, size, spacing, echo and b-value, and, where several lie
    at one place, by the moment they show.

    Returns:
        Volumes by name, and an error for each file that is in none: `duplicate`, `colour`, `localizer`, `mosaic`,
        `no_geometry`, `no_series`, `no_volume`, `several_volumes`, `too_large`, or what `stacked` refuses.
    """
    series: list[Series] = []
    errors: list[ScanError] = []
    groups: dict[tuple[str, ...], list[SliceHead]] = defaultdict(list)
    fit: list[SliceHead] = []
    for head in sorted(heads, key=lambda head: head.name):
        problem = _unfit(head)
        if problem is None:
            fit.append(head)
        else:
            errors.append(problem)
    for head in _distinct(fit, errors):
        if head.frames > 1:
            _add([head], series, errors)
        else:
            groups[head.series + head.kind].append(head)
    for group in groups.values():
        for part in _told_apart(group):
            _add(part, series, errors)
    return sorted(series, key=lambda one: one.name), sorted(errors, key=lambda one: one.path)


def _distinct(heads: Iterable[SliceHead], errors: list[ScanError]) -> list[SliceHead]:
    """All but copies of one image, of which the first stays."""
    kept: dict[SliceHead, SliceHead] = {}
    for head in heads:
        # A careless pseudonymiser gives all images one id, so the rest of the header must agree, too.
        same = replace(head, path=Path(), name="" if head.instance_id else head.name)
        if (first := kept.setdefault(same, head)) is not head:
            errors.append(ScanError("duplicate", head.name, f"is the same image as {first.name}; one is enough"))
    return list(kept.values())


def _unfit(head: SliceHead) -> ScanError | None:
    """Why a file can be part of no volume."""
    if head.colour:
        return ScanError("colour", head.name, "is in colour; volumes are made of grey values")
    if "LOCALIZER" in head.image_type:
        return ScanError("localizer", head.name, "is a localizer, made for planning; leave it out")
    if "MOSAIC" in head.image_type:
        return ScanError("mosaic", head.name, "holds many slices side by side; convert it to NIfTI with dcm2niix")
    if not head.series[2]:
        return ScanError("no_series", head.name, "does not say its SeriesInstanceUID; export it again")
    if not head.places:
        return ScanError(
            "no_geometry",
            head.name,
            "does not say where in the patient it lies (ImagePositionPatient, ImageOrientationPatient, PixelSpacing)",
        )
    return None


def _told_apart(group: list[SliceHead]) -> list[list[SliceHead]]:
    """Images of one series and kind, as those of one orientation, spacing, echo and moment."""
    parts = _alike(group, lambda one, other: close(one.places[0].orientation, other.places[0].orientation))
    parts = _each(parts, lambda one, other: close(one.places[0].spacing_mm, other.places[0].spacing_mm))
    parts = _each(parts, lambda one, other: abs(one.echo_time_ms - other.echo_time_ms) < SAME_ECHO_MS)
    return [moment for part in parts for moment in _moments(part)]


def _each(parts: list[list[SliceHead]], same: Callable[[SliceHead, SliceHead], bool]) -> list[list[SliceHead]]:
    return [smaller for part in parts for smaller in _alike(part, same)]


def _alike(group: list[SliceHead], same: Callable[[SliceHead, SliceHead], bool]) -> list[list[SliceHead]]:
    """Each head goes to the first part whose first head is the same."""
    parts: list[list[SliceHead]] = []
    for head in group:
        for part in parts:
            if same(part[0], head):
                part.append(head)
                break
        else:
            parts.append([head])
    return parts


def _moments(group: list[SliceHead]) -> list[list[SliceHead]]:
    """Where several images lie at one place: the volumes that a header's moment tells apart, if one does.

    Many elements differ from slice to slice without meaning a moment. One that does leaves fewer images at a place,
    and does not have more values than there are images at a place, unless each of its parts could be a volume.
    """
    deepest = _deepest(group)
    if deepest == 1:
        return [group]
    for number in range(len(group[0].moments)):
        parts: dict[str, list[SliceHead]] = defaultdict(list)
        for head in group:
            parts[head.moments[number]].append(head)
        few = len(parts) <= deepest or min(len(part) for part in parts.values()) >= FEWEST_SLICES
        if few and max(_deepest(part) for part in parts.values()) < deepest:
            return [smaller for part in parts.values() for smaller in _moments(part)]
    return [group]


def _deepest(group: list[SliceHead]) -> int:
    return most_at_one_place([head.places[0] for head in group])


def _add(group: list[SliceHead], series: list[Series], errors: list[ScanError]) -> None:
    """A group as a volume, or why not, for each of its files."""
    try:
        series.append(_series(group))
    except ScanError as problem:
        errors += [ScanError(problem.code, head.name, problem.message) for head in group]


def _series(group: list[SliceHead]) -> Series:
    first = group[0]
    paths: tuple[Path, ...] = (first.path,)
    if first.frames > 1:
        stack = frames_stacked(first.places, name=first.name)
    else:
        if len(group) < FEWEST_SLICES:
            found = "1 image" if len(group) == 1 else f"{len(group)} images"
            raise ScanError(
                "no_volume", first.name, f"{found} of its kind; a volume needs at least {FEWEST_SLICES} parallel ones"
            )
        stack = stacked([head.places[0] for head in group], [head.name for head in group], name=first.name)
        paths = tuple(group[index].path for index in stack.order)
    shape = stack.arrangement.shape((len(stack.order), first.rows, first.columns))
    if math.prod(shape) > LARGEST_PIXELS:
        raise ScanError("too_large", first.name, f"{' x '.join(map(str, shape))} voxels are more than 1 GB")
    return Series(paths=paths, name=first.name, shape=shape, spacing_mm=stack.arrangement.spacing_mm)
