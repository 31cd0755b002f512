"""A lead teaches a finding from the page: marked by readers, in the background, into a bundle beside the served one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import medtl
from app.teaching import Teacher
from medtl.inference.runtime import Detector, load
from medtl.review import cases, verdicts
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.verify import verify_reviews
from tests.app.acting import Actor, new_case, write_scan
from tests.app.people import add_people
from tests.conftest import picture

ANY = ("", "", "", "", "", "", "urgency")
LEAD = "Dr L"


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle that others may come to lie beside."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundles" / "chest"))


@pytest.fixture
def detector(folder: Path) -> Detector:
    return load(folder)


@pytest.fixture
def reviews(tmp_path: Path) -> Iterator[ReviewStore]:
    store = ReviewStore(tmp_path / "r.db")
    add_people(store)
    yield store
    store.close()


@pytest.fixture
def actor(detector: Detector, reviews: ReviewStore, folder: Path) -> Actor:
    return Actor(detector, reviews, LEAD, folder=folder)


def add_spots(actor: Actor, folder: Path, count: int) -> list[int]:
    """Cases with a bright spot, and every second one without."""
    from PIL import Image

    new = []
    for seed in range(count):
        path = folder / f"spot{seed}.png"
        Image.fromarray(picture(seed, spot=seed % 2 == 0)).save(path)
        new.append(new_case(path, actor.page.desk.detector.bundle.bundle_id, (0.9, 0.1)))
    return cases.add(actor.store, new)


def mark_all(actor: Actor, numbers: list[int]) -> None:
    for place, number in enumerate(numbers):
        actor.open(number).save(None, None, to_teach="Bright  spot", marked="present" if place % 2 == 0 else "absent")
        assert "Saved case" in str(actor.shown[actor.page.case.verdict.saved]), actor.notice


def taught(actor: Actor, finding: str = "bright_spot") -> str:
    actor.take(actor.page.lead.teach_it(actor.request, finding))
    return str(actor.shown.get(actor.page.lead.lesson, ""))


def seen(actor: Actor) -> str:
    """The lead's view, opened anew."""
    actor.take(actor.page.agreement(actor.request))
    return str(actor.shown[actor.page.lead.candidates])


