"""The labels of several tasks as one table."""

import numpy as np

from medtl.config import closest
from medtl.data.dataset import Dataset
from medtl.data.label_rows import LabelFiles, Values, files_of
from medtl.data.labels import LabelTable
from medtl.data.tasks import Task
from medtl.errors import ConfigError, LabelError
from medtl.finetuning.config import FinetuneConfig, TaskConfig, semi_of
from medtl.progress import say


def labels_for(data: Dataset, labels: LabelFiles, plan: FinetuneConfig) -> LabelTable:
    """The labels to learn from: those of a file, or those of all tasks side by side.

    Every file is joined to the same dataset, whose parts are by patient, so that nobody who teaches one task judges
    another; a file that puts a patient elsewhere is refused.

    Raises:
        ConfigError: tasks and a labels file, a finding in two tasks, or scans without labels beside exclusive tasks.
        LabelError: a file that cannot be used, a column that it does not have, or classes that do not exclude each
            other.
    """
    if not plan.tasks:
        return data.labels(labels)
    if files_of(labels):
        raise ConfigError(
            "tasks: each names its own labels; leave --labels out. A task's labels may be several files, of which a "
            "later one corrects the earlier: labels: [labels.csv, verdicts.csv]"
        )
    tables = [_table(data, name, asked) for name, asked in plan.tasks.items()]
    owner: dict[str, str] = {}
    for table in tables:
        for finding in table.findings:
            if owner.setdefault(finding, table.tasks[0].name) != table.tasks[0].name:
                raise ConfigError(
                    f"tasks: {finding} is in {owner[finding]} and in {table.tasks[0].name}; keep it in one of them"
                )
    merged = LabelTable(
        findings=tuple(owner),
        values=np.concatenate([table.values for table in tables], axis=1),
        tasks=tuple(task for table in tables for task in table.tasks),
        files=tuple(dict.fromkeys(file for table in tables for file in table.files)),
    )
    semi = semi_of(plan)
    if len(merged.tasks) > 1 and (semi == "mixmatch" or (semi != "none" and any(t.exclusive for t in merged.tasks))):
        raise ConfigError(
            f"semi '{plan.semi}' does not take these tasks: mixmatch takes one, the others several where no "
            "task's findings exclude each other; leave --semi out"
        )
    return merged


def _table(data: Dataset, name: str, asked: TaskConfig) -> LabelTable:
    """The labels of one task."""
    table = data.labels(asked.labels)
    wanted = asked.findings or table.findings
    if unknown := [finding for finding in wanted if finding not in table.findings]:
        raise LabelError(
            f"tasks.{name}: {', '.join(asked.labels) or 'the labels of the dataset'} has no column '{unknown[0]}'"
            f"{closest(unknown[0], table.findings)}"
        )
    values = table.values[:, [table.findings.index(finding) for finding in wanted]]
    if asked.kind == "exclusive":
        values = as_classes(values, name=name, scans=[str(path) for path in data.manifest["path"]])
    exclusive = (
        LabelTable(findings=wanted, values=values).exclusive if asked.kind is None else asked.kind == "exclusive"
    )
    return LabelTable(
        findings=wanted,
        values=values,
        tasks=(Task(name=name, findings=wanted, exclusive=exclusive),),
        files=table.files,
    )


def as_classes(values: Values, *, name: str, scans: list[str]) -> Values:
    """Labels of findings of which exactly one holds, completed: where one is there the others are not.

    A scan of which only absences are known is left out, unless all but one are absent.

    Args:
        values: (N, F) of 0, 1 or NaN.
        name: of the task, for messages.
        scans: (N,) likewise.

    Raises:
        LabelError: a scan with two of the findings, or known to have none; fewer than two findings.
    """
    if values.shape[1] < 2:
        raise LabelError(f"tasks.{name}: classes that exclude each other are two at least; kind is multi-label for one")
    present, absent = (values == 1).sum(axis=1), (values == 0).sum(axis=1)
    for wrong, words in ((present > 1, "more than one"), (absent == values.shape[1], "none")):
        if wrong.any():
            raise LabelError(
                f"tasks.{name}: {scans[int(wrong.argmax())]} has {words} of the classes; with kind exclusive each "
                "labeled scan has exactly one"
            )
    completed = np.full_like(values, np.nan)
    completed[present == 1] = (values[present == 1] == 1).astype(np.float32)
    last = (present == 0) & (absent == values.shape[1] - 1)
    completed[last] = np.isnan(values[last]).astype(np.float32)
    left_out = int(((absent > 0) & np.isnan(completed).all(axis=1)).sum())
    if left_out:
        say(f"tasks.{name}: {left_out:,} scans are known by absences only, which name no class: left out")
    return completed
