"""Downloads from a server on this machine; the oracle is what the server saw, and the bytes themselves."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import medtl
from medtl.data import download, medmnist
from medtl.data import fetch as module
from medtl.data.npz import read_npz
from medtl.errors import ConfigError, FetchError, Stopped

CONTENT = np.random.default_rng(0).bytes(300_000)
NAME = "pneumoniamnist.npz"
CUT = 170_001


@dataclass
class Archive:
    """What the server gives and does, and what it was asked."""

    url: str
    files: dict[str, bytes]
    ranges: bool = True
    cut_after: int | None = None
    status: int | None = None
    asked: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        archive: Archive = cast(Any, self.server).archive
        wanted = self.headers.get("Range")
        archive.asked.append(wanted)
        content = archive.files.get(self.path.split("?")[0].removeprefix("/files/"))
        if archive.status or content is None:
            self.send_error(archive.status or 404)
            return
        start = 0
        if wanted and archive.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: archive.cut_after]
        archive.sent.append(len(body))  # before the client can have it all
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    given = Archive(url=f"http://127.0.0.1:{server.server_port}/files", files={NAME: CONTENT})
    cast(Any, server).archive = given
    monkeypatch.setattr(module, "ARCHIVE", given.url)
    table = module._sets()
    table["pneumoniamnist"].md5["28"] = hashlib.md5(CONTENT).hexdigest()
    monkeypatch.setattr(module, "_sets", lambda: table)
    yield given
    server.shutdown()
    server.server_close()
    thread.join(10)


def part(folder: Path) -> Path:
    return folder / f".{NAME}.part"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_download(archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = medtl.fetch("pneumoniamnist", out=tmp_path / "new folder")
    assert path == tmp_path / "new folder" / NAME and path.read_bytes() == CONTENT
    assert names(tmp_path / "new folder") == [NAME]
    assert archive.asked == [None] and archive.sent == [len(CONTENT)]
    out, said = capfd.readouterr()
    assert out == ""
    first, loaded, following = said.splitlines()
    assert "5,856 images" in first and "licence CC BY 4.0" in first and "Kermany" in first
    assert loaded == f"{path}: loaded, MD5 checked"
    assert following == f"next: medtl ingest '{path}' --out '{path.with_suffix('')}'"


def test_a_cut_connection_goes_on_where_it_stopped(
    archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive.cut_after = CUT
    with pytest.raises(FetchError, match=r"the connection broke after 0\.\d MB of 0\.3 MB .*call again to go on"):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert names(tmp_path) == [part(tmp_path).name]
    have = part(tmp_path).stat().st_size
    assert CUT - download.PIECE_BYTES < have <= CUT and part(tmp_path).read_bytes() == CONTENT[:have]
    archive.cut_after = None
    path = medtl.fetch("pneumoniamnist", out=tmp_path)
    assert path is not None and path.read_bytes() == CONTENT and names(tmp_path) == [NAME]
    assert archive.asked == [None, f"bytes={have}-"] and archive.sent[1] == len(CONTENT) - have
    assert "going on after" in capfd.readouterr().err


def test_a_server_that_cannot_go_on_starts_again(archive: Archive, tmp_path: Path) -> None:
    archive.ranges = False
    part(tmp_path).write_bytes(CONTENT[:1000])
    path = medtl.fetch("pneumoniamnist", out=tmp_path)
    assert path is not None and path.read_bytes() == CONTENT
    assert archive.asked == ["bytes=1000-"] and archive.sent == [len(CONTENT)]


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (CONTENT[:1000][::-1], ["bytes=1000-", None]),  # other bytes: seen by the MD5 of the whole
        (CONTENT + b"more", [f"bytes={len(CONTENT) + 4}-", None]),  # longer than the file
        (CONTENT, [f"bytes={len(CONTENT)}-"]),  # killed before it was moved
        (CONTENT[::-1], [f"bytes={len(CONTENT)}-", None]),
    ],
)
def test_what_an_earlier_call_left(archive: Archive, tmp_path: Path, left: bytes, asked: list[str | None]) -> None:
    part(tmp_path).write_bytes(left)
    path = medtl.fetch("pneumoniamnist", out=tmp_path)
    assert path is not None and path.read_bytes() == CONTENT and names(tmp_path) == [NAME]
    assert archive.asked == asked


def test_a_wrong_file_is_not_kept(archive: Archive, tmp_path: Path) -> None:
    archive.files[NAME] = CONTENT[:-1] + b"?"
    with pytest.raises(FetchError, match=r"not the expected file \(its MD5 is not \w{32}\) and was not kept"):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert names(tmp_path) == [] and archive.asked == [None]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "the archive does not have it (404 Not Found)"),
        (503, "the archive answers 503 Service Unavailable; try again later"),
        (429, "the archive answers 429 Too Many Requests; try again later"),
    ],
)
def test_a_refusing_archive_leaves_the_part_alone(archive: Archive, tmp_path: Path, status: int, message: str) -> None:
    archive.status = status
    part(tmp_path).write_bytes(CONTENT[:1000])
    with pytest.raises(FetchError, match=re.escape(message)):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert part(tmp_path).read_bytes() == CONTENT[:1000] and names(tmp_path) == [part(tmp_path).name]


def test_an_archive_out_of_reach(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(module, "ARCHIVE", f"http://127.0.0.1:{taken.getsockname()[1]}/files")
        with pytest.raises(FetchError, match=r"cannot be reached \(Connection refused\); .*and put it at .*" + NAME):
            medtl.fetch("pneumoniamnist", out=tmp_path)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(module, "ARCHIVE", f"http://127.0.0.1:{silent.getsockname()[1]}/files")
        monkeypatch.setattr(download, "TIMEOUTS_S", (0.3, 0.3))
        with pytest.raises(FetchError, match=r"cannot be reached \(timed out\)"):
            medtl.fetch("pneumoniamnist", out=tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_is_there_is_checked(archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    assert medtl.fetch("pneumoniamnist", out=tmp_path) == path
    assert archive.asked == [] and "is there already and is right (MD5 checked)" in capfd.readouterr().err
    path.write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"is there already but is another file \(MD5 \w{32}, expected \w{32}\)"):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert path.read_bytes() == b"mine"


def test_a_disk_known_to_be_too_small(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=200_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match=r"no space left: 0\.3 MB are still to come, 0\.2 MB are free; make room"):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert not (tmp_path / NAME).exists()


class Failing:
    """A file whose disk is full after some bytes, or whose user presses Ctrl-C."""

    def __init__(self, file: Any, problem: BaseException) -> None:
        self.file, self.problem = file, problem

    def write(self, data: bytes) -> int:
        if self.file.tell() > 100_000:
            raise self.problem
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize(
    ("problem", "raised", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FetchError, "no space left: 0.2 MB are still to come"),
        (KeyboardInterrupt(), Stopped, "stopped after 0.1 MB, which are kept"),
    ],
)
def test_what_stops_a_download_keeps_what_is_there(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: BaseException,
    raised: type[Exception],
    message: str,
) -> None:
    write = download._Rest._write
    with monkeypatch.context() as patched:
        patched.setattr(download._Rest, "_write", lambda s, answer, file: write(s, answer, Failing(file, problem)))
        with pytest.raises(raised, match=re.escape(message)):
            medtl.fetch("pneumoniamnist", out=tmp_path)
    have = part(tmp_path).stat().st_size
    assert names(tmp_path) == [part(tmp_path).name] and have > 100_000
    medtl.fetch("pneumoniamnist", out=tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT and archive.asked[-1] == f"bytes={have}-"


def test_two_calls_at_once_do_not_mix(archive: Archive, tmp_path: Path) -> None:
    with (
        download._alone(part(tmp_path)),
        pytest.raises(FetchError, match=r"\.part: another medtl fetch is loading it; wait for that one"),
    ):
        medtl.fetch("pneumoniamnist", out=tmp_path)
    assert archive.asked == []


def test_a_program_says_only_what_is_meant(archive: Archive, tmp_path: Path) -> None:
    """In a process of its own: pooch's logger talks on stderr there."""
    code = f"from medtl.data import fetch as f; f.ARCHIVE = {archive.url!r}; f.fetch('octmnist', out={str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "404 Not Found" in done.stderr.splitlines()[-1] and "Downloading" not in done.stderr