def bits(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_from_marks_to_a_bundle(actor: Actor, folder: Path, tmp_path: Path) -> None:
    numbers, before = add_spots(actor, tmp_path, 12), bits(folder)
    mark_all(actor, numbers[:6])
    assert "<td>Bright spot</td><td>3</td><td>3</td><td>0</td>" in seen(actor)
    assert "1 present and 1 absent more needed" in seen(actor)
    assert actor.shown[actor.page.lead.teach]["interactive"] is False
    mark_all(actor, numbers[6:])
    assert "<td>6</td><td>6</td><td>0</td><td>can be taught</td>" in seen(actor)
    assert actor.shown[actor.page.lead.finding]["value"] == "bright_spot"

    said = taught(actor)
    out = folder.with_name("chest-bright_spot")
    assert "Bright spot was taught in" in said and "6 positive and 6 negative scans of 12 patients" in said
    assert "AUROC out of fold" in said and "taught from 6 positive and 6 negative scans only" in said.lower()
    assert f"medtl serve {out} --reviews {tmp_path / 'r.db'}" in said
    assert any("Teaching bright spot from 12 cases" in str(changes) for changes in actor.sent)
    assert bits(folder) == before, "the bundle at work is as it was"

    new, old = load(out), load(folder)
    assert new.bundle.findings == (*old.bundle.findings, "bright_spot")
    scan = write_scan(tmp_path / "any.png", 5)
    then, now = old.predict(scan), new.predict(scan)
    assert [s.probability for s in then.scores] == [s.probability for s in now.scores][:2]
    # The same from the files by hand.
    files = [(tmp_path / f"spot{seed}.png", 1 - seed % 2) for seed in range(12)]
    by_hand = medtl.teach(folder, files, out=tmp_path / "by-hand", finding="bright_spot")
    np.testing.assert_equal(load(by_hand).predict(scan).scores[2], now.scores[2])

    taught(actor)
    assert folder.with_name("chest-bright_spot-2").is_dir(), "nothing is overwritten"
    assert verify_reviews(tmp_path / "r.db").count == 12
    actor.page.teacher.close()


def test_readers_mark_what_a_lead_began(actor: Actor, reviews: ReviewStore, tmp_path: Path) -> None:
    numbers = add_spots(actor, tmp_path, 3)
    sign = actor.page.case.verdict
    reader = actor.be("Dr A").take(actor.page.greet(actor.request, *ANY))
    assert reader.shown[sign.mark_row]["visible"] is False
    reader.open(numbers[0]).save("agree", None, to_teach="device", marked="present")
    assert "Not saved: no lead has begun to mark device" in reader.notice and verdicts.standing(reviews) == []
    cases.release(reviews, numbers[0], by=User(name="Dr A", role="reader"))
    lead = actor.be(LEAD).take(actor.page.greet(actor.request, *ANY))
    assert lead.shown[sign.mark_row]["visible"] is True
    lead.open(numbers[1]).save("agree", None, to_teach="device", marked="absent")
    reader = actor.be("Dr A").take(actor.page.greet(actor.request, *ANY))
    assert reader.shown[sign.mark_row]["visible"] is True
    assert reader.shown[sign.to_teach]["choices"] == [("Device", "device")]
    reader.open(numbers[2]).save(None, "agree", to_teach="device", marked="present")
    assert [(row.reader, row.finding, row.label) for row in verdicts.standing(reviews)] == [
        (LEAD, "pneumonia", 1), (LEAD, "device", 0), ("Dr A", "large_nodule", 0), ("Dr A", "device", 1),
    ]  # fmt: skip
    reader.open(numbers[2])
    assert reader.shown[sign.marked]["value"] == "present" and reader.shown[sign.to_teach] == "device"
    reader.open(numbers[0])
    assert reader.shown[sign.marked]["value"] is None
    reader.save(None, None, to_teach="", marked="present")
    assert "say which, or choose it from the list" in reader.notice


def test_a_mark_that_is_taken_back_stands_on_the_page_again(actor: Actor, tmp_path: Path) -> None:
    [number] = add_spots(actor, tmp_path, 1)
    actor.open(number).save("agree", None, to_teach="device", marked="absent").undo()
    sign = actor.page.case.verdict
    assert (actor.shown[sign.to_teach], actor.shown[sign.marked]["value"]) == ("device", "absent")
    assert verdicts.standing(actor.store) == []


def test_teaching_is_for_leads(actor: Actor, folder: Path, tmp_path: Path) -> None:
    mark_all(actor, add_spots(actor, tmp_path, 8))
    actor.be("Dr A")
    assert taught(actor) == "" and "Dr A is a reader; only a lead" in actor.notice
    assert [path.name for path in folder.parent.iterdir()] == ["chest"]


def test_what_cannot_be_taught_is_said(actor: Actor, folder: Path, tmp_path: Path) -> None:
    mark_all(actor, add_spots(actor, tmp_path, 9))
    (tmp_path / "spot8.png").unlink()
    said = taught(actor)
    assert "4 positive and 4 negative scans" in said
    assert "Left out, for their scans can no longer be read: case 9." in said
    for seed in (0, 2):
        (tmp_path / f"spot{seed}.png").write_bytes(b"another file")
    assert taught(actor) == ""
    assert "not taught: bright_spot: has 2 positive and 4 negative examples" in actor.notice
    assert taught(actor, "") == "" and "choose a finding first" in actor.notice
    assert sorted(path.name for path in folder.parent.iterdir() if path.name[0] != ".") == [
        "chest",
        "chest-bright_spot",
    ]


def test_a_bundle_that_was_replaced_is_not_taught(actor: Actor, folder: Path, tmp_path: Path) -> None:
    mark_all(actor, add_spots(actor, tmp_path, 8))
    taught(actor)
    shutil.rmtree(folder)
    folder.with_name("chest-bright_spot").rename(folder)
    assert taught(actor) == "" and "start medtl serve again first" in actor.notice


def test_one_at_a_time(actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_all(actor, add_spots(actor, tmp_path, 8))
    asked: list[str] = []

    def meanwhile(self: Teacher, seconds: float) -> None:
        if not asked:
            asked.append("again")
            other = actor.page.lead.teach_it(actor.request, "bright_spot")
            asked.append(str(next(other)))
        original(self, seconds)

    original = Teacher.wait
    monkeypatch.setattr(Teacher, "wait", meanwhile)
    assert "was taught in" in taught(actor)
    assert "Teaching bright spot from 8 cases; wait until this is done" in asked[1]


def test_a_failure_inside_is_no_traceback_on_the_page(
    actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mark_all(actor, add_spots(actor, tmp_path, 8))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(medtl, "teach", broken, raising=False)
    assert taught(actor) == "" and "medtl failed; the server&#x27;s log says where" in actor.notice
    assert "secret" not in actor.told() and "secret" in caplog.text
