"""The `medtl` program: one thin command for each public function."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import medtl
from medtl import cli_reviews, cli_teach, torchrun
from medtl.cli_lists import BundleFolder, DatasetFolder, Labels, ListsOfNumbers
from medtl.errors import ConfigError, MedtlError, Stopped
from medtl.progress import print_table, say

app = typer.Typer(
    help="From a folder of unlabeled scans to a calibrated abnormality detector that radiologists can correct, "
    "on this machine. Start with: medtl demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_reviews.reviews, name="reviews")
app.add_typer(cli_reviews.users, name="users")
app.command()(cli_reviews.serve)
split = typer.Typer(help="Train, val and test.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(split, name="split")

AFTER_THE_FIRST_S = 3.0


def _version(asked: bool) -> None:
    if asked:
        print(f"medtl {medtl.__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""
    if torchrun.count() > 1 and context.invoked_subcommand != "pretrain":
        raise ConfigError(
            f"medtl {context.invoked_subcommand} runs in one process and torchrun started {torchrun.count()}; "
            "start it without torchrun"
        )


Out = Annotated[Path, typer.Option(help="The folder to write.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
ConfigFile = Annotated[Path | None, typer.Option(help="YAML file with settings; see configs/.")]


def _set(keys: str) -> object:
    """The option `--set`, with the keys that are asked for most."""
    return typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"One setting; may be given several times: {keys} and more. A key that does not exist, such as all=, "
        "lists them.",
    )


PretrainSet = Annotated[list[str], _set("steps, input_px, network, batch_size, lr, seed")]
FinetuneSet = Annotated[list[str], _set("steps, input_px, network, batch_size, lr, loss, sampling, patience, seed")]
StudySet = Annotated[list[str], _set("steps, input_px, network, batch_size, lr, loss, sampling")]
STARTS = "random, imagenet, the folder of a run or bundle, or a ResNet's .safetensors, .pth or .pt file"
DEFAULT_START = "[default: imagenet]"
DEFAULT_ENCODER = "[default: imagenet; more than 100 labeled volumes with the strategies auto and full: random]"


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where to put everything.")] = Path("medtl-demo")) -> None:
    """Show the whole story on simulated radiographs."""
    medtl.demo(out=out)


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="Such as pneumoniamnist; nothing lists all.")] = None,
    size: Annotated[int, typer.Option(help="Side of the images: 28, 64, 128 or 224; of volumes: 28 or 64.")] = 28,
    out: Annotated[Path, typer.Option(help="The folder to put it in.")] = Path(),
) -> None:
    """Load a public MedMNIST set; made again, it goes on where it stopped."""
    medtl.fetch(name, size=size, out=out)


@app.command()
def deidentify(
    inputs: Annotated[list[str], typer.Argument(help="DICOM files, folders or globs.")],
    out: Out,
    keep_burned_in: Annotated[
        bool, typer.Option("--keep-burned-in", help="Write also images that may show a name in their pixels.")
    ] = False,
) -> None:
    """Write DICOM images without the patients' identity."""
    medtl.deidentify(inputs, out=out, keep_burned_in=keep_burned_in)


@app.command()
def ingest(
    source: Annotated[
        list[Path], typer.Argument(help="Files or folders: DICOM, NIfTI, PNG, JPEG, TIFF, MedMNIST-style .npz.")
    ],
    out: Out,
    labels: Labels = [],  # noqa: B006
    as_: Annotated[
        str, typer.Option("--as", help="images, volumes (slices are put together by series), or auto.")
    ] = "auto",
    size_px: Annotated[
        int | None,
        typer.Option(min=16, max=2048, help="Side of what is stored [default: 256; volumes: up to 96; .npz: its own]"),
    ] = None,
    spacing_mm: Annotated[
        float | None, typer.Option(help="Volumes: side of a stored voxel [default: what the largest volumes need]")
    ] = None,
    window: Annotated[
        list[str], typer.Option(help="CT: a window that becomes a channel, such as lung; may be given several times.")
    ] = [],  # noqa: B006
    colour: Annotated[
        bool | None,
        typer.Option(
            "--colour/--no-colour", help="Store images in colour or as luminance [default: as most of the files are]"
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="Of files that do not say, nor a column modality of --labels: CT, DX, MG, MR, SM, US, ... (DICOM)"
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add scans to the dataset in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Decides which patients go to train, val and test.")] = 0,
) -> None:
    """Read scans once into a dataset folder, split by patient."""
    medtl.ingest(
        source,
        out=out,
        labels=labels,
        as_=as_,
        size_px=size_px,
        spacing_mm=spacing_mm,
        window=window,
        colour=colour,
        modality=modality,
        add=add,
        seed=seed,
    )


@split.command("check")
def check_split(dataset: DatasetFolder) -> None:
    """Prove that no patient, study or picture is in two parts."""
    found = medtl.split_check(dataset)
    print(found.counts.to_string())
    for what in found.shared:
        print(f"{what} in two parts: 0")


@app.command()
def pretrain(
    dataset: DatasetFolder,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; --show-views writes OUT-views.png beside it.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How to learn without labels; medtl methods lists all [default: simclr]")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help=f"{STARTS} {DEFAULT_START}")] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to train [default: 10]")] = None,
    labels: Annotated[
        list[Path],
        typer.Option(help="CSV of a few labels to probe the encoder with while it learns without them [default: none]"),
    ] = [],  # noqa: B006
    resume: Resume = False,
    show_views: Annotated[
        bool,
        typer.Option(
            "--show-views",
            help="Train nothing: draw scans, and random views of them as --minutes would have them, into a PNG.",
        ),
    ] = False,
    config: ConfigFile = None,
    settings: PretrainSet = [],  # noqa: B006 - typer reads the default, nothing changes it
) -> None:
    """Train an encoder without labels."""
    medtl.pretrain(
        dataset,
        out=out,
        method=method,
        from_=from_,
        minutes=minutes,
        labels=labels,
        resume=resume,
        show_views=show_views,
        config=config,
        settings=settings,
    )


