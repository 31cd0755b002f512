"""`medtl teach`: a new finding for a bundle, in seconds, without touching what the bundle knows."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medtl.data.dataset import open_dataset
from medtl.data.label_rows import LabelFiles, files_of
from medtl.encoders.store import SUPERVISED
from medtl.errors import ConfigError, LabelError
from medtl.files import check_replaceable
from medtl.finetuning.examples import Example, Examples, from_dataset, from_scans
from medtl.finetuning.grow import Weights, with_finding, with_scans
from medtl.finetuning.instant import teach_finding
from medtl.finetuning.strategies import STRATEGIES
from medtl.inference.bundle import MARKER, Bundle, encoder_of, read_weights, write_weights
from medtl.inference.cache import EmbeddingCache, encoder_digest
from medtl.inference.reference import read_reference
from medtl.progress import say

ENCODER_SCANS = "labeled scans that the encoder was trained on"


def teach(
    bundle: str | Path,
    dataset: str | Path | Iterable[Example],
    *,
    out: str | Path,
    labels: LabelFiles = None,
    finding: str | None = None,
    replace: bool = False,
) -> Path:
    """Teach a bundle findings that it does not know, each with a linear head of its own on the bundle's embeddings.

    Encoder and earlier heads stay as they are to the bit. Embeddings are kept beside the dataset, or beside the bundle
    where scans are given one by one, so that teaching again takes a second or two.

    Args:
        bundle: the folder that `finetune` or `teach` left.
        dataset: the folder that `ingest` left; or examples, each a file or a `Scan` with 1 where the finding is there
            and 0 where it is not, read one after the other.
        out: the new bundle's folder; may be the same one.
        labels: a labels file, or several of which a later one corrects the earlier; None takes the one in the dataset.
            Not for examples.
        finding: which column to teach, None is all; of examples, what the finding is called.
        replace: teach findings anew that the bundle knows.

    Returns:
        The new bundle's folder.

    Raises:
        BundleError: the bundle cannot be read.
        LabelError: fewer than 4 positive or negative scans, a finding that the bundle knows, or a labels file that
            cannot be used.
        MedtlError: see the message.
    """
    began = time.perf_counter()
    source, folder = Path(bundle), Path(out)
    known, weights = read_weights(source)
    check_replaceable(folder, marker=MARKER)
    if isinstance(dataset, str | Path):
        data = open_dataset(dataset)
        data.check_storage(known.spec)
        examples = from_dataset(data, labels, finding)
    elif files_of(labels):
        raise ConfigError("labels: examples bring their own labels; leave the file out, or name a dataset")
    else:
        examples = from_scans(dataset, finding, known.spec)
    _check_names(known, examples.table.findings, again=replace)
    embeddings, cached = _embeddings(source, known, weights, examples)
    reference = read_reference(source)
    learned = _taught_the_encoder(known, len(reference))
    before = np.isin(examples.scan_ids, reference.scan_ids[:learned])
    taught = []
    for name, values in zip(examples.table.findings, examples.table.values.T, strict=True):
        here = ~np.isnan(values)
        seen = int((before & here).sum())
        shown = embeddings[here], values[here], examples.patients[here]
        taught.append(teach_finding(name, *shown, seen=seen, widths=known.levels))
    new, grown = changed(known, training=_training(known, learned, examples)), weights
    for each in taught:
        new, grown = with_finding(new, grown, each)
    write_weights(folder, new, grown, with_scans(reference, known.findings, new.findings, examples, embeddings))
    for each in taught:
        say(f"{each.finding}: {each.said}; operating point {each.calibration.thresholds[each.finding]:.3f}")
        for sentence in each.caveats:
            say(f"{each.finding}: {sentence}")
    say(
        f"taught {', '.join(examples.table.findings)} in {time.perf_counter() - began:.1f} s, {cached:,} of "
        f"{len(embeddings):,} embeddings were kept from before: {folder}"
    )
    return folder


def _taught_the_encoder(known: Bundle, scans: int) -> int:
    """How many scans, the first of the reference, the encoder was trained on with their labels.

    A linear probe changes nothing, but its start may have learned from labels: which scans is not known, so all count.
    """
    strategy = STRATEGIES.get(str(known.training.get("strategy")))
    probe = strategy is not None and strategy.trains == "head"
    if probe and SUPERVISED not in str(known.training.get("start")):
        return 0
    return int(known.training.get(ENCODER_SCANS, scans))  # those that were taught since stand behind them


def _training(known: Bundle, learned: int, examples: Examples) -> dict[str, Any]:
    """What the bundle says of its training, with the labels files of what is taught in place of earlier ones."""
    taught = [f"label_files of {finding}" for finding in examples.table.findings]
    kept = {key: value for key, value in known.training.items() if key not in taught}
    files = ", ".join(examples.table.files)
    return kept | {ENCODER_SCANS: learned} | (dict.fromkeys(taught, files) if files else {})


def _check_names(known: Bundle, findings: Sequence[str], *, again: bool) -> None:
    for finding in findings:
        if finding not in known.findings:
            continue
        if not again:
            raise LabelError(
                f"{finding}: the bundle detects it already; add --replace to teach it anew, or choose one column with "
                "--finding"
            )
        if any(task.exclusive and finding in task.findings for task in known.tasks):
            raise LabelError(
                f"{finding}: is one of the bundle's classes that exclude each other, which cannot be taught alone; "
                "fine-tune again, or give it another name"
            )


def _embeddings(source: Path, known: Bundle, weights: Weights, examples: Examples) -> tuple[Tensor, int]:
    """Embeddings of the examples (N, D), and how many of them were kept from before."""
    if not examples.scan_ids:
        raise LabelError("no labeled scan outside the test part; label some to teach from")
    cache = EmbeddingCache(
        examples.beside or source,
        dataset=examples.fingerprint,
        encoder=encoder_digest(weights) + ("-levels" if known.levels else ""),
        spec=known.spec,
        flip_average=known.flip_average,
    )
    return cache.embeddings(examples.scan_ids, examples.stored, lambda: encoder_of(source, known))
