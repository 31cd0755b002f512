"""How far training has come: by steps where their number is given, by the clock where a time is given."""

import time
from typing import Any

from medtl.training.together import from_first


class Pace:
    """The share of the work that is done, 0..1, on which schedules depend.

    With `seconds`, a machine that becomes slower makes fewer steps, and learning rates still fall to their end: such a
    run is as long as asked, but not repeatable to the bit. With `steps` it is. Where several processes train
    together, the first one's clock counts.

    Args:
        steps: how many steps; None: as many as fit.
        seconds: how long; None: as long as it takes. One of the two is given.
    """

    def __init__(self, *, steps: int | None = None, seconds: float | None = None) -> None:
        if (steps is None) == (seconds is None):
            raise ValueError("give steps or seconds")
        self.steps, self.seconds = steps, seconds
        self.done, self.share, self.spent = 0, 0.0, 0.0
        self._at = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether all is done."""
        return self.share >= 1.0

    @property
    def expected(self) -> int:
        """How many steps there will be in all, as far as it can be told."""
        if self.steps is not None:
            return self.steps
        return self.done if self.finished else max(self.done + 1, round(self.done / max(self.share, 1e-6)))

    def begin(self) -> None:
        """Start the clock."""
        self._at = time.monotonic()

    def step(self) -> None:
        """Another step is done."""
        self.done += 1
        now = time.monotonic()
        passed, self._at = now - self._at, now
        if self.steps is not None:
            self.spent += passed
            self.share = min(1.0, self.done / self.steps)
            return
        self.spent, self.share = from_first(lambda: self._after(passed))

    def _after(self, passed: float) -> tuple[float, float]:
        """What is spent and done; another step is begun only where most of it fits."""
        assert self.seconds is not None
        spent = self.spent + passed
        another = spent / self.done
        return spent, 1.0 if spent + another / 2 >= self.seconds else spent / self.seconds

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"done": self.done, "spent": self.spent, "share": self.share}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.done, self.spent, self.share = int(state["done"]), float(state["spent"]), float(state["share"])