@app.command()
def methods() -> None:
    """List the ways to learn without labels: paper, dimensions, cost and use."""
    rows = [
        (name, row.paper, " ".join(f"{d}D" for d in row.dims), f"{row.cost:.1f}", row.when)
        for name, row in medtl.methods().items()
    ]
    print_table(("method", "paper", "for", "cost", "when to use it"), rows)
    say("cost: time of a step, SimCLR's is 1. Several at once: --method NAME+NAME. See docs/guide/pretraining.md")


@app.command()
def finetune(
    dataset: DatasetFolder,
    out: Out,
    labels: Labels = [],  # noqa: B006
    encoder: Annotated[str | None, typer.Option(help=f"{STARTS} {DEFAULT_ENCODER}")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How to adapt the encoder; medtl strategies lists all [default: auto]")
    ] = None,
    semi: Annotated[
        str | None,
        typer.Option(
            help="How scans without labels take part: none, fixmatch, mixmatch, mean-teacher, distil or auto "
            "[default: none]"
        ),
    ] = None,
    resume: Resume = False,
    config: ConfigFile = None,
    settings: FinetuneSet = [],  # noqa: B006
) -> None:
    """Train and calibrate a detector on labeled scans."""
    medtl.finetune(
        dataset,
        out=out,
        labels=labels,
        encoder=encoder,
        strategy=strategy,
        semi=semi,
        resume=resume,
        config=config,
        settings=settings,
    )


@app.command()
def strategies() -> None:
    """List the ways to adapt an encoder to labels: paper, what is trained and use."""
    rows = [(name, row.paper, row.trains, row.when) for name, row in medtl.strategies().items()]
    print_table(("strategy", "paper", "trains", "when to use it"), rows)
    say("auto, the default, chooses by the start and the number of labels. See docs/guide/finetuning.md")


app.command()(cli_teach.teach)


@app.command()
def evaluate(
    bundle: BundleFolder,
    dataset: DatasetFolder,
    out: Out,
    labels: Labels = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="test, val, train or all.")] = "test",
) -> None:
    """Write the evidence report, with intervals."""
    medtl.evaluate(bundle, dataset, out=out, labels=labels, split=split)


@app.command(cls=ListsOfNumbers)
def study(
    dataset: DatasetFolder,
    out: Out,
    labels: Labels = [],  # noqa: B006
    labels_per_class: Annotated[
        list[int],
        typer.Option(metavar="N...", help="Labeled scans with each finding, and without it [default: 10 30]"),
    ] = [],  # noqa: B006
    fractions: Annotated[
        list[float],
        typer.Option(metavar="SHARE...", help="Shares of the labeled scans, such as 0.1 1.0 [default: none]"),
    ] = [],  # noqa: B006
    starts: Annotated[str, typer.Option(help=f"With commas between: {STARTS}")] = "random,imagenet",
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of labels.")] = 5,
    strategy: Annotated[
        str | None, typer.Option(help="How to adapt encoders; medtl strategies lists all [default: auto]")
    ] = None,
    settings: StudySet = [],  # noqa: B006
) -> None:
    """Did pretraining help? Compare starts with few labels; made again, it goes on where it stopped."""
    medtl.study(
        dataset,
        out=out,
        labels=labels,
        labels_per_class=labels_per_class,
        fractions=fractions,
        starts=starts,
        seeds=seeds,
        strategy=strategy,
        settings=settings,
    )


@app.command()
def score(
    bundle: BundleFolder,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Annotated[Path, typer.Option(help="A .parquet, .csv or .jsonl file.")],
) -> None:
    """Score scans; made again, it goes on where it stopped."""
    medtl.score(bundle, inputs, out=out)


def main() -> None:
    """Run the program.

    An expected error is one line on stderr and exit code 2; an interruption says how to go on, with exit code 130.
    """
    try:
        app()
    except MedtlError as problem:
        _end(str(problem), 2)
    except Stopped as stopped:
        hint = ""
        if stopped.again is not None:
            more = [word for word in stopped.again if word not in sys.argv]
            hint = f". Go on with: medtl {shlex.join([*sys.argv[1:], *more])}"
            if torchrun.count() > 1:
                hint += ", under torchrun with any number of processes"
        _end(f"{stopped}{hint}", 130)
    except OSError as problem:  # a full disk, a folder that may not be written to
        _end(f"{problem.filename or 'the disk'}: {problem.strerror or problem}", 2)


def _end(message: str, code: int) -> NoReturn:
    """Say why, once, and end."""
    where = ""
    if torchrun.number() > 0:
        # Mostly the first process says the same, and torchrun ends the others when one has ended.
        time.sleep(AFTER_THE_FIRST_S)
        where = f"process {torchrun.number()}: "
    print(f"medtl: {where}{message}", file=sys.stderr)
    sys.exit(code)
