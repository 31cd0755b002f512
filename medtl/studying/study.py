"""`medtl study`: did pretraining help on these scans? Starts, numbers of labels and draws, compared in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medtl import torchrun
from medtl.config import build, load
from medtl.data.dataset import Dataset, open_dataset
from medtl.data.label_rows import LabelFiles
from medtl.data.labels import LabelTable
from medtl.errors import ConfigError, LabelError, Stopped
from medtl.evaluation.metrics import both_classes
from medtl.evaluation.study.answers import answers
from medtl.evaluation.study.report import build_report, write_report
from medtl.evaluation.study.results import Measured, StartInfo, StudyReport
from medtl.files import atomic_file
from medtl.finetuning.config import FinetuneConfig
from medtl.finetuning.strategies import candidates
from medtl.pretraining.health.probe import patients_of
from medtl.pretraining.presets import gentle_for, settled
from medtl.progress import clock, part_of_more, progress, say
from medtl.studying.cells import cell_name, is_done, open_study, read_cell, write_cell
from medtl.studying.config import StudyConfig, listed
from medtl.studying.draws import Amount, Pool, draw, pool_of
from medtl.studying.fitting import Task, expected_seconds, fine_tune
from medtl.studying.starts import describe, weights_digest

WORK = "work"


def study(
    dataset: str | Path,
    *,
    out: str | Path,
    labels: LabelFiles = None,
    labels_per_class: Sequence[int] = (),
    fractions: Sequence[float] = (),
    starts: str | Sequence[str] = "random,imagenet",
    seeds: int = 5,
    strategy: str | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Fine-tune several starts on the same few labeled scans, compare them on the test part, and write `study.html`.

    Labeled scans are drawn from the train part by patient, the same for every start; the test part judges and nothing
    else. Made again, it goes on where it stopped; more starts, numbers of labels or seeds add to what is there.

    Args:
        dataset: the folder that `ingest` left.
        out: the study's folder.
        labels: a labels file, or several of which a later one corrects the earlier; None takes the one in the dataset.
        labels_per_class: how many scans with each finding, and without it; 10 and 30 where this and `fractions` are
            empty.
        fractions: shares of the labeled scans of the train part.
        starts: "random", "imagenet", folders of runs or bundles, files with a ResNet's weights, with commas between.
        seeds: how many draws of labels.
        strategy: as of `finetune`; random weights take "full" where it would keep what they have not learned.
        settings: strings `key=value` for fine-tuning, as `--set` of `finetune`; the same for every start.

    Returns:
        The study's folder.

    Raises:
        MedtlError: see the message.
        Stopped: the user interrupted; finished fine-tunings are kept.
    """
    if torchrun.count() > 1:
        raise ConfigError("a study runs in one process; start it without torchrun")
    values = {
        "labels_per_class": tuple(labels_per_class), "fractions": tuple(fractions), "starts": listed(starts),
        "seeds": seeds,
    }  # fmt: skip
    plan, folder = build(StudyConfig, values), Path(out)
    data = open_dataset(Path(dataset))
    task, pool = _task(data, data.labels(labels), strategy, settings)
    pool.check(plan.amounts)
    origins = plan.named_starts()
    infos = [describe(name, task.start(at), fingerprint=data.fingerprint) for name, at in origins.items()]
    identity = {
        "dataset": data.fingerprint,
        "labels": task.labels.digest(),
        "settings": task.settings,
    }
    open_study(folder, identity, {name: weights_digest(at) for name, at in origins.items()})
    cells = [
        Cell(start=name, origin=origin, amount=amount, seed=seed)
        for seed in range(plan.seeds)
        for amount in plan.amounts
        for name, origin in origins.items()
    ]
    _fine_tune_all(task, pool, cells, folder)
    report = build_report(_measured(task, pool, plan, infos, cells, folder))
    _write_test_scans(task, folder)
    write_report(report, folder)
    _say(report, folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fine-tuning of the study. All starts of a draw come one after another, so that what is done is in pairs."""

    start: str
    origin: str
    amount: Amount
    seed: int

    @property
    def name(self) -> str:
        return cell_name(self.start, self.amount, self.seed)


def _task(data: Dataset, labels: LabelTable, strategy: str | None, settings: Sequence[str]) -> tuple[Task, Pool]:
    """What to fine-tune on and how, if the test part can judge it."""
    config = load(FinetuneConfig, file=None, settings=settings, strategy=strategy)
    if config.tasks:
        raise ConfigError("tasks: a study compares starts on the findings of one labels file; leave tasks out")
    for key, instead in (("encoder", "--starts"), ("seed", "--seeds")):
        if key in config.model_fields_set:
            raise ConfigError(f"--set {key}: a study takes it from {instead}")
    if config.patience is not None:
        raise ConfigError(
            "--set patience: a study gives fine-tuning the labels that it draws and no val part; leave it out"
        )
    candidates(
        config.strategy, start="scans", dims=data.spec.dims, n_labels=1
    )  # a name that is not there is refused at once
    views = gentle_for(data.manifest["modality"])
    if "views" in config.model_fields_set:
        views = settled(config.views, views, dims=data.spec.dims)
    config = config.model_copy(update={"views": views})
    split = data.manifest["split"].to_numpy()
    test = np.flatnonzero((split == "test") & ~np.isnan(labels.values).all(axis=1)).astype(np.int64)
    for name, y in zip(labels.findings, labels.values[test].T, strict=True):
        if not both_classes(y):
            raise LabelError(
                f"{name}: the test part has {int((y == 1).sum())} labeled scans with it and {int((y == 0).sum())} "
                "without; a study is judged there and needs both, so label scans of the other kind"
            )
    pool = pool_of(labels, train=split == "train", patients=patients_of(data.manifest))
    return Task(data=data, labels=labels, test=test, config=config), pool


def _fine_tune_all(task: Task, pool: Pool, cells: Sequence[Cell], folder: Path) -> None:
    left = [each for each in cells if not is_done(folder, each.name)]
    done = len(cells) - len(left)
    if not left:
        say(f"all {len(cells)} fine-tunings were done by an earlier call")
        return
    try:
        say(_plan_in_words(task, pool, cells, left, folder))
        with progress("study", len(cells), unit="fine-tunings", start=done) as update:
            for cell in left:
                drawn = draw(pool, cell.amount, seed=cell.seed)
                with part_of_more():
                    outcome = fine_tune(task, cell.origin, drawn.rows, seed=cell.seed, work=folder / WORK)
                write_cell(folder, cell.name, drawn, outcome)
                done += 1
                update(done, last=f"{cell.start}, {cell.amount.name}, AUROC {np.mean(outcome.marks[-1].aurocs):.3f}")
    except (Stopped, KeyboardInterrupt):
        raise Stopped(f"study: stopped with {done} of {len(cells)} fine-tunings done in {folder}", again=()) from None


def _plan_in_words(task: Task, pool: Pool, cells: Sequence[Cell], left: Sequence[Cell], folder: Path) -> str:
    """What will be done and how long it will take, from a few steps of each kind."""
    say(f"timing a few steps of {len({each.start for each in left})} starts")
    kinds: dict[tuple[str, str], float] = {}
    with part_of_more():
        for cell in left:
            kind = (cell.start, cell.amount.name)
            if kind not in kinds:
                rows = draw(pool, cell.amount, seed=cell.seed).rows
                kinds[kind] = expected_seconds(task, cell.origin, rows, work=folder / WORK)
    seconds = sum(kinds[each.start, each.amount.name] for each in left)
    amounts = list(dict.fromkeys(each.amount.name for each in cells))
    names = list(dict.fromkeys(each.start for each in cells))
    earlier = f", {len(cells) - len(left)} of them done by an earlier call" if len(left) < len(cells) else ""
    return (
        f"study: {', '.join(names)} with {', '.join(amounts)}, {len({each.seed for each in cells})} draws each, on "
        f"{len(task.test):,} test scans: {len(cells)} fine-tunings{earlier}, about {clock(seconds)}"
    )


def _measured(
    task: Task, pool: Pool, plan: StudyConfig, infos: Sequence[StartInfo], cells: Sequence[Cell], folder: Path
) -> Measured:
    fits = [read_cell(folder, each.name, start=each.start, amount=each.amount, seed=each.seed) for each in cells]
    counts = {name: np.mean([each.n_labels for each in fits if each.labels == name]) for name in
              dict.fromkeys(each.labels for each in fits)}  # fmt: skip
    return Measured(
        findings=task.labels.findings,
        exclusive=task.labels.exclusive,
        y=task.labels.values[task.test].astype(np.float64),
        patients=patients_of(task.data.manifest)[task.test],
        starts=tuple(infos),
        labels=tuple(sorted(counts, key=lambda name: counts[name])),
        seeds=tuple(range(plan.seeds)),
        fits={(each.start, each.labels, each.seed): each for each in fits},
        context=_context(task, pool, plan),
    )


def _context(task: Task, pool: Pool, plan: StudyConfig) -> dict[str, str]:
    return {
        "dataset": str(task.data.folder),
        "labels": ", ".join(task.labels.files),
        "findings": ", ".join(task.labels.findings),
        "labeled scans of the train part": f"{len(pool.rows):,} of {len(np.unique(pool.patients)):,} patients",
        "labeled scans of the test part": f"{len(task.test):,}",
        "numbers of labels": ", ".join(each.name for each in plan.amounts),
        "draws of labels": f"{plan.seeds}, by patient, the same for every start",
        "fine-tuning": ", ".join(f"{key} {value}" for key, value in task.settings.items())
        or "the defaults for each start",
        "date": date.today().isoformat(),
    }


def _write_test_scans(task: Task, folder: Path) -> None:
    """The scans that the rows of the logits are of."""
    scans = task.data.manifest[["scan_id", "patient_id"]].iloc[task.test].reset_index(drop=True)
    values: dict[str, Any] = {
        name: pd.array(task.labels.values[task.test, f], dtype="Float32").astype("Int8")
        for f, name in enumerate(task.labels.findings)
    }
    with atomic_file(folder / "test_scans.csv") as temporary:
        pd.concat([scans, pd.DataFrame(values)], axis=1).to_csv(temporary, index=False)


def _say(report: StudyReport, folder: Path) -> None:
    for answer in answers(report):
        for sentence in answer.sentences:
            say(sentence)
    for caveat in report.caveats:
        say(f"note: {caveat}")
    say(f"study: {folder / 'study.html'}")
