"""Teaching a finding from the page: in the background, from the cases that readers settled, into a new bundle."""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import medtl
from app.desk import Desk
from app.panels import plain
from medtl.data.scan import Scan
from medtl.errors import MedtlError, ReviewError, ScanError
from medtl.inference.bundle import Bundle, read_weights
from medtl.review import cases
from medtl.review.users import User

log = logging.getLogger("medtl.page")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A finding that was taught.

    Args:
        finding: its name.
        folder: the new bundle's.
        bundle: what it knows, says of the finding, and warns of.
        seconds: how long it took.
        left_out: marked cases whose scan could not be read.
    """

    finding: str
    folder: Path
    bundle: Bundle
    seconds: float
    left_out: tuple[int, ...]


class Teacher:
    """Teaches one finding at a time, and goes on when the page that asked is closed.

    Args:
        desk: reads the scans of cases.
        folder: where the bundle at work lies; the new ones come to lie beside it.
    """

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.folder = folder.absolute()
        self._desk = desk
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="teach")
        self._work: Future[Lesson] | None = None
        self._doing = ""

    def begin(self, finding: str, labels: Mapping[int, int], *, by: User) -> None:
        """Begin to teach.

        Args:
            labels: by case, 1 where the finding is there, 0 where it is not.

        Raises:
            ReviewError: another finding is being taught.
        """
        if self.busy():
            raise ReviewError(f"{self._doing}; wait until this is done")
        self._doing = f"Teaching {plain(finding)} from {len(labels)} cases"
        self._work = self._worker.submit(self._teach, finding, dict(labels), by)

    def busy(self) -> str:
        """What is being done; empty where nothing is."""
        return self._doing if self._work is not None and not self._work.done() else ""

    def wait(self, seconds: float) -> None:
        """Return when it is done, or after so long."""
        if self._work is not None:
            wait([self._work], timeout=seconds)

    def lesson(self) -> Lesson | None:
        """The last finding that was taught since the server was started.

        Raises:
            ReviewError: it could not be taught; the message says why.
        """
        if self._work is None or not self._work.done():
            return None
        problem = self._work.exception()
        if problem is None:
            return self._work.result()
        if isinstance(problem, MedtlError):
            raise ReviewError(f"not taught: {problem}") from None
        if isinstance(problem, OSError):
            raise ReviewError(f"not taught: {self.folder.parent}: cannot be written ({problem.strerror})") from None
        log.error("a finding could not be taught", exc_info=problem)
        raise ReviewError("not taught: medtl failed; the server's log says where") from None

    def close(self) -> None:
        """End when what is being taught is done."""
        self._worker.shutdown(wait=True)

    def _teach(self, finding: str, labels: Mapping[int, int], by: User) -> Lesson:
        began, left_out = time.monotonic(), list[int]()
        known, _ = read_weights(self.folder)
        at_work = self._desk.detector.bundle.bundle_id
        if known.bundle_id != at_work:
            raise ReviewError(
                f"{self.folder} holds bundle {known.bundle_id} now, and bundle {at_work} is at work here; start "
                "medtl serve again first"
            )

        def examples() -> Iterator[tuple[Scan, int]]:
            for case_id, label in labels.items():
                try:
                    yield self._desk.pixels(cases.get(self._desk.store, case_id, by=by)), label
                except ScanError:
                    left_out.append(case_id)

        out = medtl.teach(self.folder, examples(), out=self._unused(finding), finding=finding)
        bundle, _ = read_weights(out)
        took = time.monotonic() - began
        return Lesson(finding=finding, folder=out, bundle=bundle, seconds=took, left_out=tuple(left_out))

    def _unused(self, finding: str) -> Path:
        """BUNDLE-FINDING, or with a number where something has that name already."""
        stem = f"{self.folder.name}-" + re.sub(r"[^\w-]+", "_", finding)
        names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
        return next(path for name in names if not (path := self.folder.with_name(name)).exists())
