"""`medtl demo`: the whole story on simulated radiographs, in under three minutes."""

import json
import shutil
import sys
import time
from pathlib import Path

from medtl.data.ingest import ingest
from medtl.errors import MedtlError, Stopped
from medtl.finetuning.finetune import finetune
from medtl.inference.evaluate import evaluate
from medtl.inference.score import score
from medtl.pretraining.pretrain import pretrain
from medtl.progress import clock, say

# ImageNet, then the scans themselves at a small size, then the labels at a larger one: small first saves time.
PRETRAIN = ["minutes=0.5", "input_px=64"]
FINETUNE = ["steps=80", "input_px=128"]
MARKER = ".medtl-demo"
PARTS = ("dataset", "run", "bundle", "report", "scores.parquet", "sample_data", MARKER)


def demo(*, out: str | Path = "medtl-demo") -> Path:
    """Ingest, pretrain, fine-tune, evaluate and score the simulated radiographs, and say how to open the page.

    Args:
        out: where to put everything; what an earlier demo left there is replaced.

    Returns:
        The folder.

    Raises:
        MedtlError: `out` holds something other than an earlier demo.
    """
    folder, began = Path(out), time.monotonic()
    _clear(folder)
    samples = _samples(folder)
    try:
        report = _story(samples, folder)
    except Stopped as stopped:
        raise Stopped(f"{stopped}. A demo starts from the beginning") from None
    _summary(report)
    say(f"\nDone in {clock(time.monotonic() - began)}. Everything is in {folder}:")
    for what, name in {"report": "report/report.html", "scores": "scores.parquet", "bundle": "bundle"}.items():
        say(f"  {what:<8} {folder / name}")
    say(
        f"\nOpen the review page:\n  {_program()} serve {folder / 'bundle'} --scores {folder / 'scores.parquet'}\n"
        "It prints a link to make the first user; then read the worklist, the most suspicious case first."
    )
    return folder


def _program() -> str:
    """How this program was called, so that its next command can be copied as it stands."""
    return sys.argv[0] if Path(sys.argv[0]).name == "medtl" else "medtl"


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left, by name; refuse a folder that holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise MedtlError(f"{folder}: is a file; --out needs the name of a folder")
    inside = [path.name for path in folder.iterdir()] if folder.exists() else []
    if inside and (MARKER not in inside or not set(inside) <= set(PARTS)):
        raise MedtlError(f"{folder}: holds other files; choose another --out for the demo")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    for name in inside:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        elif name != MARKER:
            (folder / name).unlink()


def _story(samples: Path, folder: Path) -> Path:
    """The five steps; returns the report."""
    labels = samples / "labels.csv"

    _step(1, "read the scans once into a dataset, split by patient")
    dataset = folder / "dataset"
    ingest(samples / "images", labels=labels, out=dataset)
    _step(2, "pretrain an encoder: from ImageNet, on the scans without their labels")
    run = pretrain(dataset, out=folder / "run", settings=PRETRAIN)
    _step(3, "fine-tune a detector from it on the labeled scans, and calibrate it")
    bundle = finetune(dataset, labels=labels, encoder=run, out=folder / "bundle", settings=FINETUNE)
    _step(4, "evaluate it on patients it has never seen")
    report = evaluate(bundle, dataset, out=folder / "report")
    _step(5, "score a folder")
    score(bundle, samples / "images", out=folder / "scores.parquet")
    return report


def _samples(folder: Path) -> Path:
    """The sample data of the checkout; simulated anew where medtl was installed without it."""
    checkout = Path(__file__).parents[1] / "sample_data"
    if (checkout / "labels.csv").is_file():
        return checkout
    from medtl.data.samples import simulate

    say("simulating chest radiographs (this install came without sample_data/)")
    simulate(folder / "sample_data")
    return folder / "sample_data"


def _step(number: int, what: str) -> None:
    say(f"\n[{number}/5] {what}")


def _summary(report: Path) -> None:
    content = json.loads((report / "report.json").read_text(encoding="utf-8"))
    print(
        f"\nOn {content['n_scans']} scans of {content['n_patients']} patients kept aside (95 % interval over patients):"
    )
    for name, figures in content["findings"].items():
        auroc, sens, spec = figures["auroc"], figures["sensitivity"], figures["specificity"]
        print(
            f"  {name:<15} AUROC {auroc['value']:.2f} ({auroc['low']:.2f} to {auroc['high']:.2f})   "
            f"sensitivity {sens['value']:.2f}   specificity {spec['value']:.2f}"
        )
