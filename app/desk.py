"""Scans in memory: of the cases that are read next, and of uploads. Old ones give way to new ones."""

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import joblib
import numpy as np

from app.case import NETWORK, Case, new_case
from app.files import failed_on, read_recorded, recorded
from app.priors import others_of
from app.turns import Turn, Turns
from medtl.data.scan import Scan
from medtl.data.sources import read_uploads
from medtl.errors import ConfigError, ReviewError, ScanError
from medtl.inference.prediction import FindingScore, Prediction
from medtl.inference.runtime import Detector
from medtl.review import cases, records, verdicts
from medtl.review.export import settled
from medtl.review.store import ReviewStore
from medtl.review.users import User

log = logging.getLogger("medtl.page")
LARGEST_BYTES = 2**30
"""Pixels that are kept of uploads: about 60 radiographs of 2048 x 2048."""
MOST_AHEAD = 24
"""Cases that are read ahead at a time: one for each reader at work, and some that were taken by another."""
ARRIVES_S = 0.5
"""Reading ahead begins so long after a case was opened: its answer is on its way, and needs the processor first."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A case with its scan, or with the reason why the scan cannot be shown.

    Args:
        pixels: the scan, while the detector is still at work on it.
    """

    stored: records.Case
    pixels: Scan | None = None
    scan: Case | None = None
    problem: ScanError | None = None


Draw = Callable[[Sheet], None]


class Opening:
    """The sheets of a case: its pixels, then all of it. Each is made once, by whoever needs it first.

    Args:
        stored: the case as it was when this began.
        steps: makes them.
    """

    def __init__(self, stored: records.Case, steps: Iterator[Sheet]) -> None:
        self.stored, self._steps = stored, steps
        self._made: list[Sheet] = []
        self._lock = threading.Lock()
        self.ahead = True
        """Whether it is still to be read ahead."""

    def sheet(self, place: int) -> Sheet:
        """The sheet at this place; there is none after one without pixels."""
        with self._lock:
            if place == len(self._made):
                lost = Sheet(stored=self.stored, problem=failed_on(self.stored.path))  # the step before raised
                self._made.append(next(self._steps, lost))
            return self._made[place]

    def last(self) -> Sheet | None:
        """The last sheet, once all are made."""
        return self._made[-1] if self._made and self._made[-1].pixels is None else None

    def is_of_use(self, stored: records.Case) -> bool:
        """Whether who opens the case, as it is now, can be shown these sheets."""
        last = self.last()
        if last is None:
            return self.stored.scores == stored.scores
        return last.stored.scores == stored.scores and last.problem is None


