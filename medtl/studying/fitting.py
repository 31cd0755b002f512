"""One fine-tuning of a study: from a start and drawn rows to logits of the test part, watched on the way."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtl.data.dataset import Dataset
from medtl.data.labels import LabelTable
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.store import Start, start_from
from medtl.evaluation.metrics import Floats, auroc
from medtl.evaluation.study.areas import scores_of
from medtl.evaluation.study.results import Mark
from medtl.finetuning.choose import choose
from medtl.finetuning.config import FinetuneConfig, filled_in, strategies_for
from medtl.finetuning.fit import fit
from medtl.finetuning.folds import FOLDS
from medtl.finetuning.parts import MOST_LABELS, Parts
from medtl.finetuning.strategies import STRATEGIES
from medtl.inference.bundle import Classifier
from medtl.inference.runtime import READ_AT_ONCE, logits_of_rows
from medtl.studying.draws import Rows

SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the steps, when the test part is looked at."""
LOOK_AT = 500
"""Test scans for the looks on the way, evenly spaced; the end is judged on all."""
TRIAL_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every fine-tuning of a study has in common.

    Args:
        data, labels: the scans and what is known of them.
        test: (N,) labeled rows of the test part.
        config: settings of fine-tuning; `encoder` and `seed` are each fine-tuning's own.
    """

    data: Dataset
    labels: LabelTable
    test: Rows
    config: FinetuneConfig

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for of fine-tuning, the same for every start."""
        return self.config.model_dump(mode="json", exclude={"encoder", "seed"}, exclude_defaults=True)

    @property
    def looks(self) -> Rows:
        """Places in `test` of the scans to look at on the way."""
        count = min(LOOK_AT, len(self.test))
        return np.linspace(0, len(self.test) - 1, count).astype(np.int64)

    def start(self, origin: str, *, seed: int = 0) -> Start:
        """The start anew; only the random one takes a network's name, the others bring theirs."""
        torch.manual_seed(seed)
        network = self.config.network if origin == "random" else None
        return start_from(origin, spec=self.data.spec, network=network, input_px=self.config.input_px, enlarge=True)

    def logits(self, classifier: Classifier, spec: PreprocessSpec, rows: Rows) -> Floats:
        """(N, F) of rows of the manifest."""
        flip = self.config.flip_average
        return logits_of_rows(classifier, self.data, rows, spec, flip_average=flip).numpy()

    def aurocs(self, logits: Floats, places: Rows) -> tuple[float, ...]:
        """(F,) of test scans at `places`."""
        y = self.labels.values[self.test[places]]
        scores, known = scores_of(logits, exclusive=self.labels.exclusive), ~np.isnan(y)
        return tuple(auroc(y[known[:, f], f], scores[known[:, f], f]) for f in range(y.shape[1]))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A fine-tuning that is done: logits (N, F) of the test part, and how it went."""

    logits: Floats
    strategy: str
    steps: int
    usual_steps: int
    minutes: float
    marks: tuple[Mark, ...]


class Watch:
    """Looks at the test part at a few moments, changes nothing, and does not count the time that it takes itself."""

    def __init__(self, task: Task, spec: PreprocessSpec) -> None:
        self._task, self._spec = task, spec
        self._due: list[int] = []
        self.marks: list[Mark] = []
        self._began, self._looking = time.monotonic(), 0.0

    def look_during(self, steps: int) -> None:
        """Plan the looks."""
        self._due = [math.ceil(share * steps) for share in SHARES[:-1]]

    def __call__(self, step: int, classifier: Classifier) -> None:
        """Called before the first step and after each."""
        while self._due and step >= self._due[0]:
            self._due.pop(0)
            self.marks.append(self._mark(step, classifier))

    def minutes(self) -> float:
        """Since the start."""
        return (time.monotonic() - self._began - self._looking) / 60

    def _mark(self, step: int, classifier: Classifier) -> Mark:
        minutes, began = self.minutes(), time.monotonic()
        training = classifier.training
        classifier.eval()
        places = self._task.looks
        logits = self._task.logits(classifier, self._spec, self._task.test[places])
        classifier.train(training)
        self._looking += time.monotonic() - began
        return Mark(step=step, minutes=minutes, aurocs=self._task.aurocs(logits, places))


def fine_tune(task: Task, origin: str, rows: Rows, *, seed: int, work: Path) -> Outcome:
    """Fine-tune a start on rows of the train part as `medtl finetune` does, and judge it on the test part.

    No labels are given to calibrate with: what fine-tuning chooses, it chooses on the scans that were drawn.

    Args:
        work: a folder for the while.
    """
    start, plan = _start(task, origin, seed=seed)
    watch = Watch(task, start.spec)
    parts = Parts(fit=rows, calibrate=np.empty(0, np.int64))
    work.mkdir(parents=True, exist_ok=True)
    try:
        names = strategies_for(plan, start, len(rows))
        usual = _usual_steps(plan, start, names, len(rows))
        if len(names) > 1:
            chosen = choose(task.data, task.labels, parts, start, plan, work, resume=False)
            plan = plan.model_copy(update={"strategy": chosen.strategy})
        plan = plan.model_copy(update=filled_in(plan, start, len(rows)))
        assert plan.steps is not None
        watch.look_during(plan.steps)
        torch.manual_seed(seed)
        classifier, said = fit(task.data, task.labels, parts, start, plan, work, resume=False, watch=watch)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    minutes = watch.minutes()
    logits = task.logits(classifier, start.spec, task.test)
    end = Mark(step=said["steps"], minutes=minutes, aurocs=task.aurocs(logits[task.looks], task.looks))
    return Outcome(
        logits=logits, strategy=plan.strategy, steps=said["steps"], usual_steps=usual, minutes=minutes,
        marks=(*watch.marks, end),
    )  # fmt: skip


def _usual_steps(plan: FinetuneConfig, start: Start, names: Sequence[str], n_labels: int) -> int:
    """The steps of the default, where the settings ask for fewer; else 0, as where a head is all that is trained."""
    if plan.steps is None or all(STRATEGIES[name].trains == "head" for name in names):
        return 0
    usual = int(filled_in(plan.model_copy(update={"steps": None}), start, n_labels)["steps"])
    return usual if plan.steps < usual else 0


def expected_seconds(task: Task, origin: str, rows: Rows, *, work: Path) -> float:
    """How long `fine_tune` will take, from a few steps of it.

    Args:
        rows: as many as it will learn from.
    """
    start, plan = _start(task, origin, seed=0)
    names = strategies_for(plan, start, len(rows))
    compared = len(names) > 1 and len(rows) <= MOST_LABELS
    slowest = next((name for name in names if STRATEGIES[name].trains != "head"), names[0])
    plan = plan.model_copy(update={"strategy": slowest})
    plan = plan.model_copy(update=filled_in(plan, start, len(rows)))
    assert plan.steps is not None
    few = plan.model_copy(update={"steps": TRIAL_STEPS})
    parts = Parts(fit=rows, calibrate=np.empty(0, np.int64))
    moments = [time.monotonic()]
    work.mkdir(parents=True, exist_ok=True)
    try:
        classifier, _ = fit(
            task.data, task.labels, parts, start, few, work, resume=False,
            watch=lambda step, _: moments.append(time.monotonic()),
        )  # fmt: skip
    finally:
        shutil.rmtree(work, ignore_errors=True)
    began = time.monotonic()
    if len(moments) > 1:
        # The first step also warms up.
        fitting = moments[1] - moments[0] + plan.steps * (moments[-1] - moments[2]) / (TRIAL_STEPS - 1)
    else:
        fitting = began - moments[0]
    some = task.test[: 2 * READ_AT_ONCE]
    task.logits(classifier, start.spec, some)
    looks = len(task.test) + (len(SHARES) - 1) * len(task.looks)
    # Folds together learn from every scan as often as FOLDS - 1 fine-tunings do.
    return fitting * (FOLDS if compared else 1) + (time.monotonic() - began) / len(some) * looks


def _start(task: Task, origin: str, *, seed: int) -> tuple[Start, FinetuneConfig]:
    """A start, and the settings for it: random weights take "full" where a strategy would keep what they know."""
    start = task.start(origin, seed=seed)
    plan = task.config.model_copy(update={"encoder": origin, "seed": seed})
    unsuited = not start.pretrained and plan.strategy in STRATEGIES and STRATEGIES[plan.strategy].keeps_learned
    return start, plan.model_copy(update={"strategy": "full"}) if unsuited else plan
