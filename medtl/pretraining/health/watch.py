"""The checks during a run: figures, the alarm, the best weights, the picture, and when to stop."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medtl.data.dataset import Dataset
from medtl.data.preprocess import PreprocessSpec
from medtl.encoders.embed import BATCH, embed
from medtl.encoders.store import BEST, load_weights, save_encoder
from medtl.encoders.table import Encoder
from medtl.errors import RunError
from medtl.pretraining.draws import Draws
from medtl.pretraining.health.best import best_step, way_on
from medtl.pretraining.health.figures import alignment, rankme, spread, uniformity
from medtl.pretraining.health.inputs import check_unchanged, manifest_digest
from medtl.pretraining.health.picture import Scene, draw_health, grouping
from medtl.pretraining.health.plan import CheckPlan, evenly
from medtl.pretraining.health.probe import LabeledSet, patients_of
from medtl.pretraining.health.rules import (
    NO_GRADIENT,
    advice,
    checks_of,
    collapsed,
    flat,
    improvements,
    probed,
    read_lines,
    stalled,
    stands_still,
    without_gradient,
)
from medtl.pretraining.views import ViewsConfig, random_views
from medtl.progress import counted, say
from medtl.training.batches import Rows

DRAWING_SHARE = 0.008
"""Of the time so far that drawing may take while the run goes on."""
THOROUGH = 3
"""What a picture with the better map takes, in quick ones."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is being trained, as far as advice and captions depend on it."""

    method: str
    steps: int
    """How many are expected."""
    lr: float
    batch_size: int
    views: ViewsConfig
    seed: int
    patience: int | None
    history: tuple[str, ...]
    """What the start has learned from."""
    scans: int

    def learned(self, step: int) -> str:
        """What an encoder of this step has learned from, in words."""
        return f"{self.method} on {self.scans:,} scans, {counted(step, 'step')} of {self.batch_size}"


