"""A watched folder, looked at by a clock of the test's own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from sqlalchemy import select

import app.watch
from app.watch import STILL_S, VOLUME_STILL_S, Watch
from medtl.data.pseudonyms import is_pseudonym
from medtl.data.scan import Scan
from medtl.data.volume import read_series
from medtl.errors import ConfigError, DatasetError, ReviewError
from medtl.inference.prediction import Prediction
from medtl.inference.reference import reference_of, write_reference
from medtl.inference.runtime import Detector, load
from medtl.review import cases, worklist
from medtl.review.records import Case
from medtl.review.schema import CASES
from medtl.review.store import ReviewStore
from medtl.review.users import User
from tests.app.acting import write_scan
from tests.data.fake_series import fake_series

LEAD = User(name="Dr L", role="lead")


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


def test_a_case_knows_the_labeled_scan_that_is_most_like_it_and_its_distance(
    bundle_folder: Path, folder: Path, store: ReviewStore, tmp_path: Path
) -> None:
    detector = load(Path(shutil.copytree(bundle_folder, tmp_path / "with labels")))
    labeled = {write_scan(tmp_path / f"l{seed}.png", seed): f"scan {seed}" for seed in range(3)}
    kept = reference_of(
        embeddings=np.stack([detector.predict(path).embedding for path in labeled]),
        labels=np.zeros((3, 2)),
        scan_ids=list(labeled.values()),
    )
    write_reference(tmp_path / "with labels", kept)
    shutil.copy(tmp_path / "l1.png", folder / "the same.png")
    watch = Watch(folder, load(tmp_path / "with labels"), store)
    assert [watch.look(at=at) for at in (0, STILL_S)] == [0, 1]
    with store.reading() as connection:
        assert connection.execute(select(CASES.c.nearest_scan_id)).scalars().all() == ["scan 1"]
        # The same scan, whose embedding the bundle keeps in half precision.
        assert connection.execute(select(CASES.c.distance)).scalar_one() == pytest.approx(0, abs=0.05)


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
    assert (watch.look(at=0), watch.look(at=STILL_S)) == (0, 0), "volumes wait longer"
    assert (watch.look(at=VOLUME_STILL_S), watch.look(at=2 * VOLUME_STILL_S)) == (1, 0)
    assert cases.get(store, 1, by=LEAD).path == str(folder / "head.nii.gz")


@pytest.mark.parametrize("pause_s", [STILL_S, VOLUME_STILL_S - 1])
def test_a_series_that_is_still_arriving_waits_for_its_last_slice(
    volume_bundle: Path, folder: Path, store: ReviewStore, tmp_path: Path, pause_s: float
) -> None:
    slices = fake_series(tmp_path / "sent", shape=(24, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    other = fake_series(folder / "whole", shape=(8, 32, 32), SeriesInstanceUID="1.2.9")
    watch, at = Watch(folder, load(volume_bundle), store), 0.0
    for first in range(0, 24, 6):
        for path in slices[first : first + 6]:
            shutil.copy(path, folder / "deep" / path.name)
        watch.look(at=at)
        at += pause_s
    last = at - pause_s
    watch.look(at=last + VOLUME_STILL_S - 1)
    watch.look(at=last + VOLUME_STILL_S)
    watch.look(at=last + 3 * VOLUME_STILL_S)
    whole = {read_series(paths, name="").scan_id for paths in (slices, other)}
    assert {case.scan_id for case in listed(store)} == whole and len(listed(store)) == 2


def test_a_folder_that_stands_still_does_not_wait_for_another(
    volume_bundle: Path, folder: Path, store: ReviewStore, tmp_path: Path
) -> None:
    fake_series(folder / "whole", shape=(8, 32, 32))
    watch = Watch(folder, load(volume_bundle), store)
    watch.look(at=0)
    for number, path in enumerate(fake_series(tmp_path / "sent", shape=(6, 32, 32), SeriesInstanceUID="1.2.9")):
        shutil.copy(path, folder / "deep" / path.name)
        watch.look(at=number * STILL_S)
    assert watch.look(at=VOLUME_STILL_S) == 1


def test_what_is_part_of_no_volume_is_said_once(
    volume_bundle: Path,
    folder: Path,
    store: ReviewStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "letter.dcm").write_bytes(b"Dear colleague, " * 50)
    fake_series(folder / "deep", shape=(2, 32, 32))
    watch, asked = Watch(folder, load(volume_bundle), store), []
    units = app.watch.volume_units
    monkeypatch.setattr(app.watch, "volume_units", lambda files: (asked.append(len(files)), units(files))[1])
    for turn in range(4):
        assert watch.look(at=turn * VOLUME_STILL_S) == 0
    said = capsys.readouterr().err
    assert said.count("letter.dcm: is text, not a scan") == 1
    assert said.count("2 images of its kind; a volume needs at least 4 parallel ones") == 2, "of each slice"
    assert asked == [3], "nothing is read again while nothing changes"
    fake_series(folder / "deep", shape=(8, 32, 32))
    watch.look(at=4 * VOLUME_STILL_S)
    assert watch.look(at=5 * VOLUME_STILL_S) == 1, "the rest of the series came"
    assert "letter.dcm" not in capsys.readouterr().err


def test_a_scan_that_makes_the_detector_fail_keeps_no_other_back(
    look: Callable[[], int],
    folder: Path,
    detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, predict = write_scan(folder / "a.png", 1), detector.predict
    write_scan(folder / "b.png", 2)

    def failing(scan: Scan) -> Prediction:
        if scan.source == str(bad):
            raise RuntimeError("the network has no such size")
        return predict(scan)

    monkeypatch.setattr(detector, "predict", failing)
    assert (look(), look(), look()) == (0, 1, 0)
    assert caplog.text.count("a.png could not be scored; it is left out until it changes") == 1
    assert caplog.text.count("RuntimeError: the network has no such size") == 1
    monkeypatch.setattr(detector, "predict", predict)
    write_scan(folder / "a.png", 3)
    assert (look(), look()) == (0, 1), "it changed"


def test_a_salt_that_is_away_loses_nothing(
    look: Callable[[], int], folder: Path, dicom_file: Path, tmp_path: Path, store: ReviewStore
) -> None:
    shutil.copy(dicom_file, folder)
    (tmp_path / "salt").write_bytes(b"short")
    look()
    with pytest.raises(ConfigError, match="the salt of the pseudonyms has 5 bytes"):
        look()
    (tmp_path / "salt").unlink()
    assert look() == 1


def test_a_folder_that_is_missing(detector: Detector, store: ReviewStore, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--watch .*none: no such folder; create it first"):
        Watch(tmp_path / "none", detector, store)


def test_the_thread_ends_when_asked(folder: Path, detector: Detector, store: ReviewStore) -> None:
    watch = Watch(folder, detector, store)
    watch.start()
    watch.close()
    assert not watch._thread.is_alive()