class Desk:
    """Brings the scan of a case, from a file, from an upload, or read ahead by a thread of its own.

    Args:
        readings: how many readers have to read a case that is uploaded.

    `turns` are those of the readers at work.
    """

    def __init__(self, detector: Detector, store: ReviewStore, *, readings: int = 1) -> None:
        self.detector, self.store, self.readings = detector, store, readings
        self.turns = Turns(joblib.cpu_count())
        self._uploads: OrderedDict[int, Prediction] = OrderedDict()
        self._ahead: OrderedDict[int, Opening] = OrderedDict()
        self._waits: dict[int, threading.Timer] = {}
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._lock, self._closed = threading.Lock(), False

    def open(self, stored: records.Case, *, by: User, draw: Draw) -> Iterator[Sheet]:
        """A case with its pixels, and then with what the detector says and the heatmap of its leading finding.

        A case that was read ahead comes with all of it at once; one that is being read ahead is not begun anew.

        Args:
            draw: draws what it is given, so that it is there when it is shown.
        """
        with self._lock:
            opening = self._ahead.pop(stored.id, None)
            waits = self._waits.pop(stored.id, None)
            if waits is not None:  # read ahead now it would be read twice
                waits.cancel()
        if opening is not None:
            opening.ahead = False
        if opening is None or not opening.is_of_use(stored):
            opening = Opening(stored, self._read(stored, by, draw))
        sheet = opening.last()
        if sheet is None:
            with self.turns.of(Turn.PICTURE):
                sheet = opening.sheet(0)
            if sheet.pixels is not None:
                yield sheet
                with self.turns.of(Turn.ANSWER):
                    sheet = opening.sheet(1)
        said = sheet.stored
        yield replace(sheet, stored=replace(stored, bundle_id=said.bundle_id, scores=said.scores))

    def is_ready(self, case_id: int) -> bool:
        """Whether the case was read ahead without a problem; `open` reads it all the same if it changes by then."""
        with self._lock:
            opening = self._ahead.get(case_id)
        last = None if opening is None else opening.last()
        return last is not None and last.problem is None

    def read_ahead(self, stored: records.Case, *, by: User, draw: Draw) -> None:
        """Begin soon to read a case that will probably be opened next, and to draw it.

        Args:
            draw: as for `open`.
        """
        opening = Opening(stored, self._read(stored, by, draw))

        def read() -> None:
            try:
                for place in (0, 1):
                    with self.turns.of(Turn.AHEAD):
                        if opening.ahead and opening.last() is None:
                            opening.sheet(place)
            except ReviewError:  # who opens the case reads it anew, and is told
                with self._lock:
                    self._ahead.pop(stored.id, None)

        def begin() -> None:
            with self._lock:
                opened = self._waits.pop(stored.id, None) is None  # while this was going off
                if opened or self._closed or stored.id in self._ahead or stored.id in self._uploads:
                    return
                self._ahead[stored.id] = opening
                self._reader.submit(read)
                while len(self._ahead) > MOST_AHEAD:
                    self._ahead.popitem(last=False)[1].ahead = False

        with self._lock:
            if stored.id not in self._waits:
                self._waits[stored.id] = waits = threading.Timer(ARRIVES_S, begin)
                waits.daemon = True
                waits.start()

    def take_in(self, files: list[tuple[str, bytes]], *, by: User) -> records.Case:
        """Score an upload and make it a case, claimed by this reader; its pixels stay in memory only.

        Raises:
            ScanError: the files cannot be used.
            ReviewError: another reader holds the case, or the store cannot be written.
        """
        scan = read_uploads(files, dims=self.detector.bundle.spec.dims)
        with self.turns.of(Turn.ANSWER):
            prediction = self._look(scan)
        known = cases.find(self.store, scan.scan_id, by=by)
        if known is None or known.bundle_id != self.detector.bundle.bundle_id:
            # A case whose file was recorded keeps its path.
            path = Path(files[0][0]).name if known is None else known.path
            case_id, _ = self._take_up(prediction, path=path)
        else:
            case_id = known.id
        stored = cases.claim(self.store, case_id, by=by)
        with self._lock:
            self._uploads[case_id] = prediction
            while len(self._uploads) > 1 and sum(_bytes(each.scan) for each in self._uploads.values()) > LARGEST_BYTES:
                self._uploads.popitem(last=False)
        return stored

    def pixels(self, stored: records.Case) -> Scan:
        """The scan of a case, from an upload that is kept or from its file.

        Raises:
            ScanError: it can no longer be had.
        """
        upload = self._upload(stored)
        return read_recorded(stored, dims=self.detector.bundle.spec.dims) if upload is None else upload.scan

    def _upload(self, stored: records.Case) -> Prediction | None:
        with self._lock:
            return self._uploads.get(stored.id)

    def settled(self, scan_ids: Sequence[str]) -> dict[tuple[str, str], int | None]:
        """What readers said of these scans, by scan and finding, where all who should have read them."""
        return settled(verdicts.of_scans(self.store, scan_ids))

    def close(self) -> None:
        """Read no more ahead."""
        with self._lock:
            self._closed = True
            for opening in self._ahead.values():
                opening.ahead = False
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, stored: records.Case, by: User, draw: Draw) -> Iterator[Sheet]:
        try:
            sheet = Sheet(stored=stored, pixels=self.pixels(stored))
            draw(sheet)
            yield sheet
            assert sheet.pixels is not None
            prediction = self._upload(stored) or self._look(sheet.pixels)
            if stored.bundle_id != prediction.bundle_id:
                _, anew = self._take_up(prediction, path=stored.path)
                stored = replace(stored, bundle_id=anew.bundle_id, scores=anew.scores)
            prediction = replace(prediction, scores=self._as_stored(stored))
            case = Case(name=f"Case {stored.id}", prediction=prediction, prior=self._prior(stored, by))
            case.heat(self.detector, case.leading())
            sheet = Sheet(stored=stored, scan=case)
            draw(sheet)
            yield sheet
        except ScanError as problem:
            yield Sheet(stored=stored, problem=problem)
        except ReviewError:
            raise
        except Exception:
            log.exception("case %s could not be read", stored.id)
            yield Sheet(stored=stored, problem=failed_on(stored.path))

    def _prior(self, stored: records.Case, by: User) -> Callable[[], Scan] | None:
        """Reads the last scan of the patient before this one whose file is there, once it is asked for."""
        for other in others_of(self.store, stored, by=by):
            if other.before:
                with contextlib.suppress(ScanError):
                    recorded(other.case)
                    return cache(partial(read_recorded, other.case, dims=self.detector.bundle.spec.dims))
        return None

    def _look(self, scan: Scan) -> Prediction:
        with NETWORK:
            return self.detector.predict(scan)

    def _take_up(self, prediction: Prediction, *, path: str) -> tuple[int, records.NewCase]:
        """Put what the network says into the store."""
        try:
            scored = new_case(self.detector, prediction, path=path, readings=self.readings)
        except ConfigError as problem:
            raise ReviewError(str(problem)) from None
        return cases.add(self.store, [scored])[0], scored

    def _as_stored(self, stored: records.Case) -> tuple[FindingScore, ...]:
        """What the detector said of the case when it was scored."""
        said = {score.finding: score.probability for score in stored.scores}
        return self.detector.scores(np.array([said[finding] for finding in self.detector.bundle.findings]))


def _bytes(scan: Scan) -> int:
    return sum(values.nbytes for values in (scan.pixels, scan.hu, scan.rgb) if values is not None)
