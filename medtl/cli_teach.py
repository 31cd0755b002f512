"""`medtl teach`: findings that a bundle learns later."""

from pathlib import Path
from typing import Annotated

import typer

import medtl
from medtl.cli_lists import BundleFolder, DatasetFolder, Labels


def teach(
    bundle: BundleFolder,
    dataset: DatasetFolder,
    out: Annotated[Path, typer.Option(help="The new bundle's folder; may be the same one.")],
    labels: Labels = [],  # noqa: B006 - typer reads the default, nothing changes it
    finding: Annotated[str | None, typer.Option(help="The column to teach [default: all]")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Teach findings anew that the bundle knows.")] = False,
) -> None:
    """Teach a bundle a new finding from a few examples, in seconds; what it knows stays as it is."""
    medtl.teach(bundle, dataset, out=out, labels=labels, finding=finding, replace=replace)
