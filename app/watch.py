"""A watched folder: scans that arrive in it are scored in the background and become cases of the worklist."""

import logging
import threading
import time
from pathlib import Path

from app.case import NETWORK, new_case
from medtl.data.scan import Scan
from medtl.data.sources import FoundFile, find_files
from medtl.data.units import Unit, image_units, scans_in, volume_units
from medtl.errors import ConfigError, DatasetError, ReviewError, ScanError
from medtl.inference.runtime import Detector
from medtl.progress import say
from medtl.review import cases
from medtl.review.store import ReviewStore
from medtl.review.users import User

log = logging.getLogger("medtl.page")
EVERY_S = 5.0
STILL_S = 5.0
"""A file is complete when it has not changed for so long: half of it would be read as a damaged scan."""
VOLUME_STILL_S = 30.0
"""The same for volumes, and for all files of a folder: half of a series would be read as a volume that is cut off."""
WATCHER = User(name="medtl watch", role="lead")


class Watch:
    """Scores what arrives in a folder.

    Args:
        folder: of any depth.
        readings: how many readers have to read each case.
    """

    def __init__(self, folder: Path, detector: Detector, store: ReviewStore, *, readings: int = 1) -> None:
        if not folder.is_dir():
            raise DatasetError(f"--watch {folder}: no such folder; create it first")
        self.folder, self.detector, self.store, self.readings = folder.absolute(), detector, store, readings
        self._since: dict[Path, tuple[str, float]] = {}
        self._done: set[tuple[Path, str]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look, every few seconds."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; what is being scored is finished first."""
        self._stop.set()
        self._thread.join()

    def look(self, *, at: float) -> int:
        """Take in what is complete by now.

        Args:
            at: seconds of a clock that only goes forward.

        Returns:
            How many cases were added.
        """
        files = self._still(at)
        return sum(self._take(unit) for unit in self._units(files) if not self._stop.is_set())

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self.look(at=time.monotonic())
            except (ConfigError, ReviewError) as problem:  # no salt, or no store: the files are taken next time
                log.error("--watch: %s", problem)
            except Exception:
                log.exception("--watch: looking at %s failed", self.folder)

    def _still(self, at: float) -> list[FoundFile]:
        """Files that have stood still and were not taken yet; of volumes all still ones, if any of them is new.

        A slice stands still only once its whole folder does.
        """
        try:
            found = find_files([self.folder])
        except DatasetError:  # empty still
            return []
        now = {file.path: file.version() for file in found}
        self._since = {
            path: (version, self._since[path][1] if self._since.get(path, ("",))[0] == version else at)
            for path, version in now.items()
        }
        volumes = self.detector.bundle.spec.dims == 3
        wait = VOLUME_STILL_S if volumes else STILL_S
        moving = {file.path for file in found if at - self._since[file.path][1] < wait}
        if volumes:
            folders = {path.parent for path in moving}
            still = [file for file in found if file.path.parent not in folders]
        else:
            still = [file for file in found if file.path not in moving]
        new = [file for file in still if (file.path, now[file.path]) not in self._done]
        return still if new and volumes else new

    def _units(self, files: list[FoundFile]) -> list[Unit]:
        """Each image, or the volumes that files make; those that are part of none are said once."""
        if not files or self.detector.bundle.spec.dims == 2:
            return image_units(files)
        units, left_out = volume_units(files)
        for file, problem in left_out:
            version = (file.path, self._since[file.path][0])
            if version not in self._done:
                say(f"--watch: {problem}")
            self._done.add(version)
        return units

    def _take(self, unit: Unit) -> int:
        """The cases of a file or series; one that cannot be used is said once, and the others are taken all the same.

        Raises:
            ConfigError, ReviewError: no salt, or a store that cannot be written; the file is taken next time.
        """
        versions = {(file.path, self._since[file.path][0]) for file in unit.files}
        if versions <= self._done:
            return 0
        spec, added = self.detector.bundle.spec, 0
        try:
            for each in scans_in(unit, dims=spec.dims, least_px=spec.least_px):
                added += self._add(each.scan)
        except ScanError as problem:
            say(f"--watch: {problem}")
        except (ConfigError, ReviewError):
            raise
        except Exception:
            log.exception("--watch: %s could not be scored; it is left out until it changes", unit.first)
        self._done |= versions
        return added

    def _add(self, scan: Scan) -> bool:
        known = cases.find(self.store, scan.scan_id, by=WATCHER)
        if known is not None and known.bundle_id == self.detector.bundle.bundle_id:
            return False
        with NETWORK:
            prediction = self.detector.predict(scan)
        path = str(Path(scan.source).absolute())
        new = new_case(self.detector, prediction, path=path, readings=self.readings)
        cases.add(self.store, [new])
        return known is None