class Watch:
    """Looks at an encoder while it is trained. What was found is in `metrics.jsonl`, nothing is carried in memory.

    Make it before training starts or resumes: the encoder then is as it starts.

    Args:
        rows: the rows to learn from.
        folder: the run's.
        labeled: for the probe; None looks at no label.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: Dataset,
        rows: Rows,
        spec: PreprocessSpec,
        *,
        plan: CheckPlan,
        training: Training,
        folder: Path,
        labeled: LabeledSet | None,
    ) -> None:
        self._encoder, self._data, self._spec = encoder, data, spec
        self._plan, self._training, self._folder, self._labeled = plan, training, folder, labeled
        self._metrics, self._best = folder / "metrics.jsonl", folder / BEST
        self._sample = evenly(rows, plan.scans)
        self._seen = np.union1d(self._sample, labeled.rows) if labeled else self._sample
        self._digest = manifest_digest(data)
        self._began, self._spent, self._drawing, self._last_drawing = time.monotonic(), 0.0, 0.0, 0.5
        self._first_drawing = 0.0
        self._fresh, self._over, self._done, self._share = True, False, 0, 0.0
        with _Timed(self, "_spent"):
            self._at_start, self._now = self._look()
        self._scene = Scene(
            patients=patients_of(data.manifest)[self._sample],
            thumbnails=self._thumbnails,
            start=self._now,
            **grouping(data, self._sample, labeled),
        )

    def draw_first(self) -> float:
        """Draw the start, and say how many seconds the last check and picture will take, by what the first took."""
        with _Timed(self, "_first_drawing"):
            self._picture(thorough=False)
        return self._spent + self._first_drawing

    def after_step(self, done: int, share: float) -> dict[str, float]:
        """Figures to log where a check is due.

        Raises:
            RunError: the dataset was changed under the run, or the embeddings are not finite.
        """
        self._share = share
        if not self._plan.due(done, share):
            return {}
        with _Timed(self, "_spent"):
            check_unchanged(self._data, self._digest)
            figures, self._now = self._look()
        self._fresh = True
        return figures

    def enough(self, done: int, share: float) -> bool:
        """Judge a check once it is logged: True where it is time to stop.

        Raises:
            RunError: the network has collapsed, or there is no gradient.
        """
        self._done, self._share = done, share
        if not self._fresh:
            return self._over
        self._fresh = False
        with _Timed(self, "_spent"):
            if not checks_of(read_lines(self._metrics)):
                with self._metrics.open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"step": 0} | self._at_start) + "\n")
            checks = checks_of(read_lines(self._metrics))
            self._forget_what_a_kill_cut_off(checks)
            if what := self._alarm(checks):
                self._draw(last=True)
                raise RunError(f"{self._folder}: {what}")
            if self._is_best(checks) and checks[-1]["step"] == done:
                about = {"history": [*self._training.history, self._training.learned(done)], "step": done}
                save_encoder(self._best, self._encoder, spec=self._spec, about=about)
            self._over = stalled(checks, patience=self._training.patience)
        self._draw(last=False)
        return self._over

    def finish(self, *, seconds_left: float | None = None) -> dict[str, Any]:
        """Leave the encoder that is to be written: with a probe that of the best check, else the last.

        Args:
            seconds_left: of the run's minutes, which decide how thorough the last picture is; None does not count.

        Returns:
            What `encoder.json` says about the end: why, after which step, and which step the weights are of.
        """
        checks = checks_of(read_lines(self._metrics))
        kept, watched = self._done, "AUROC of the probes" if self._labeled else "RankMe or uniformity"
        if self._labeled and (found := best_step(self._folder)) is not None:
            load_weights(self._encoder.net, self._best / "encoder.safetensors", error=RunError)
            kept = found
            best, start = max(probed(check) for check in checks[1:]), probed(checks[0])
            say(f"AUROC of the probes {best:.3f} at step {kept:,}, {start:.3f} at the start; its encoder is kept")
            if best <= start:
                say("no check was better than the start: on these labels pretraining has not helped yet")
        if self._over and self._share < 1:
            reason = f"no better {watched} in {self._training.patience} checks"
            say(f"stopped after step {self._done:,}, at {100 * self._share:.0f} % of the run: {reason}")
        else:
            reason = "to the end"
        self._draw(last=True, thorough=seconds_left is None or seconds_left > THOROUGH * self._first_drawing)
        total, drawing = time.monotonic() - self._began, self._drawing + self._first_drawing
        say(
            f"health checks took {100 * self._spent / total:.1f} % of the time, their pictures "
            f"{100 * drawing / total:.1f} %"
        )
        return {"reason": reason, "step": self._done, "best_step": kept}

    def tidy(self) -> None:
        """Remove the weights that were kept for the case; call it once the encoder is written."""
        shutil.rmtree(self._best, ignore_errors=True)

    def _look(self) -> tuple[dict[str, float], Tensor]:
        """All figures, and the embeddings of the sample."""
        seen = embed(self._encoder, self._data, self._seen, self._spec)
        if not torch.isfinite(seen).all():
            raise RunError(
                f"{self._folder}: the embeddings are not finite; {way_on(self._folder, lr=self._training.lr)}"
            )
        now = seen[np.searchsorted(self._seen, self._sample)]
        figures = {
            "rankme": round(rankme(now), 2),
            "spread": round(spread(now), 4),
            "alignment": round(alignment(*self._two_views()), 4),
            "uniformity": round(uniformity(now), 4),
        }
        if self._labeled:
            x = seen[np.searchsorted(self._seen, self._labeled.rows)].double().numpy()
            figures["knn_auroc"] = round(self._labeled.knn_auroc(x), 4)
            figures["probe_auroc"] = round(self._labeled.probe_auroc(x), 4)
        return figures, now

    def _two_views(self) -> tuple[Tensor, Tensor]:
        """Embeddings of two views of half the sample, the same views at every check."""
        rows = self._sample[::2]
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        encoder, where = self._encoder, next(self._encoder.parameters()).device
        training = encoder.training
        encoder.eval()
        with torch.no_grad():
            for first in range(0, len(rows), BATCH):
                stored = torch.from_numpy(self._data.pixels(rows[first : first + BATCH])).to(where)
                images = self._spec.network_input(stored)
                draws = Draws("health", self._training.seed, first, total=len(images), device=where)
                for view, part in enumerate(parts):
                    views = random_views(images, self._training.views, draws.named(f"{view}"), colour=self._spec.colour)
                    part.append(encoder(views).cpu())
        encoder.train(training)
        return torch.cat(parts[0]), torch.cat(parts[1])

    def _is_best(self, checks: list[Any]) -> bool:
        """Whether the latest check's weights are to be kept: the best by the probe, else the last healthy one."""
        if len(checks) < 2:
            return False
        if self._labeled:
            return improvements(checks)[-1] == int(checks[-1]["step"])
        return not flat(checks[-1], checks[0]) and not without_gradient(checks[-1])

    def _forget_what_a_kill_cut_off(self, checks: list[Any]) -> None:
        """Best weights of a step behind the checkpoint that a run goes on from are of a run that is no more."""
        if (best := best_step(self._folder)) is not None and best > checks[-1]["step"]:
            self.tidy()

    def _alarm(self, checks: list[Any]) -> str:
        """What has gone wrong for good and what to do; empty where the run may go on."""
        start, now, training = checks[0], checks[-1], self._training
        if stands_still(checks):
            steps = f"{checks[-2]['step']:,} and {now['step']:,}"
            return f"the gradient was 0 at steps {steps}, so nothing is learned; {NO_GRADIENT}"
        if not collapsed(checks, steps=training.steps, method=training.method):
            return ""
        kept = best_step(self._folder)
        before = "" if kept is None else f"; the encoder of step {kept:,}, before it, is in {self._best}"
        todo = advice(training.method, lr=training.lr, batch_size=training.batch_size)
        return (
            f"the network collapsed by step {now['step']:,}: all scans look alike ({flat(now, start)}); {todo}{before}"
        )

    def _draw(self, *, last: bool, thorough: bool = True) -> None:
        """Draw at the end, and meanwhile as often as it costs next to nothing."""
        elapsed = time.monotonic() - self._began
        if not last and self._drawing + self._last_drawing > DRAWING_SHARE * elapsed:
            return
        before = self._drawing
        with _Timed(self, "_drawing"):
            self._picture(thorough=last and thorough)
        self._last_drawing = self._drawing - before

    def _picture(self, *, thorough: bool) -> None:
        title = f"{self._encoder.name}, {self._training.method}"
        lines = read_lines(self._metrics) or [{"step": 0} | self._at_start]
        draw_health(
            self._folder / "health.png", lines, self._scene, self._now, title=title, method=self._training.method,
            steps=max(self._done, self._training.steps), thorough=thorough,
        )  # fmt: skip

    def _thumbnails(self, places: Rows) -> npt.NDArray[np.uint8]:
        """Scans of the sample as pictures of 96 px or so: colour or the first channel, of volumes the central slice."""
        stored = self._data.pixels(self._sample[places])
        blocks = np.moveaxis(stored, 1, -1) if self._spec.colour else stored[:, 0]
        if stored.ndim == 5:
            blocks = blocks[:, blocks.shape[1] // 2]
        step = max(1, stored.shape[-1] // 96)
        small = blocks[:, ::step, ::step]
        return small if small.dtype == np.uint8 else (small // 257).astype(np.uint8)


class _Timed:
    """Adds the time spent inside to a counter."""

    def __init__(self, owner: Watch, counter: str) -> None:
        self._owner, self._counter = owner, counter

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        counted = getattr(self._owner, self._counter) + time.monotonic() - self._began
        setattr(self._owner, self._counter, counted)
