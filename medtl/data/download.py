"""A large file over HTTP: what an interrupted call has got is kept and gone on from (RFC 9110, section 14)."""

import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pooch
import requests

from medtl.errors import FetchError, Stopped
from medtl.files import DISK_FULL
from medtl.progress import progress, say

TIMEOUTS_S = (15.0, 60.0)
"""To connect, and between two pieces of the answer."""
PIECE_BYTES = 2**16
_MB = 1e6


def download(url: str, path: Path, *, md5: str) -> None:
    """Load `url` to `path`, which is there only once its MD5 is right.

    Meanwhile the bytes are in `.NAME.part` beside it; a later call asks only for the rest.

    Raises:
        FetchError: the server cannot be reached or refuses, the connection broke, the disk is full, or the file
            is not the expected one.
        Stopped: Ctrl-C.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = _Rest(path)
    if not _loaded(url, path, md5, rest):
        say(f"{path.name}: the part that an earlier call left does not fit; starting again")
        _loaded(url, path, md5, rest)


def md5_of(path: Path) -> str:
    """The MD5 of a file, as hexadecimal text."""
    return str(pooch.file_hash(str(path), alg="md5"))


def _loaded(url: str, path: Path, md5: str, rest: "_Rest") -> bool:
    """Load and check; False where the file is wrong and began with a part of an earlier call."""
    try:
        pooch.get_logger().setLevel("WARNING")  # what is going on is said here
        pooch.retrieve(url, known_hash=f"md5:{md5}", fname=path.name, path=path.parent, downloader=rest)
    except ValueError:  # pooch: the hash is another one; it has removed the file
        if rest.went_on:
            return False
        raise FetchError(
            f"{url}: what came is not the expected file (its MD5 is not {md5}) and was not kept; something on the way, "
            "such as a proxy, may have changed it: try again, or from another network"
        ) from None
    return True


class _Rest:
    """pooch's downloader: asks for what is not there yet.

    Args:
        path: where the whole file will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.part")
        self.went_on = False

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        with _alone(self.part) as file:
            self.went_on = file.tell() > 0
            try:
                self._fill(url, file)
            except requests.exceptions.RequestException as problem:
                raise FetchError(
                    f"{url}: cannot be reached ({_reason(problem)}); check the network and the proxy (HTTPS_PROXY), "
                    f"or load it on another computer and put it at {self.path}: the same command then checks it"
                ) from None
        self.part.replace(output_file)

    def _fill(self, url: str, file: IO[bytes]) -> None:
        have = file.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S) as answer:
            given = answer.headers.get("Content-Range", "")
            if have and answer.status_code == 416 and given == f"bytes */{have}":
                return  # nothing is missing
            if have and (answer.status_code == 416 or (answer.status_code == 206 and not given.startswith(_at(have)))):
                self._start_again(file)
                return self._fill(url, file)
            if answer.status_code == 404:
                raise FetchError(
                    f"{url}: the archive does not have it (404 Not Found); it may have moved: look for a newer medtl"
                )
            if answer.status_code not in (200, 206):
                raise FetchError(
                    f"{url}: the archive answers {answer.status_code} {answer.reason}; try again later, "
                    "what is there already is kept"
                )
            if answer.status_code == 200 and have:
                say(f"{self.path.name}: this server cannot go on in the middle; starting again")
                self._start_again(file)
            self._write(answer, file)

    def _start_again(self, file: IO[bytes]) -> None:
        file.truncate(0)
        file.seek(0)
        self.went_on = False

    def _write(self, answer: requests.Response, file: IO[bytes]) -> None:
        have = start = file.tell()
        coming = int(answer.headers.get("Content-Length", 0))
        self._check_space(coming)
        if start:
            say(f"{self.path.name}: going on after {_mb(start)} of {_mb(start + coming)}")
        try:
            with progress(self.path.name, _round(start + coming), unit="MB", start=_round(start)) as update:
                for piece in answer.iter_content(PIECE_BYTES):
                    file.write(piece)
                    have += len(piece)
                    update(_round(have))
            file.flush()
        except KeyboardInterrupt:
            raise Stopped(f"{self.path.name}: stopped after {_mb(have)}, which are kept", again=()) from None
        except requests.exceptions.RequestException as problem:
            raise FetchError(
                f"{answer.url}: the connection broke after {_mb(have)} of {_mb(start + coming)} ({_reason(problem)}); "
                "call again to go on from there"
            ) from None
        except OSError as problem:
            if problem.errno not in DISK_FULL:
                raise
            raise _full(self.path, start + coming - have, shutil.disk_usage(self.path.parent).free) from None

    def _check_space(self, coming: int) -> None:
        if (free := shutil.disk_usage(self.path.parent).free) < coming:
            raise _full(self.path, coming, free)


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Open `part` at its end, for this process only."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FetchError(f"{part}: another medtl fetch is loading it; wait for that one") from None
        try:
            yield file
        finally:
            if not file.tell():
                part.unlink()


def _full(path: Path, missing: int, free: int) -> FetchError:
    return FetchError(
        f"{path}: no space left: {_mb(missing)} are still to come, {_mb(free)} are free; make room or choose another "
        "--out, then call again"
    )


def _at(start: int) -> str:
    return f"bytes {start}-"


def _reason(problem: Exception) -> str:
    """The innermost cause in a few words: requests wraps the system's message several times."""
    text = str(problem)
    found = re.search(r"(Connection refused|Name or service not known|timed out|Connection reset by peer)", text)
    found = found or re.search(r"(Temporary failure in name resolution|Network is unreachable|CERTIFICATE\w+)", text)
    return found[1] if found else type(problem).__name__


def _round(count: int) -> int:
    return -int(-count // _MB)


def _mb(count: int) -> str:
    return f"{count / _MB:,.1f} MB"
