"""How fast the review page is: opening a case, the next one, twenty readers at once, and memory over many cases.

    python benchmarks/page.py [--real FOLDER] [--readers 20] [--cases 2000]

Makes 240 DICOM files of 2048 x 2048, 12 bit, in three transfer syntaxes, from real radiographs (the simulated ones
where there are none), and a detector (EfficientNet-Lite0 from ImageNet, linear head); serves them from a process of its
own, on this machine only. In headless Chromium: seconds from the click until a case's image, and until its findings and
heatmap, are drawn; the same from "save and next" for a case that was read ahead. By HTTP, as the browser asks: readers
who all log in and save ten cases each, no two of one file, after which every verdict is looked up in the store and the
chain is verified; then the server's memory while 2,000 cases are opened, which take turns in showing the files.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright

import medtl
from app.case import new_case
from medtl.inference.prediction import Prediction
from medtl.inference.runtime import Detector
from medtl.review import cases, users, verdicts, worklist
from medtl.review.records import NewCase
from medtl.review.store import ReviewStore
from medtl.review.users import User
from medtl.review.verify import verify_reviews

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that it runs as a file, too, from anywhere

from benchmarks.browsing import Tab
from benchmarks.radiographs import REAL, ROOT, pictures, write_dicoms

FILES, SIDE_PX = 240, 2048
OPENED, LOOKED_AT_S = 20, 5.0
"""Cases that are opened in Chromium, each way, and how long one is looked at before the next."""
SAVES_EACH = 10
NEWEST, APART = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=30)
"""When the least urgent case arrived, and how much earlier each next one: their age decides the order."""
PASSWORD = "benchmark benchmark"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000
DRAWN = """async ([number, scan, act]) => {
  const img = (name) => {
    const found = document.querySelector(name);
    return Boolean(found?.complete && found.naturalWidth);
  };
  const began = performance.now();
  if (act === "open") medtl.open(number); else document.getElementById("save").click();
  const drawn = async (ready) => {
    while (!ready()) {
      if (performance.now() - began > 100000) throw new Error(`case ${number} did not open`);
      await new Promise(requestAnimationFrame);
    }
    await Promise.all([...document.querySelectorAll("#scan img, #heat img")].map((each) => each.decode()));
    return (performance.now() - began) / 1000;
  };
  const status = () => document.querySelector("#status .status");
  const image = await drawn(() => document.querySelector("#scan svg.place")?.dataset.scan === scan && img("#scan img"));
  const heat = () => img("#heat img") || /no heatmap/i.test(document.getElementById("caption").innerText);
  const answer = await drawn(() => heat() && status().innerText === `Case ${number}`
    && !status().classList.contains("busy") && !document.querySelector(".finding.none"));
  return [image, answer];
}"""
"""Seconds from the click until a case's image, and until its findings and heatmap, can be drawn."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server at work.

    Args:
        reviews: its store's file.
        scans: the scan that each case shows, by the case's number.
    """

    url: str
    reviews: Path
    store: ReviewStore
    process: psutil.Process
    scans: dict[int, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL, help="a folder of PNGs")
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--cases", type=int, default=2000, help="how many are opened while memory is watched")
    asked = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores; load of the machine {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = write_dicoms(pictures(asked.real, most=FILES), Path(folder) / "dicom", count=FILES, side_px=SIDE_PX)
        bundle = detector(Path(folder))
        reviews = Path(folder) / "review.db"
        count = 3 * OPENED + asked.readers * (SAVES_EACH + 1) + asked.cases
        scans = worklist_of(reviews, bundle, files, count=count, readers=asked.readers)
        with serving(bundle, reviews, scans) as served:
            in_chromium(served)
            at_once(served, asked.readers)
            memory(served, asked.cases, asked.readers)
    print(f"load of the machine {os.getloadavg()[0]:.1f}", flush=True)


def detector(folder: Path) -> Path:
    """A bundle for the simulated radiographs, made quickly."""
    samples = ROOT / "sample_data"
    medtl.ingest(samples / "images", labels=samples / "labels.csv", out=folder / "data")
    quick = {"encoder": "imagenet", "strategy": "linear", "settings": ["steps=30"]}
    return medtl.finetune(folder / "data", out=folder / "bundle", **quick)


def worklist_of(reviews: Path, bundle: Path, files: Sequence[Path], *, count: int, readers: int) -> dict[int, str]:
    """A store with readers and so many cases; returns what `Served.scans` is."""
    store, network = ReviewStore(reviews), medtl.load(bundle)
    for reader in range(readers):
        users.add(store, name_of(reader), PASSWORD, role="reader")
    said = [network.predict(file) for file in files]
    shown = [place % len(said) for place in range(count)]
    new = [case_of(network, said[file], path=files[file], place=place) for place, file in enumerate(shown)]
    numbers = cases.add(store, new)
    store.close()
    return {number: said[file].scan.scan_id for number, file in zip(numbers, shown, strict=True)}


def case_of(network: Detector, said: Prediction, *, path: Path, place: int) -> NewCase:
    """A case of its own, though its file may have several."""
    new = new_case(network, said, path=str(path))
    return replace(new, scan_id=f"{new.scan_id}-{place}", received_at=(NEWEST - place * APART).isoformat())


@contextmanager
def serving(bundle: Path, reviews: Path, scans: dict[int, str]) -> Iterator[Served]:
    """`medtl serve` in a process of its own, which is ended at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "medtl", "serve", str(bundle), "--reviews", str(reviews), "--port", str(port)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    store = ReviewStore(reviews)
    try:
        assert process.stdout is not None
        assert "review page" in process.stdout.readline(), "the server did not start"
        url = f"http://127.0.0.1:{port}"
        yield Served(url=url, reviews=reviews, store=store, process=psutil.Process(process.pid), scans=scans)
    finally:
        store.close()
        process.terminate()
        process.wait(timeout=60)