def test_names_and_sizes_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown set 'pneumonamnist'; did you mean 'pneumoniamnist'\?$"):
        medtl.fetch("pneumonamnist", out=tmp_path)
    with pytest.raises(ConfigError, match=r"^organmnist3d has no size 128; choose from: 28, 64$"):
        medtl.fetch("organmnist3d", size=128, out=tmp_path)
    assert names(tmp_path) == []


def test_the_list_names_every_set_with_its_licence(capfd: pytest.CaptureFixture[str]) -> None:
    assert medtl.fetch() is None
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 20 and max(map(len, lines)) <= 160
    shown = {line.split()[0]: line for line in lines[1:-1]}
    assert (
        "CC BY-NC 4.0" in shown["dermamnist"] and "5,856" in shown["pneumoniamnist"] and "3D" in shown["organmnist3d"]
    )
    assert sum("CC BY 4.0" in line for line in lines) == 17


def test_the_licence_is_said(archive: Archive, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FetchError, match="404"):
        medtl.fetch("dermamnist", out=tmp_path)
    assert "licence CC BY-NC 4.0 (not for commercial use)" in capfd.readouterr().err


def test_the_table_is_whole() -> None:
    table = json.loads(module._TABLE.read_text())["sets"]
    digests = [md5 for row in table.values() for md5 in row["md5"].values()]
    assert len(table) == 18 and len(digests) == 12 * 4 + 6 * 2
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in digests) and len(set(digests)) == len(digests)
    assert set(table) == {*medmnist.CLASSES, *medmnist.FINDING_OF_CLASS, *medmnist.LABELS}
    for row in table.values():
        assert list(row["md5"]) == (["28", "64"] if row["kind"] == "3D" else ["28", "64", "128", "224"])


def test_a_larger_size_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 64, 64), np.uint8), np.array([[0], [1]], np.uint8)
    path = tmp_path / "pneumoniamnist_64.npz"
    np.savez(path, train_images=images, train_labels=labels)
    assert [image.labels for image in read_npz(path, name="x")] == [{"pneumonia": 0.0}, {"pneumonia": 1.0}]
