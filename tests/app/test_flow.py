"""From case to case, by the handlers that the page's events call."""

import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pydicom
import pytest

import medtl
from app import desk
from app.files import read_recorded
from medtl.data.preprocess import PreprocessSpec
from medtl.data.pseudonyms import is_pseudonym
from medtl.data.scan import Scan
from medtl.inference.prediction import Prediction
from medtl.inference.reference import reference_of, write_reference
from medtl.inference.runtime import Detector, load
from medtl.review import cases, store, verdicts, worklist
from medtl.review.records import Case, StoredVerdict
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.verify import verify_reviews
from tests.app.acting import Actor, add_cases, new_case, write_scan
from tests.app.conftest import HOSTILE, write_tiny

LEAD = User(name="Dr L", role="lead")
PROBABILITY = re.compile(r"\d\.?\d* %|style=\"width")


@pytest.fixture
def reader(detector: Detector, reviews: ReviewStore, numbers: list[int]) -> Iterator[Actor]:
    actor = Actor(detector, reviews)
    yield actor
    actor.page.desk.close()  # else it reads ahead into the next test


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases' files, as they are read."""
    names: list[str] = []

    def noted(case: Case, *, dims: int) -> Scan:
        names.append(Path(case.path).name)
        return read_recorded(case, dims=dims)

    monkeypatch.setattr(desk, "read_recorded", noted)
    return names


def standing(reviews: ReviewStore) -> list[tuple[int, str, str, str]]:
    return [(row.case_id, row.finding, row.verdict, row.reader) for row in verdicts.standing(reviews)]


def all_rows(reviews: ReviewStore, case_id: int) -> list[StoredVerdict]:
    with sqlite3.connect(str(reviews.path)) as connection:
        readers = {name for (name,) in connection.execute("SELECT DISTINCT reader FROM verdicts")}
    return [row for name in sorted(readers)
            for row in verdicts.of_case(reviews, case_id, by=User(name=name, role="reader"))]  # fmt: skip


