"""Artifacts on disk: the old one or the new one, never half of one, never none."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medtl import files
from medtl.errors import DatasetError, MedtlError
from medtl.files import atomic_file, atomic_folder, check_replaceable, read_json, write_json

MARKER = "dataset.json"


def make(path: Path, text: str) -> None:
    with atomic_folder(path, marker=MARKER) as folder:
        (folder / MARKER).write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner/data").write_text(text)


def test_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for text in ("one", "two"):
        make(tmp_path / "a", text)
        assert (tmp_path / "a/inner/data").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "a", "one")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a", marker=MARKER) as folder:
        (folder / MARKER).write_text("two")
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a" / MARKER) as file:
        file.write_text("half")
        1 / 0  # noqa: B018
    assert (tmp_path / "a" / MARKER).read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_where_nothing_can_be_swapped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swapped_at_once", lambda first, second: False)
    for text in ("one", "two"):
        make(tmp_path / "a", text)
    assert (tmp_path / "a/inner/data").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_at_no_moment_is_there_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    make(path, "0")
    missing: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                (path / MARKER).read_text()
            except FileNotFoundError:
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(100):
        make(path, str(i))
    done.set()
    watcher.join()
    assert not missing


KILLED = """
import os, signal, sys
from pathlib import Path
from medtl import files
path = Path(sys.argv[1])
if sys.argv[2] == "during":
    with files.atomic_folder(path, marker="dataset.json") as folder:
        (folder / "dataset.json").write_text("new")
        os.kill(os.getpid(), signal.SIGKILL)
exchange = files._exchange
files._exchange = lambda a, b: (exchange(a, b), os.kill(os.getpid(), signal.SIGKILL))
with files.atomic_folder(path, marker="dataset.json") as folder:
    (folder / "dataset.json").write_text("new")
"""


@pytest.mark.parametrize(("moment", "expected"), [("during", "old"), ("after the swap", "new")])
def test_kill_9_leaves_one_whole_and_the_next_call_clears_up(tmp_path: Path, moment: str, expected: str) -> None:
    path = tmp_path / "a"
    make(path, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (path / MARKER).read_text() == expected
    assert len(list(tmp_path.iterdir())) == 2, "the killed process left its folder"
    make(path, "newer")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_another_living_process_is_not_disturbed(tmp_path: Path) -> None:
    other = tmp_path / f".a.{os.getppid()}-0123abcd.tmp"
    other.mkdir()
    make(tmp_path / "a", "one")
    assert other.is_dir()


def test_foreign_files_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MedtlError, match="is a file; --out needs the name of a folder"):
        check_replaceable(tmp_path / "file", marker=MARKER)
    with pytest.raises(MedtlError, match=r"holds other files and no dataset.json; medtl would overwrite them"):
        check_replaceable(tmp_path, marker=MARKER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ('{"format": 1', "is not readable JSON"),
        ('{"format": 2}', "has format 2, this medtl reads format 1; make it again with this version"),
        ("[1]", "has format None"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=f"x.json: {message}"):
        read_json(path, error=DatasetError)


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, 2], "b": "ü"})
    assert read_json(tmp_path / "x.json", error=DatasetError) == {"a": [1, 2], "b": "ü"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json", error=DatasetError)["b"] == "ü"
