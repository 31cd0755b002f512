"""`medtl demo`: the whole story on simulated radiographs, in under three minutes."""

import json
import shutil
import time
from pathlib import Path

from medtl.data.dataset import ingest
from medtl.errors import MedtlError
from medtl.finetuning.finetune import finetune
from medtl.inference.evaluate import evaluate
from medtl.inference.score import score
from medtl.pretraining.pretrain import pretrain
from medtl.progress import clock, say

PRETRAIN_MINUTES = 0.75
MARKER = "README.txt"


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
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise MedtlError(f"{folder}: holds other files; choose another --out for the demo")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).write_text("Left by `medtl demo`; made anew by the next one.\n", encoding="utf-8")
    samples = _samples(folder)
    labels = samples / "labels.csv"

    _step(1, "read the scans once into a dataset, split by patient")
    dataset = folder / "dataset"
    ingest(samples / "images", labels=labels, out=dataset)
    _step(2, "pretrain an encoder on the scans, without their labels")
    run = pretrain(dataset, out=folder / "run", minutes=PRETRAIN_MINUTES)
    _step(3, "fine-tune a detector from it on the labeled scans, and calibrate it")
    bundle = finetune(dataset, labels=labels, encoder=run, out=folder / "bundle")
    _step(4, "evaluate it on patients it has never seen")
    report = evaluate(bundle, dataset, out=folder / "report")
    _step(5, "score a folder")
    scores = score(bundle, samples / "images", out=folder / "scores.parquet")
    _summary(report)
    say(f"\nDone in {clock(time.monotonic() - began)}. Everything is in {folder}:")
    say(f"  report   {report / 'report.html'}")
    say(f"  scores   {scores}")
    say(f"  bundle   {bundle}")
    say(f"\nOpen the review page:\n  medtl serve {bundle}\nthen drop one of {samples / 'images'} on it.")
    return folder


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