def test_save_and_the_most_urgent_free_case_comes_next(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    cases.claim(reviews, numbers[1], by=User(name="Dr B", role="reader"))
    reader.next()
    assert reader.reading is not None and reader.reading.stored.id == numbers[0]
    assert "90.0 %" in reader.rows() and "positive: above the operating point (43.0 %)" in reader.rows()
    reader.save("agree", "disagree", note="  seen  ")
    assert "Saved case 1 (verdicts 1 to 2)" in reader.shown[reader.page.case.verdict.saved]
    assert standing(reviews) == [(1, "pneumonia", "agree", "Dr A"), (1, "large_nodule", "disagree", "Dr A")]
    assert {row.note for row in verdicts.standing(reviews)} == {"seen"}
    reader.go()
    assert reader.reading.stored.id == numbers[2], "the second is Dr B's"
    assert reader.choices() == [None, None]
    assert cases.get(reviews, numbers[0], by=LEAD).claimed_by is None


def test_a_flagged_finding_that_was_passed_over_is_named(reader: Actor, numbers: list[int]) -> None:
    saved = reader.page.case.verdict.saved
    reader.next().save(None, "agree")
    assert "(verdict 1); nothing was said of pneumonia, which the detector flags" in reader.shown[saved]
    reader.go().save("unsure", None)
    assert "(verdict 2)<" in reader.shown[saved], "of the other one the detector says no"
    reader.go().save(None, None, bad=True)
    assert "nothing was said" not in reader.shown[saved]


def test_another_reader_s_case_is_refused(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    cases.claim(reviews, numbers[0], by=User(name="Dr B", role="reader"))
    reader.open(numbers[0])
    assert "Case 1 is being read by Dr B until" in reader.notice and reader.reading is None
    reader.open(99)
    assert "There is no case 99; the worklist shows all" in reader.notice
    # A page that shows the case of somebody else all the same cannot save on it.
    reader.open(numbers[1])
    cases.release(reviews, numbers[1], by=LEAD)
    cases.claim(reviews, numbers[1], by=User(name="Dr B", role="reader"))
    reader.save("agree", None)
    assert "Not saved: case 2 is being read by Dr B now" in reader.notice and standing(reviews) == []


def test_a_double_click_saves_once_and_opens_one_case(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    reader.next()
    token = reader.shown[reader.page.case.token]
    reader.save("agree", None)
    reader.save("agree", None, token=token)
    assert reader.shown[reader.page.flow.step] == f"next {token}", "what the first click began goes on"
    reader.go()
    assert reader.reading is not None and reader.reading.stored.id == numbers[1]
    reader.go().save("agree", None, token=token).go()
    assert reader.reading.stored.id == numbers[1] and len(standing(reviews)) == 1, "the second does not go on again"
    reader.save("disagree", None, token=token).go()
    assert "Not saved: another case was opened meanwhile" in reader.notice
    assert reader.reading.stored.id == numbers[1] and standing(reviews) == [(1, "pneumonia", "agree", "Dr A")]


def test_what_is_chosen_anew_before_the_next_case_is_drawn_is_a_correction(
    reader: Actor, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader.next().save("agree", "unsure").save("disagree", "unsure")
    assert "Saved case 1 (verdicts 3 to 4)" in reader.shown[reader.page.case.verdict.saved]
    corrected = [(1, "pneumonia", "disagree", "Dr A"), (1, "large_nodule", "unsure", "Dr A")]
    assert standing(reviews) == corrected
    reader.save("disagree", "unsure", region="20,20,1,1")
    assert "Not saved: the marked region" in reader.notice and standing(reviews) == corrected
    reader.save("disagree", "unsure").go()
    assert reader.reading is not None and reader.reading.stored.id == numbers[1]
    assert cases.get(reviews, numbers[0], by=LEAD).claimed_by is None
    reader.undo()
    assert standing(reviews) == [] and reader.choices() == ["disagree", "unsure"]


def test_a_first_answer_that_is_changed_before_the_detector_s_is_shown(
    detector: Detector, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader = Actor(detector, reviews, verdict_first=True).next()
    reader.save("absent", "absent").save("present", "absent")
    said = "Not saved: what you said first is kept, and the answer is shown next; correct it then"
    assert said in reader.notice
    reader.go()
    assert said in reader.notice and reader.reading is not None and not reader.reading.blind
    assert reader.choices() == ["absent", "absent"], "what is stored"
    reader.save("present", "absent").go()
    assert [row[2] for row in standing(reviews)] == ["agree", "agree"]
    assert reader.reading.stored.id == numbers[1]


def test_what_was_said_before_cannot_stand_unseen(reader: Actor, reviews: ReviewStore) -> None:
    reader.next().save(None, None, bad=True).go().open(1)
    assert reader.choices() == [None, None] and reader.shown[reader.page.case.verdict.bad_image] is True
    reader.save("agree", None)
    assert "Not saved: what you said before about large nodule would stand unseen" in reader.notice
    reader.save("agree", "unsure")
    assert [(row.verdict, row.bad_image) for row in verdicts.standing(reviews)] == [("agree", False), ("unsure", False)]


def test_a_verdict_never_lands_on_another_case(reader: Actor, reviews: ReviewStore) -> None:
    reader.next().save("agree", None, token="what another window shows")
    assert "Not saved: another case was opened meanwhile. Look again and choose" in reader.notice
    reader.save(None, None)
    assert "Not saved: choose for at least one finding first" in reader.notice
    reader.shown[reader.page.case.reading] = None
    reader.save("agree", None)
    assert "Not saved" in reader.notice and standing(reviews) == []


def kept(reader: Actor) -> bool:
    """Whether the last answer leaves the case and all choices as they are."""
    touched = set(reader.sent[-1])
    return not touched & {*reader.page.case.outputs, reader.page.case.verdict.saved, reader.page.flow.history}


def test_a_locked_database_acknowledges_nothing(
    reader: Actor, reviews: ReviewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.next()
    blocker = sqlite3.connect(str(reviews.path), isolation_level=None)
    reviews._engine.dispose()  # the next connection waits less long
    monkeypatch.setattr(store, "WAIT_FOR_LOCK_MS", 50)
    blocker.execute("BEGIN IMMEDIATE")
    reader.save("agree", "agree")
    assert "Not saved: " in reader.notice and "another program holds it; close that program" in reader.notice
    assert reader.shown[reader.page.flow.step] == "" and kept(reader)
    blocker.execute("ROLLBACK")
    reader.save("agree", "agree")
    assert "Saved case 1" in reader.shown[reader.page.case.verdict.saved] and len(standing(reviews)) == 2
    blocker.close()


def test_a_database_that_is_gone(reader: Actor, reviews: ReviewStore) -> None:
    reader.next()
    assert reviews.path is not None
    reviews.path.rename(reviews.path.with_name("elsewhere.db"))
    reader.save("agree", None)
    assert "was deleted, moved or replaced since it was opened" in reader.notice and kept(reader)
    reviews.path.with_name("elsewhere.db").rename(reviews.path)
    reader.save("agree", None)
    assert len(standing(reviews)) == 1


def test_a_session_that_has_ended(reader: Actor, reviews: ReviewStore) -> None:
    reader.next()
    before, reader.request.request.scope["medtl.user"] = reader.request, None
    reader.save("agree", None)
    assert "Not saved: your session has ended; log in again" in reader.notice and kept(reader)
    reader.open(2)
    assert "Your session has ended; log in again" in reader.notice
    reader.request = before
    reader.request.request.scope["medtl.user"] = User(name="Dr B", role="reader")
    reader.save("agree", None)
    assert "Not saved: another case was opened" in reader.notice and standing(reviews) == []


def test_undo_brings_the_case_back_with_its_choices(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    reader.next().save("agree", "unsure", note="first").go()
    reader.save("disagree", None, instead="large_nodule", bad=False).go()
    assert reader.reading is not None and reader.reading.stored.id == numbers[2]
    reader.undo()
    assert reader.reading.stored.id == numbers[1] and reader.choices() == ["disagree", None]
    assert reader.shown[reader.page.case.verdict.instead] == "large_nodule"
    assert "Taken back: case 2" in reader.shown[reader.page.case.verdict.saved]
    assert cases.get(reviews, numbers[2], by=LEAD).claimed_by is None, "the case that was open is free again"
    assert {row[0] for row in standing(reviews)} == {1}
    reader.undo()
    assert reader.reading.stored.id == numbers[0] and reader.choices() == ["agree", "unsure"]
    assert reader.shown[reader.page.case.verdict.note] == "first" and standing(reviews) == []
    assert reader.shown[reader.page.flow.history] == []
    assert reader.take(reader.page.flow.undo(reader.request, [], reader.reading, *reader.settings)).reading is not None
    reader.save("disagree", None)
    assert standing(reviews) == [(1, "pneumonia", "disagree", "Dr A")]
    assert verify_reviews(str(reviews.path)).count == 4 + 4 + 1


def test_a_case_opened_while_another_was_saved_stays_open(
    reader: Actor, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader.next().save("agree", None)
    step = reader.shown[reader.page.flow.step]
    reader.open(numbers[3])
    reader.shown[reader.page.flow.step] = step  # the answer to the save came last
    reader.go()
    assert reader.reading is not None and reader.reading.stored.id == numbers[3]
    assert cases.get(reviews, numbers[3], by=LEAD).claimed_by == "Dr A"


def test_undo_after_a_correction_goes_on_to_the_case_before(
    detector: Detector, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader = Actor(detector, reviews, verdict_first=True).next()
    reader.save("absent", "absent").go().save("absent", "absent").go()
    reader.save("absent", "absent").go().save("present", "absent").go()
    reader.undo()
    assert reader.reading is not None and reader.reading.stored.id == numbers[1] and not reader.notice
    reader.undo()
    assert reader.reading.stored.id == numbers[0] and not reader.notice and standing(reviews) == []
    assert reader.shown[reader.page.flow.history] == []


def test_undo_of_what_was_corrected_in_another_window(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    reader.next().save("agree", None).go().save("agree", None).go()
    history = reader.shown[reader.page.flow.history]
    reader.be("Dr A").open(numbers[1]).save("disagree", None).go()
    reader.shown[reader.page.flow.history] = history
    before = reader.reading
    reader.undo()
    assert "Verdicts 2: cannot be taken back; expected verdicts of Dr A" in reader.notice
    assert reader.reading is before and reader.shown[reader.page.case.verdict.undo]["interactive"] is True
    reader.undo()
    assert reader.reading is not None and reader.reading.stored.id == numbers[0] and not reader.notice
    assert standing(reviews) == [(2, "pneumonia", "disagree", "Dr A")]


def test_undo_while_the_store_is_gone_can_be_tried_again(reader: Actor, reviews: ReviewStore) -> None:
    reader.next().save("agree", None).go()
    assert reviews.path is not None
    reviews.path.rename(reviews.path.with_name("elsewhere.db"))
    reader.undo()
    assert "was deleted, moved or replaced" in reader.notice and kept(reader)
    reviews.path.with_name("elsewhere.db").rename(reviews.path)
    reader.undo()
    assert standing(reviews) == [] and "Taken back: case 1" in reader.shown[reader.page.case.verdict.saved]


@pytest.mark.parametrize("ready", [False, True])
def test_who_goes_back_to_the_worklist_is_not_fetched_by_a_late_answer(
    ready: bool, reader: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader.page.desk, "is_ready", lambda _: ready)
    view = reader.page.frame.view
    answers = reader.page.flow.open(reader.request, 1, reader.reading, *reader.settings)
    reader.take(next(answers))
    assert reader.shown[view] == "case"
    reader.shown[view] = "worklist"  # W
    reader.take(answers)
    assert reader.shown[view] == "worklist" and reader.reading is not None


def test_skip_keeps_the_case_for_later(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    reader.next().skip()
    assert reader.reading is not None and reader.reading.stored.id == numbers[1]
    assert cases.get(reviews, numbers[0], by=LEAD).claimed_by == "Dr A"
    reader.open(numbers[0])
    assert reader.reading.stored.id == numbers[0]
    assert cases.get(reviews, numbers[1], by=LEAD).claimed_by is None


def test_the_end_of_the_worklist(reader: Actor, numbers: list[int]) -> None:
    reader.next()
    for _ in numbers:
        reader.save("agree", None).go()
    assert "No case is left to read here" in reader.notice and reader.reading is None
    assert reader.shown[reader.page.frame.view] == "worklist"


def test_corrections_of_a_case_that_was_read(reader: Actor, reviews: ReviewStore, numbers: list[int]) -> None:
    reader.next().save("agree", None, note="n").go()
    reader.open(numbers[0])
    assert reader.choices() == ["agree", None] and reader.shown[reader.page.case.verdict.note] == "n"
    reader.save("disagree", None)
    assert standing(reviews) == [(1, "pneumonia", "disagree", "Dr A")]
    assert len(all_rows(reviews, 1)) == 2


def test_the_region_is_stored_with_the_finding(reader: Actor, reviews: ReviewStore) -> None:
    reader.next().save("agree", "agree", region="1,2,10,20", place="1")
    assert "a region is marked for large nodule, which you say is absent; clear the region" in reader.notice
    assert standing(reviews) == []
    reader.save("agree", "disagree", region="1,2,10,20", place="7")
    assert "a region is marked for finding 8, and there is none; mark it again" in reader.notice
    reader.save("agree", "disagree", region="1,2,10,20", place="1")
    found = {row.finding: row.region for row in verdicts.standing(reviews)}
    assert found["pneumonia"] is None and found["large_nodule"] is not None
    assert found["large_nodule"].points == ((1.0, 2.0), (10.0, 20.0))


def test_a_region_is_there_still_when_the_case_comes_back(
    detector: Detector, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader = Actor(detector, reviews, verdict_first=True).next()
    field, current = reader.page.case.viewer.region, reader.page.case.current
    reader.save("absent", "present", region="1,2,10,20", place="1").go()
    assert (reader.shown[field], reader.shown[current]) == ("1.0,2.0,10.0,20.0@1", "1")
    assert reader.shown[reader.page.case.viewer.finding]["value"] == "large_nodule", "and its heatmap"
    reader.save(*reader.choices(), region=reader.shown[field]).go()
    assert len(all_rows(reviews, numbers[0])) == 2 and verdicts.standing(reviews)[1].region is not None
    assert reader.reading is not None and reader.reading.stored.id == numbers[1] and reader.shown[field] == ""
    reader.open(numbers[0])
    assert reader.shown[field] == "1.0,2.0,10.0,20.0@1"
    reader.undo()
    assert reader.shown[field] == "1.0,2.0,10.0,20.0@1" and standing(reviews) == []


def test_reasons_are_those_of_the_finding_that_is_looked_at(
    detector: Detector, reviews: ReviewStore, tmp_path: Path
) -> None:
    add_cases(reviews, tmp_path, detector.bundle.bundle_id, patient_id="p1")
    reader = Actor(detector, reviews).next()
    view = reader.page.case
    assert "<b>Pneumonia.</b>" in reader.shown[view.reasons] and "Same patient" in reader.shown[view.priors]
    reader.take(view.follow(reader.reading, "large_nodule"))
    assert "<b>Large nodule.</b>" in reader.shown[view.reasons] and reader.shown[view.current] == "1"
    reader.take(view.look_at(reader.reading, *reader.settings, "0"))
    assert "<b>Pneumonia.</b>" in reader.shown[view.reasons] and "Same patient" in reader.shown[view.priors]
    assert view.priors in view.outputs and reader.take(view.empty()).shown[view.priors] == ""


def wait_for(reader: Actor, number: int) -> None:
    """Until a case was read ahead."""
    until = time.monotonic() + 60
    while not reader.page.desk.is_ready(number) and time.monotonic() < until:
        time.sleep(0.01)


def test_the_next_case_was_read_meanwhile(reader: Actor, reviews: ReviewStore, tmp_path: Path) -> None:
    reader.next()
    wait_for(reader, 2)
    (tmp_path / "scan1.png").unlink()
    reader.sent.clear()
    reader.save("agree", None).go()
    assert reader.reading is not None and reader.reading.scan is not None, "it is in memory"
    assert set(reader.reading.scan.heats) >= {("pneumonia", "grad-cam")}
    assert sum(reader.page.case.reading in changes for changes in reader.sent) == 1, "no empty page in between"


def spoil(how: str, reader: Actor, reviews: ReviewStore, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open the first case, and let what is read ahead of the second be of no use once that is opened."""
    ahead, away = reader.page.desk._ahead, scan.with_name("away.png")
    viewer, draw = reader.page.case.viewer, reader.page.case.viewer.draw
    if how == "its file was gone":
        scan.rename(away)
    if how == "it could not be drawn":
        monkeypatch.setattr(viewer, "draw", lambda case, *_: 1 / 0 if case.name == "Case 2" else None)
    reader.next()
    until = time.monotonic() + 60
    while not (2 in ahead and ahead[2].last()) and time.monotonic() < until:
        time.sleep(0.01)
    assert ahead[2].last()
    monkeypatch.setattr(viewer, "draw", draw)
    if how == "its file was gone":
        away.rename(scan)
    if how == "it was scored anew":
        cases.add(reviews, [new_case(scan, reader.page.desk.detector.bundle.bundle_id, (0.6, 0.2))])
    if how == "it gave way":
        monkeypatch.setattr(reader.page.desk, "is_ready", lambda _: ahead.pop(2) is not None)


@pytest.mark.parametrize("how", ["its file was gone", "it could not be drawn", "it was scored anew", "it gave way"])
def test_no_picture_of_the_next_case_beside_the_case_before(
    how: str, reader: Actor, reviews: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(how, reader, reviews, tmp_path / "scan1.png", monkeypatch)
    view, pictured = reader.page.case, 0
    given = [reader.page.worklist.where.value, reader.reading, *reader.settings]
    for changes in reader.page.flow.skip(reader.request, *given):
        reader.take(changes)
        if reader.reading is None or reader.reading.stored.id != 2:
            assert reader.reading is None and not reader.shown[view.token] and not reader.shown[view.scan]
            assert not reader.shown[view.viewer.heat] and not reader.shown[view.reasons]
            assert reader.choices() == [None, None] and reader.shown[view.verdict.save]["interactive"] is False
            pictured += "data:image/png" in str(reader.shown[view.viewer.scan])
    assert pictured == 1, "its picture came first"
    assert reader.reading is not None and reader.reading.scan is not None
    assert "Reading case 2" in reader.told() and "Case 2" in str(reader.shown[reader.page.frame.status])


@pytest.mark.parametrize("how", ["its file was gone", "it could not be drawn"])
def test_what_could_not_be_read_ahead_is_not_ready(
    how: str, reader: Actor, reviews: ReviewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(how, reader, reviews, tmp_path / "scan1.png", monkeypatch)
    assert not reader.page.desk.is_ready(2)


def test_a_case_that_is_opened_is_not_read_ahead(
    reader: Actor, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ARRIVES_S", 3600.0)
    reader.next()
    [second] = waiting()
    reader.skip()
    assert second.finished.is_set() and reader.reading is not None and reader.reading.stored.id == 2
    [third] = waiting()
    for timer in (second, third):  # the second may have gone off while the case was opened
        timer.cancel()
        timer.function()
    wait_for(reader, 3)
    assert read == ["scan0.png", "scan1.png", "scan2.png"], "each once"


def waiting() -> list[threading.Timer]:
    """What will begin to read ahead in an hour."""
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    return [timer for timer in timers if timer.interval == 3600.0 and not timer.finished.is_set()]


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((), "Nothing in this scan speaks for pneumonia: no heatmap."),
        (
            (8, 16),
            "No heatmap: what speaks for pneumonia, if anything, lies in finer levels, which Grad-CAM does not show; "
            "occlusion may.",
        ),
    ],
)
def test_why_there_is_no_heatmap(
    levels: tuple[int, ...], said: str, reader: Actor, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "explain", lambda scan, *_: np.zeros(scan.pixels.shape, np.float32))
    monkeypatch.setattr(detector, "bundle", replace(detector.bundle, levels=levels))
    viewer = reader.open(1).page.case.viewer
    assert f">{said}<" in reader.shown[viewer.caption] and reader.shown[viewer.heat] == ""


def test_the_image_comes_before_the_answer(reader: Actor, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    view, predict, before = reader.page.case, detector.predict, []

    def scored(scan: Scan) -> Prediction:
        before.append(len(reader.sent))
        return predict(scan)

    monkeypatch.setattr(detector, "predict", scored)
    reader.open(1)
    picture, rows = view.viewer.scan, view.verdict.rows
    busy, image, answer, *_ = reader.sent
    assert "Reading case 1" in str(busy[reader.page.frame.status])
    assert "data:image/png" in str(image[picture]) and 'data-scan="' in str(image[picture])
    assert "40 px" in str(image[view.header]) and not {*rows, view.reading, view.viewer.heat} & set(image)
    assert before == [2], "the network computes once the image was sent"
    assert picture not in answer, "the image is not sent again"
    assert "90.0 %" in str(answer[rows[0]]) and 'class="heat' in str(answer[view.viewer.heat])
    assert len(reader.told().split("Reading case 1")) == 2 and reader.sent[-1] == {reader.page.frame.notice: gr.skip()}


def test_an_image_that_cannot_be_scored_goes_away(
    reader: Actor, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(detector, "predict", fail)
    reader.open(1)
    assert "medtl failed on this file" in str(reader.shown[reader.page.case.viewer.scan])
    assert reader.shown[reader.page.case.verdict.save]["interactive"] is False


@pytest.fixture
def of_one_patient(detector: Detector, reviews: ReviewStore, tmp_path: Path) -> tuple[int, int]:
    """Two cases, the earlier one first."""
    earlier, later = (write_scan(tmp_path / f"p{seed}.png", 500 + seed) for seed in (0, 1))
    known = {"patient_id": "a pseudonym"}
    first = new_case(earlier, detector.bundle.bundle_id, (0.3, 0.1), received_at="2026-01-01", **known)
    last = new_case(later, detector.bundle.bundle_id, (0.9, 0.1), received_at="2026-02-01", **known)
    return tuple(cases.add(reviews, [first, last]))  # type: ignore[return-value]


def test_the_prior_is_read_once_it_is_wanted(
    detector: Detector, reviews: ReviewStore, of_one_patient: tuple[int, int], read: list[str]
) -> None:
    actor = Actor(detector, reviews).open(of_one_patient[1])
    viewer = actor.page.case.viewer
    assert read == ["p1.png"] and actor.shown[viewer.beside]["interactive"] is True
    for _ in range(2):
        actor.take(viewer.compare(actor.shown[actor.page.case.scan], "pneumonia", *actor.settings[:-1], True))
    assert read == ["p1.png", "p0.png"], "once"
    assert 'class="which">prior<' in actor.shown[viewer.prior] and "data:image/png" in actor.shown[viewer.prior]


def test_a_prior_that_is_gone(
    detector: Detector, reviews: ReviewStore, of_one_patient: tuple[int, int], tmp_path: Path
) -> None:
    actor = Actor(detector, reviews).open(of_one_patient[1])
    viewer = actor.page.case.viewer

    def compare() -> None:
        actor.take(viewer.compare(actor.shown[actor.page.case.scan], "", *actor.settings[:-1], True))

    (tmp_path / "p0.png").rename(tmp_path / "elsewhere.png")
    compare()
    said = actor.shown[viewer.prior]
    assert "The prior cannot be shown" in said and "its file is gone since it was scored" in said
    assert str(tmp_path) not in said and "data:image/png" in actor.shown[viewer.scan]
    (tmp_path / "elsewhere.png").rename(tmp_path / "p0.png")
    compare()
    assert "data:image/png" in actor.shown[viewer.prior], "it came back"
    (tmp_path / "p0.png").unlink()
    actor.open(of_one_patient[1])
    assert actor.shown[viewer.beside]["interactive"] is False, "there is none"


def test_the_prior_is_the_last_one_taken_before_whatever_came_first(
    reader: Actor, reviews: ReviewStore, dicom_file: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    days = {"1": "20240301", "2": "20200301", "3": "20230301", "4": ""}
    for name, day in days.items():
        scan = pydicom.dcmread(dicom_file)
        scan.PixelData = np.roll(scan.pixel_array, int(name), axis=1).tobytes()
        for key in ("AcquisitionDate", "SeriesDate", "StudyDate", "ContentDate"):
            setattr(scan, key, day)
        scan.save_as(archive / f"{name}.dcm")
    medtl.import_scores(medtl.score(bundle_folder, archive, out=tmp_path / "s.csv"), reviews=tmp_path / "r.db")
    number = {Path(case.path).stem: case.id for case in worklist.page(reviews, by=LEAD).cases}

    def opened(name: str) -> tuple[str | None, str]:
        reader.open(number[name])
        assert reader.reading is not None and reader.reading.scan is not None
        prior = reader.reading.scan.prior
        return (Path(prior().source).stem if prior else None), str(reader.shown[reader.page.case.priors])

    prior, said = opened("1")
    assert prior == "3"
    for name, apart in (("2", 1461), ("3", 366)):
        assert f'data-case="{number[name]}">Case {number[name]}</button> taken {apart} days earlier' in said
    assert f'data-case="{number["4"]}">Case {number["4"]}</button> received on the same day' in said
    prior, said = opened("2")
    assert prior is None and said.count("days later") == 2, "the undated one was imported after it"
    assert opened("3")[0] == "2"
    assert opened("4")[0] == "3", "the last one received before"


def test_a_file_that_is_gone_or_changed_is_said(reader: Actor, reviews: ReviewStore, tmp_path: Path) -> None:
    (tmp_path / "scan0.png").unlink()
    write_scan(tmp_path / "scan1.png", 77)
    for number, said in ((1, "its file is gone since it was scored"), (2, "its file has changed since it was scored")):
        reader.open(number)
        picture = str(reader.shown[reader.page.case.viewer.scan])
        assert said in picture and f"Case {number}" in picture and str(tmp_path) not in reader.told()
        assert reader.shown[reader.page.case.verdict.save]["interactive"] is False
    reader.save("agree", None)
    assert "Not saved: the scan cannot be shown, and a verdict needs it; skip this case" in reader.notice
    assert standing(reviews) == []


def test_an_upload_stays_in_memory_only(
    reader: Actor, detector: Detector, reviews: ReviewStore, dicom_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "gradio" / "chest.dcm"
    copy.parent.mkdir()
    copy.write_bytes(dicom_file.read_bytes())
    reader.upload(copy)
    assert not copy.exists() and reader.reading is not None and reader.reading.scan is not None
    number = reader.reading.stored.id
    assert reader.reading.stored.claimed_by == "Dr A" and reader.reading.stored.path == "chest.dcm"
    assert {k: v for k, v in reader.reading.stored.facts.items() if k != "doubts"} == {
        "age_years": 54.0, "sex": "F", "modality": "DX", "view": "PA", "body_part": "CHEST"
    }  # fmt: skip
    reader.save("agree", None)
    reader.open(number)
    assert reader.reading.scan is not None, "as long as the server runs"
    reader.page.desk.close()
    later = Actor(detector, reviews).open(number)
    assert "was uploaded and is no longer in memory" in str(later.shown[later.page.case.viewer.scan])
    assert later.shown[later.page.case.verdict.save]["interactive"] is False


def test_scans_of_a_patient_that_came_on_two_ways_are_each_others_priors(
    reader: Actor, reviews: ReviewStore, dicom_file: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in (1, 2, 3):
        scan = pydicom.dcmread(dicom_file)
        scan.PixelData = np.roll(scan.pixel_array, number, axis=1).tobytes()
        scan.PatientAge = "097Y"
        scan.save_as(archive / f"{number}.dcm")
    (tmp_path / "gradio").mkdir(exist_ok=True)
    upload = (archive / "3.dcm").rename(tmp_path / "gradio" / "3.dcm")
    file = medtl.score(bundle_folder, archive, out=tmp_path / "scores.csv")
    assert "HIDDEN" not in file.read_text() and "SECRET" not in file.read_text()
    assert medtl.import_scores(file, reviews=tmp_path / "r.db") == 2
    reader.upload(upload)
    imported = [case for case in worklist.page(reviews, by=LEAD).cases if case.path.startswith(str(archive))]
    first, second = sorted(imported, key=lambda case: case.id)
    assert is_pseudonym(first.patient_id)
    known = {"age_years": 90.0, "sex": "F", "modality": "DX", "view": "PA", "body_part": "CHEST"}
    assert [{k: v for k, v in case.facts.items() if k != "doubts"} for case in (first, second)] == [known, known]
    assert first.id in {case.id for case in cases.priors(reviews, second.id, by=LEAD)}
    assert second.id in {case.id for case in cases.priors(reviews, first.id, by=LEAD)}
    shown = reader.reading
    assert shown is not None and {k: v for k, v in shown.stored.facts.items() if k != "doubts"} == known
    assert {case.id for case in cases.priors(reviews, shown.stored.id, by=LEAD)} == {first.id, second.id}
    assert shown.scan is not None and shown.scan.prior is not None
    assert shown.scan.prior().source == second.path, "the last one before it"


def test_an_upload_of_a_known_scan_opens_its_case(reader: Actor, reviews: ReviewStore, tmp_path: Path) -> None:
    copy = tmp_path / "gradio" / "a.png"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "scan3.png").read_bytes())
    reader.upload(copy)
    assert reader.reading is not None and reader.reading.stored.id == 4
    assert reader.reading.stored.path == str(tmp_path / "scan3.png"), "its recorded path stays"
    assert "20.0 %" in reader.rows()


def test_a_refused_upload(reader: Actor, reviews: ReviewStore, tmp_path: Path) -> None:
    (tmp_path / "gradio").mkdir()
    (tmp_path / "gradio" / f"{HOSTILE[:20]}.png").write_bytes(b"Dear colleague, " * 50)
    reader.next().upload(next((tmp_path / "gradio").iterdir()))
    picture = str(reader.shown[reader.page.case.viewer.scan])
    assert "This file was refused" in picture and "&lt;img" in picture and "<img" not in picture
    assert reader.reading is None and cases.get(reviews, 1, by=LEAD).claimed_by is None


def test_a_failure_inside_is_no_traceback_on_the_page(
    reader: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(reader.page.desk.detector, "explain", fail)
    reader.open(1)
    assert "medtl failed on this file" in reader.told() and "secret" not in reader.told()
    monkeypatch.undo()
    monkeypatch.setattr(reader.page.desk.detector, "predict", fail)
    (tmp_path / "gradio").mkdir()
    reader.upload(write_scan(tmp_path / "gradio" / "new.png", 50))
    assert "medtl failed on this file" in reader.told() and "secret" not in reader.told()


def test_scores_of_another_bundle_are_made_anew(detector: Detector, reviews: ReviewStore, png_file: Path) -> None:
    [number] = cases.add(reviews, [new_case(png_file, "an older bundle", (0.01, 0.99))])
    reader = Actor(detector, reviews).open(number)
    assert reader.reading is not None
    alone = detector.predict(png_file)
    assert [score.probability for score in reader.reading.stored.scores] == pytest.approx(
        [score.probability for score in alone.scores], abs=1e-6
    )
    reader.save("agree", "agree")
    assert {row.bundle_id for row in verdicts.standing(reviews)} == {detector.bundle.bundle_id}


@pytest.mark.parametrize(("name", "seen"), [("Dr A", False), ("Dr L", True), ("Boss", True)])
def test_identity_is_for_leads(
    detector: Detector, reviews: ReviewStore, dicom_file: Path, name: str, seen: bool
) -> None:
    [number] = cases.add(reviews, [new_case(dicom_file, detector.bundle.bundle_id, (0.9, 0.1))])
    actor = Actor(detector, reviews, name).open(number)
    for word in ("SECRET", "HIDDEN-4711"):
        assert (word in actor.told()) is seen
    assert ("name and ids hidden" in actor.told()) is not seen
    assert "<img src=x" not in actor.told().replace("&lt;img src=x", "")


def test_verdict_first(detector: Detector, reviews: ReviewStore, numbers: list[int]) -> None:
    reader = Actor(detector, reviews, verdict_first=True)
    listed = reader.take(reader.page.greet(reader.request, "", "", "", "", "", "", "urgency"))
    listed.next()
    picture = reader.page.case.viewer
    for place in ("1", "0"):
        reader.take(reader.page.case.look_at(reader.reading, *reader.settings, place))
    # A request that no page sends: the heatmap by hand.
    reader.take(picture.explain(reader.shown[reader.page.case.scan], "pneumonia", *reader.settings))
    assert not PROBABILITY.search(reader.told()), "neither a probability nor a bar"
    assert 'class="heat' not in reader.told() and "above the operating point" not in reader.told()
    assert reader.reading is not None and reader.reading.blind
    assert reader.shown[picture.finding]["interactive"] is False

    reader.save("present", None)
    assert "say present, absent or unsure on every finding first; large nodule not yet" in reader.notice
    reader.save("absent", "absent").go()
    assert "90.0 %" in reader.rows() and reader.choices() == ["absent", "absent"]
    assert reader.reading.stored.id == numbers[0] and reader.shown[picture.finding]["value"] == "pneumonia"
    reader.save("present", "absent").go()
    assert reader.reading.stored.id == numbers[1]
    rows = all_rows(reviews, numbers[0])
    assert [(row.finding, row.verdict, row.verdict_first, row.supersedes) for row in rows] == [
        ("pneumonia", "disagree", True, None),
        ("large_nodule", "agree", True, None),
        ("pneumonia", "agree", False, 1),
        ("large_nodule", "agree", False, 2),
    ]

    reader.save("absent", "absent").go()
    reader.save("absent", "absent").go()
    assert len(all_rows(reviews, numbers[1])) == 2, "what was not corrected is not said twice"
    assert reader.reading.stored.id == numbers[2] and cases.get(reviews, numbers[1], by=LEAD).claimed_by is None
    reader.open(numbers[0])
    assert not reader.reading.blind, "he has spoken"


def test_what_was_drawn_ahead_stays_hidden(detector: Detector, reviews: ReviewStore, numbers: list[int]) -> None:
    reader = Actor(detector, reviews, verdict_first=True).next()
    reader.save("absent", "absent").go().sent.clear()
    wait_for(reader, numbers[1])
    reader.save("present", "absent").go()
    view = reader.page.case
    assert reader.reading is not None and reader.reading.blind and reader.reading.stored.id == numbers[1]
    assert reader.reading.scan is not None and set(reader.reading.scan.layers) == {("pneumonia", "grad-cam")}, "drawn"
    reader.take(view.viewer.explain(reader.shown[view.scan], "pneumonia", *reader.settings))
    assert not PROBABILITY.search(reader.told()) and 'class="heat' not in reader.told()
    assert "outline" not in reader.told()
    reader.save("absent", "absent").go()
    assert 'class="heat' in reader.shown[view.viewer.heat], "now he has spoken"


def test_undo_after_the_answer_was_shown_does_not_hide_it_again(
    detector: Detector, reviews: ReviewStore, numbers: list[int]
) -> None:
    reader = Actor(detector, reviews, verdict_first=True).next()
    reader.save("absent", "present").go().undo()
    assert reader.reading is not None and not reader.reading.blind
    assert reader.choices() == ["disagree", "disagree"], "in the words that are offered now"


def test_a_second_reader_is_blind_and_a_lead_decides(detector: Detector, reviews: ReviewStore, tmp_path: Path) -> None:
    [number, *_] = add_cases(reviews, tmp_path, detector.bundle.bundle_id, readings_wanted=2)
    actor = Actor(detector, reviews, "Dr A", readings=2)
    actor.open(number).save("agree", "agree", note=HOSTILE)
    actor.be("Dr L").open(number)
    assert "Dr A" not in actor.told() and HOSTILE[:8] not in actor.told(), "a lead may be the second reader"
    actor.take(actor.page.flow.skip(actor.request, actor._where(), actor.reading, *actor.settings))
    cases.release(reviews, number, by=LEAD)
    actor.be("Dr B").open(number)
    assert "Dr A" not in actor.told() and actor.choices() == [None, None]
    actor.save("disagree", "agree")
    actor.be("Dr A").open(number)
    assert "Dr B" not in actor.told() and actor.choices() == ["agree", "agree"], "nor does the first learn of it"
    cases.release(reviews, number, by=LEAD)

    actor.be("Dr L").decide()
    assert actor.reading is not None and actor.reading.stored.id == number and actor.reading.decides
    first = str(actor.shown[actor.page.case.verdict.rows[0]])
    assert first.index("Dr A") < first.index("Dr B") and "present" in first and "absent" in first
    assert "&lt;img src=x" in first and HOSTILE not in actor.told()
    actor.save("absent", None)
    assert cases.get(reviews, number, by=LEAD).status == "done"
    decided = [row for row in verdicts.standing(reviews) if row.adjudicates]
    assert [(row.finding, row.label, row.reader) for row in decided] == [("pneumonia", 0, "Dr L")]
    actor.go()
    assert "No case is left to decide here" in actor.notice


def test_a_reader_cannot_decide(reader: Actor) -> None:
    reader.decide()
    assert "Dr A (reader) cannot take the next case of status" in reader.notice and reader.reading is None


def test_a_bundle_that_is_replaced_while_it_serves(reviews: ReviewStore, tmp_path: Path) -> None:
    """The detector that was loaded goes on, with its own pictures of similar scans, until medtl serve is restarted."""
    folder, random = write_tiny(tmp_path / "bundle", PreprocessSpec(size_px=64, input_px=32)), np.random.default_rng(0)

    def keep_pictures() -> None:
        kept = reference_of(
            embeddings=random.normal(size=(6, load(folder).reference.embeddings.shape[1])),
            labels=random.integers(0, 2, (6, 2)).astype(np.float64),
            scan_ids=[f"s{number}" for number in range(6)],
            thumbnails=random.integers(0, 256, (6, 96, 96)).astype(np.uint8),
        )
        write_reference(folder, kept)

    keep_pictures()
    actor = Actor(load(folder), reviews)
    number = add_cases(reviews, tmp_path, "another bundle")[0]
    actor.open(number)
    before, said, why = actor.reading, actor.rows(), actor.shown[actor.page.case.reasons]
    assert before is not None and before.stored.bundle_id == actor.page.desk.detector.bundle.bundle_id
    assert why.count("<img") == 5
    write_tiny(folder, PreprocessSpec(size_px=64, input_px=16))
    keep_pictures()
    assert load(folder).bundle.bundle_id != before.stored.bundle_id
    for act in (lambda: None, lambda: shutil.rmtree(folder)):
        act()
        actor.open(number)
        assert actor.reading is not None and actor.reading.scan is not None
        assert (actor.rows(), actor.shown[actor.page.case.reasons]) == (said, why)
    actor.save("agree", None)
    (row,) = verdicts.standing(reviews)
    assert (row.bundle_id, row.case_id) == (before.stored.bundle_id, number)


def test_role_and_time_are_kept_with_a_verdict(reader: Actor, reviews: ReviewStore) -> None:
    reader.next().save("agree", None)
    [row] = verdicts.standing(reviews)
    assert (row.role, row.probability) == ("reader", 0.9)
    assert row.seconds is not None and 0 <= row.seconds < 600
