"""`medtl finetune`: a detector from few labels, calibrated, with its operating point, as a bundle."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from medtl import torchrun
from medtl.config import load
from medtl.data.dataset import open_dataset
from medtl.data.label_rows import LabelFiles
from medtl.data.tasks import Task
from medtl.encoders.embed import embed
from medtl.encoders.store import start_from
from medtl.errors import ConfigError, RunError
from medtl.evaluation.conformal import uncertain_words
from medtl.files import check_replaceable
from medtl.finetuning.calibrate import Calibration, calibrate, calibrated_from
from medtl.finetuning.choose import choose
from medtl.finetuning.config import FinetuneConfig, filled_in, origins, usual_start
from medtl.finetuning.fit import fit
from medtl.finetuning.parts import prevalences, remarks, split_labeled
from medtl.finetuning.tasks import labels_for
from medtl.inference.bundle import MARKER, Bundle, write_bundle
from medtl.inference.population import population
from medtl.inference.reference import thumbnails_of
from medtl.pretraining.presets import gentle_for, settled
from medtl.progress import say
from medtl.training.memory import naming_lack_of_memory
from medtl.training.runs import open_run, save_config

OUT_OF_FOLD = "scans to learn from, each judged by a network that had not seen its patient (out of fold)"


@naming_lack_of_memory("lower batch_size or input_px")
def finetune(
    dataset: str | Path,
    *,
    out: str | Path,
    labels: LabelFiles = None,
    encoder: str | Path | None = None,
    strategy: str | None = None,
    semi: str | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """Train a detector on the labeled scans of a dataset and write it as a bundle.

    From random weights the whole network is trained, of few labeled images a head on the frozen network alone. From
    pretrained ones the head is fitted first, then the whole network gently, with its normalisation statistics frozen
    (LP-FT, Kumar 2022, arXiv 2202.10054), with few labels averaged with what it was before; of few volumes it is the
    head alone. Another strategy is taken where it is asked for or proves better on scans not seen.

    Args:
        dataset: the folder that `ingest` left.
        out: the bundle's folder; an earlier bundle in it is replaced once the new one is complete.
        labels: a labels file, or several of which a later one corrects the earlier; None takes the one in the dataset.
        encoder: "random", "imagenet", the folder of a pretraining run or of a bundle, or a file with a ResNet's
            weights; None takes the config's, by default "imagenet" for images, few labeled volumes and
            strategies that keep what was learned. With `semi="distil"` several, joined by commas.
        strategy: a name of the table `medtl.strategies()`, or "auto"; None takes the config's, "auto" by default.
        semi: how the scans without labels take part: "none", "fixmatch", "mixmatch", "mean-teacher", "distil" or
            "auto"; None takes the config's, "none" by default.
        resume: go on with an interrupted run.
        config: a YAML file with any of the keys of `FinetuneConfig`.
        settings: strings `key=value`, as `--set` on the command line.

    Returns:
        The bundle's folder.

    Raises:
        MedtlError: see the message.
    """
    if torchrun.count() > 1:
        raise ConfigError("fine-tuning runs in one process; start it without torchrun")
    data, folder = open_dataset(Path(dataset)), Path(out)
    asked = load(
        FinetuneConfig,
        file=Path(config) if config else None,
        settings=settings,
        encoder=None if encoder is None else str(encoder),
        strategy=strategy,
        semi=semi,
    )
    table = labels_for(data, labels, asked)
    parts = split_labeled(data, table)
    notes = remarks(data, table, parts)
    for note in notes:
        say(note)
    check_replaceable(folder, marker=MARKER)
    if asked.encoder and len(origins(asked.encoder)) != 1 and asked.semi != "distil":
        raise ConfigError(f"encoder: '{asked.encoder}' is not one start; several, joined by commas, need --semi distil")
    views = gentle_for(data.manifest["modality"])
    if "views" in asked.model_fields_set:
        views = settled(asked.views, views, dims=data.spec.dims)
    asked = asked.model_copy(update={"views": views})
    work = folder.parent / f".{folder.name}.run"
    plan = open_run(work, asked, resume=resume, finished=MARKER)
    torch.manual_seed(plan.seed)
    encoder = plan.encoder or usual_start(plan, dims=data.spec.dims, n_labels=len(parts.fit))
    start = start_from(origins(encoder)[0], spec=data.spec, network=plan.network, input_px=plan.input_px, enlarge=True)
    plan = plan.model_copy(update={"encoder": encoder})
    if plan.tasks != asked.tasks:
        raise RunError(f"{work}: was started with other tasks; resume with the --config that it was started with")
    save_config(work, plan)
    choice = choose(data, table, parts, start, plan, work, resume=resume)
    plan = plan.model_copy(update={"strategy": choice.strategy})
    plan = plan.model_copy(update=filled_in(plan, start, len(parts.fit)))
    save_config(work, plan)
    classifier, said = choice.fitted or fit(data, table, parts, start, plan, work, resume=resume)
    say("calibrating")
    if choice.out_of_fold is None:
        chosen = calibrate(classifier, data, table, parts, start.spec, flip_average=plan.flip_average)
    else:
        others = choice.out_of_fold
        chosen = calibrated_from(
            torch.from_numpy(others.logits),
            table,
            others.rows,
            patients=data.patients,
            shares=prevalences(table, parts.labeled),
            where=OUT_OF_FOLD,
        )
    by_task = _by_task(table.tasks, chosen)
    bundle = Bundle(
        name=folder.name,
        findings=table.findings,
        exclusive=table.exclusive,
        tasks=table.tasks,
        thresholds=chosen.thresholds,
        temperatures=chosen.temperatures,
        flip_average=plan.flip_average,
        spec=start.spec,
        network=start.encoder.name,
        input_px=start.encoder.input_px,
        training=said
        | {"choice": choice.why, "remarks": "; ".join(notes) or "none", "dataset": data.fingerprint}
        | {"label_files": ", ".join(table.files)}
        | {f"task {task.name}": words for task, words in by_task.items()}
        | {"pictures": "small pictures of the labeled scans are in the bundle" if plan.thumbnails else "none kept"},
        calibration=chosen.note,
        caveats=chosen.caveats,
        bands=chosen.bands,
        observed=chosen.observed,
        population=population(data.manifest.iloc[parts.fit]),
        levels=classifier.encoder.widths if classifier.encoder.multilevel else (),
    )
    rows = parts.fit
    if folder.exists():
        say(f"{folder}: the earlier bundle is replaced")
    written = write_bundle(
        folder,
        bundle,
        classifier,
        embeddings=embed(classifier.encoder, data, rows, start.spec),
        labels=torch.from_numpy(table.values[rows]),
        scan_ids=[str(name) for name in data.manifest["scan_id"].to_numpy()[rows]],
        patients=[str(name) for name in data.manifest["patient_id"].to_numpy()[rows]],
        thumbnails=thumbnails_of(data, rows) if plan.thumbnails else None,
    )
    shutil.rmtree(work, ignore_errors=True)
    say(f"calibration: {chosen.note}")
    for finding in table.findings:
        said_of = uncertain_words(chosen.bands.get(finding), chosen.thresholds[finding])
        say(f"{finding}: operating point {chosen.thresholds[finding]:.3f}; {said_of}")
        for caveat in chosen.caveats.get(finding, ()):
            say(f"{finding}: {caveat}")
    for task, words in by_task.items():
        say(f"task {task.name}: {words}")
    say(f"bundle {written.bundle_id}: {folder}")
    return folder


def _by_task(tasks: Sequence[Task], chosen: Calibration) -> dict[Task, str]:
    """What each of several tasks is and how well it ranks the scans that were used to calibrate, for people."""
    if len(tasks) == 1:
        return {}
    words = {}
    for task in tasks:
        value = chosen.of_task(task)
        found = (
            f"mean AUROC {value:.3f} on the scans that calibrate" if value == value else "not judged: too few labels"
        )
        words[task] = f"{'one of ' if task.exclusive else ''}{', '.join(task.findings)}; {found}"
    return words