def in_chromium(served: Served) -> None:
    """What one reader waits for."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        page = chromium.new_page(viewport={"width": 1920, "height": 1080})
        page.set_default_timeout(PATIENCE_MS)
        page.goto(served.url)
        page.get_by_label("Name").fill(name_of(0))
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("#table [data-case]")
        numbers = list(served.scans)[: OPENED + 1]
        opened = [page.evaluate(DRAWN, [number, served.scans[number], "open"]) for number in numbers]
        report("a case is opened", opened, goals=(0.7, 2.0))
        before = seconds_of(served)
        following = [_next(served, page) for _ in range(OPENED + 1)]
        report("saved, and the next case, read ahead", following, goals=(0.3, 0.3))
        each_s = (seconds_of(served) - before) / len(following)
        print(f"the server computes {each_s:.2f} s a case, reading ahead included", flush=True)
        chromium.close()


def _next(served: Served, page: Page) -> list[float]:
    """Save the case on the page as a reader does, and see the next one."""
    page.wait_for_timeout(1000 * LOOKED_AT_S)
    page.locator(".one .choice label").first.click()
    where = worklist.Filter(status="open")
    following = worklist.page(served.store, by=reader_of(0), where=where, limit=1).cases[0].id
    seconds: list[float] = page.evaluate(DRAWN, [following, served.scans[following], "save"])
    return seconds


def report(what: str, took: Sequence[Sequence[float]], *, goals: tuple[float, float]) -> None:
    """Print both times that `DRAWN` gives; the first case's are left out, which loads what the others find loaded."""
    for part, seconds, goal in zip(("image", "findings and heatmap"), zip(*took[1:], strict=True), goals, strict=True):
        told(f"{what}: {part}", seconds, goal_s=goal)


def at_once(served: Served, readers: int) -> None:
    """All readers read and save at once; no verdict may be lost or doubled."""
    saves: list[float] = []
    images: list[float] = []
    waits: list[float] = []
    acknowledged: list[tuple[int, str]] = []
    failed: list[BaseException] = []

    def read(tab: Tab, name: str) -> None:
        try:
            tab.press("next-case")
            for _ in range(SAVES_EACH):
                tab.choose()
                began = time.perf_counter()
                tab.press("save")
                saves.append(time.perf_counter() - began)
                first, last = re.findall(r"\(verdicts (\d+) to (\d+)\)", tab.shown("saved"))[0]
                acknowledged.extend((number, name) for number in range(int(first), int(last) + 1))
                drawn, seen, began = tab.shown("scan"), [], time.perf_counter()
                for _ in tab.follow("save"):
                    if tab.shown("scan") not in ("", drawn):
                        seen.append(time.perf_counter() - began)
                images.append(seen[0])
                waits.append(time.perf_counter() - began)
        except BaseException as problem:
            failed.append(problem)

    before = {row.id for row in verdicts.standing(served.store)}
    names = [name_of(reader) for reader in range(readers)]
    threads = [threading.Thread(target=read, args=(Tab(served.url, name, PASSWORD), name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    told(f"{readers} readers at once: a save", saves, goal_s=3.0)
    told(f"{readers} readers at once: the image of the next case", images)
    told(f"{readers} readers at once: the next case after it", waits)
    there = [(row.id, row.reader) for row in verdicts.standing(served.store) if row.id not in before]
    whole = verify_reviews(served.reviews).count == len(before) + len(there)
    lost, more = len(set(acknowledged) - set(there)), len(there) - len(set(acknowledged))
    print(f"{len(saves)} saves, {len(acknowledged)} verdicts acknowledged, {len(there)} in the store: {lost} lost, "
          f"{more} doubled; the chain is {'whole' if whole else 'BROKEN'}", flush=True)  # fmt: skip


def memory(served: Served, count: int, readers: int) -> None:
    """The server's resident memory while readers in turn go from case to case."""
    tabs = [Tab(served.url, name_of(reader), PASSWORD) for reader in range(readers)]
    began = time.perf_counter()
    for place in range(1, count + 1):
        tab = tabs[place % readers]
        tab.press("skip" if place > readers else "next-case")
        assert tab.shown("token"), tab.shown("notice")
        if place in (20, 100, 500, 1000) or place % 1000 == 0:
            each_s = (time.perf_counter() - began) / place
            print(f"after {place:,} cases: {served.process.memory_info().rss / 1e6:,.0f} MB resident; "
                  f"{each_s:.2f} s a case", flush=True)  # fmt: skip


def told(what: str, seconds: Sequence[float], *, goal_s: float | None = None) -> None:
    """Print a line."""
    goal = "" if goal_s is None else f"; goal {goal_s:g} s"
    print(f"{what}: median {np.median(seconds):.2f} s, p95 {np.percentile(seconds, 95):.2f} s{goal}", flush=True)


def seconds_of(served: Served) -> float:
    """Of the processor, which the server has used so far: other work on the machine does not count."""
    used = served.process.cpu_times()
    return float(used.user + used.system)


def name_of(reader: int) -> str:
    return f"reader {reader}"


def reader_of(reader: int) -> User:
    return User(name=name_of(reader), role="reader")


if __name__ == "__main__":
    main()
