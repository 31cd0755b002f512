"""A watched folder, looked at by a clock of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from app.watch import STILL_S, Watch
from medtl.data.pseudonyms import is_pseudonym
from medtl.errors import DatasetError, ReviewError
from medtl.inference.runtime import Detector, load
from medtl.review import cases, worklist
from medtl.review.records import Case
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import write_scan

LEAD = User(name="Dr L", role="lead")


@pytest.fixture(scope="module")
def detector(bundle_folder: Path) -> Detector:
    return load(bundle_folder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReviewStore]:
    opened = ReviewStore(tmp_path / "r.db")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDTL_SALT_FILE", str(tmp_path / "salt"))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    return tmp_path / "in"


@pytest.fixture
def look(folder: Path, detector: Detector, store: ReviewStore) -> Callable[[], int]:
    """Look once, and say how many cases came; each time later than files need to stand still."""
    watch, moment = Watch(folder, detector, store, readings=2), [0.0]

    def once() -> int:
        moment[0] += STILL_S
        return watch.look(at=moment[0])

    return once


def listed(store: ReviewStore) -> tuple[Case, ...]:
    return worklist.page(store, by=LEAD).cases


def test_what_arrives_becomes_a_case_once(look: Callable[[], int], folder: Path, store: ReviewStore) -> None:
    assert look() == 0, "an empty folder"
    path = write_scan(folder / "deep" / "a.png", 1)
    assert look() == 0, "it may be half of a file"
    assert look() == 1
    [case] = listed(store)
    assert (case.path, case.status, case.readings_wanted) == (str(path), "open", 2)
    assert look() == 0
    path.rename(folder / "b.png")
    assert (look(), look()) == (0, 0), "the same scan under another name"


def test_half_written_files_wait(look: Callable[[], int], folder: Path, dicom_file: Path, store: ReviewStore) -> None:
    whole, path = dicom_file.read_bytes(), folder / "slow.dcm"
    for part in range(1, 4):
        path.write_bytes(whole[: part * 1000])
        assert look() == 0
    path.write_bytes(whole)
    assert (look(), look(), look()) == (0, 1, 0)
    [case] = listed(store)
    assert is_pseudonym(case.patient_id) and "HIDDEN" not in case.patient_id
    assert case.facts["sex"] == "F"


def test_what_is_no_scan_is_said_once(
    look: Callable[[], int], folder: Path, store: ReviewStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "letter.dcm").write_bytes(b"Dear colleague, " * 50)
    write_scan(folder / "z.png", 2)
    assert (look(), look(), look()) == (0, 1, 0)
    assert capsys.readouterr().err.count("letter.dcm: is text, not a scan") == 1
    assert len(listed(store)) == 1
    (folder / "letter.dcm").unlink()
    write_scan(folder / "letter.png", 3).rename(folder / "letter.dcm")
    assert (look(), look()) == (0, 1), "it was replaced by a scan"


def test_a_restart_scores_nothing_twice(
    look: Callable[[], int], folder: Path, detector: Detector, store: ReviewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scan(folder / "a.png", 1)
    assert (look(), look()) == (0, 1)
    monkeypatch.setattr(detector, "predict", None)
    again = Watch(folder, detector, store)
    assert (again.look(at=0), again.look(at=STILL_S)) == (0, 0)


def test_a_store_that_is_away_loses_nothing(
    look: Callable[[], int], folder: Path, store: ReviewStore, tmp_path: Path
) -> None:
    write_scan(folder / "a.png", 1)
    look()
    (tmp_path / "r.db").rename(tmp_path / "away.db")
    with pytest.raises(ReviewError, match="was deleted, moved or replaced"):
        look()
    (tmp_path / "away.db").rename(tmp_path / "r.db")
    assert look() == 1


def test_volumes(volume_bundle: Path, folder: Path, store: ReviewStore) -> None:
    values = np.random.default_rng(0).normal(100, 20, (20, 24, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "head.nii.gz")
    watch = Watch(folder, load(volume_bundle), store)
    assert (watch.look(at=0), watch.look(at=STILL_S), watch.look(at=2 * STILL_S)) == (0, 1, 0)
    assert cases.get(store, 1, by=LEAD).path == str(folder / "head.nii.gz")


def test_a_folder_that_is_missing(detector: Detector, store: ReviewStore, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--watch .*none: no such folder; create it first"):
        Watch(tmp_path / "none", detector, store)


def test_the_thread_ends_when_asked(folder: Path, detector: Detector, store: ReviewStore) -> None:
    watch = Watch(folder, detector, store)
    watch.start()
    watch.close()
    assert not watch._thread.is_alive()
