"""Health and metrics, and faults of what they watch."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtl.data.preprocess import PreprocessSpec
from medtl.inference.bundle import read_bundle
from medtl.review import cases, verdicts
from medtl.review.records import NewCase, Score, Verdict
from medtl.review.users import User
from tests.app.conftest import write_tiny
from tests.app.door import COOKIE, Door
from tests.app.people import PASSWORD, add_people, type_in


@pytest.fixture
def door(bundle_folder: Path, tmp_path: Path) -> Iterator[Door]:
    (tmp_path / "store").mkdir()
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    door = Door(tmp_path / "bundle", tmp_path / "store")
    add_people(door.store, ["Dr A", "Boss"])
    yield door
    door.store.close()


def scan(name: str) -> NewCase:
    score = Score(finding="pneumonia", probability=0.9, threshold=0.5, decision="positive")
    return NewCase(scan_id=name, sha256="0", path=name, bundle_id="b", scores=(score,))


def figure(text: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_metrics_count(door: Door) -> None:
    first, second = cases.add(door.store, [scan("a"), scan("b")])
    a = User(name="Dr A", role="reader")
    cases.claim(door.store, first, by=a)
    said = Verdict(case_id=first, bundle_id="b", finding="pneumonia", verdict="agree")
    verdicts.save(door.store, [said], by=a, token="0123456789abcdef")
    here = door.browser()
    for _ in range(3):
        assert here.get("/config").status_code == 401
    answer = here.get("/metrics")
    text = answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert figure(text, "medtl_verdicts_saved_total") == 1
    assert figure(text, "medtl_open_cases") == 1, f"only case {second} waits"
    assert figure(text, 'medtl_requests_total{status="401"}') == 3
    assert figure(text, "medtl_request_seconds_count") == 3 and figure(text, "medtl_request_seconds_sum") > 0
    assert figure(text, 'medtl_request_seconds_bucket{le="+Inf"}') == 3
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(len(line.split(" ")) == 2 and float(line.split(" ")[1]) >= 0 for line in samples)


def test_metrics_are_for_this_machine_and_administrators(door: Door) -> None:
    elsewhere = door.browser(host="10.0.0.9")
    assert elsewhere.get("/metrics").status_code == 401
    assert door.browser().get("/metrics", headers={"x-forwarded-for": "10.0.0.9"}).status_code == 401
    for name, status in (("Dr A", 403), ("Boss", 200)):
        elsewhere.cookies.set(COOKIE, door.logged_in(name).cookies[COOKIE])
        assert elsewhere.get("/metrics").status_code == status, name


def test_health(door: Door, tmp_path: Path) -> None:
    well = door.browser(host="10.0.0.9").get("/health")
    assert well.status_code == 200
    assert well.json() == {"status": "ok", "bundle_id": read_bundle(tmp_path / "bundle")[0].bundle_id}


def test_the_database_is_deleted(door: Door, tmp_path: Path) -> None:
    reader = door.logged_in("Dr A")
    assert reader.get("/config").status_code == 200
    for file in (tmp_path / "store").iterdir():
        file.unlink()
    ill = door.browser().get("/health")
    assert ill.status_code == 503
    assert ill.json() == {"status": "unavailable", "reason": "the review store does not answer"}
    assert str(tmp_path) not in ill.text
    assert door.browser().get("/metrics").status_code == 503
    banner = reader.get("/", headers={"accept": "text/html"})
    assert banner.status_code == 503 and "The review store does not answer." in banner.text
    saving = reader.post("/gradio_api/queue/join", json={"session_hash": "a", "data": []})
    assert saving.status_code == 500 and saving.json()["detail"].endswith("nothing was saved")
    login = type_in(door.browser(), "/login", name="Dr A", password=PASSWORD)
    assert login.status_code == 503 and "nobody can log in until it does" in login.text
    assert list((tmp_path / "store").iterdir()) == [], "no new, empty store"


def test_another_bundle_in_the_folder(door: Door, tmp_path: Path, dicom_file: Path) -> None:
    here = door.browser()
    before = here.get("/health").json()["bundle_id"]
    write_tiny(tmp_path / "bundle", PreprocessSpec(size_px=64, input_px=16))
    there = read_bundle(tmp_path / "bundle")[0].bundle_id
    assert there != before
    said = here.get("/health").json()
    assert said["status"] == "ok" and said["bundle_id"] == before, "the one that was loaded goes on"
    assert said["note"] == f"the bundle's folder now holds {there}; restart medtl serve to use it"
    shutil.rmtree(tmp_path / "bundle")
    assert here.get("/health").json()["note"].startswith("the bundle's folder now holds no bundle")
