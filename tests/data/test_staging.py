"""What happens when an ingest is killed, when the disk is full, and when scans are added."""

import errno
import itertools
import multiprocessing
import os
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import medtl
from medtl.data import staging
from medtl.data.dataset import open_dataset
from medtl.data.shards import ShardWriter
from medtl.errors import ConfigError, DatasetError, LabelError, MedtlError
from tests.data.conftest import png_bytes

KILLS, FILES = 10, 600


def write_pngs(folder: Path, numbers: range, *, side: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:04d}.png").write_bytes(png_bytes(number, (side, side)))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def ingest_in_own_group(source: Path, out: Path, most: int | None) -> None:
    """In a process that has imported everything already; its reading processes are forks, which begin at once.

    After `most` files it stands still, so that a busy machine cannot be too late to kill it.
    """
    from joblib.externals.loky.backend.context import set_start_method

    os.setsid()
    os.environ.pop("LOKY_MAX_CPU_COUNT", None)  # several are to be killed
    finish, finished = staging.Staging.finish, itertools.count(1)

    def finish_or_stand_still(self: staging.Staging, unit: str) -> None:
        finish(self, unit)
        if next(finished) == most:
            time.sleep(600)

    staging.Staging.finish = finish_or_stand_still
    set_start_method("fork", force=True)
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
        medtl.ingest(source, out=out, size_px=32)
    for reader in multiprocessing.active_children():  # idle for a minute, else, which the end of this one waits for
        reader.kill()


def run(source: Path, out: Path, *, most: int | None = None) -> Any:
    """An ingest in a process of its own, forked by a server that has no threads and started once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medtl.data.ingest", __name__])
    process = context.Process(target=ingest_in_own_group, args=(source, out, most))
    process.start()
    return process


def finished(process: Any) -> None:
    process.join(timeout=120)
    assert process.exitcode == 0


def kill(process: Any) -> None:
    """With all its reading processes, at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # not yet a group of its own, or over
        process.kill()
    process.join()


@pytest.mark.slow
def test_killed_at_ten_moments_the_dataset_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    source = write_pngs(tmp_path / "in", range(FILES), side=8)
    (source / "broken.png").write_bytes(png_bytes(0)[:40])
    whole = tmp_path / "whole" / "ds"
    finished(run(source, whole))
    out, rng, lines = tmp_path / "cut" / "ds", np.random.default_rng(0), 0
    journal = out.parent / ".ds.part" / staging.JOURNAL

    def written() -> int:
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    for turn in range(KILLS):
        wanted = lines + int(rng.integers(1, FILES // KILLS)) if turn else 0  # the first before it has begun
        process = run(source, out, most=FILES // KILLS)
        until = time.monotonic() + 60
        while written() < wanted and process.is_alive() and time.monotonic() < until:
            time.sleep(0.001)
        kill(process)
        assert written() >= lines, "a resumed ingest begins where the last one stopped"
        lines = written()
    assert not out.exists()
    finished(run(source, out))
    assert files_of(out) == files_of(whole)
    assert sorted(path.name for path in out.parent.iterdir()) == ["ds"]


def test_finished_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_pngs(tmp_path / "in", range(40)), tmp_path / "ds"
    finish, calls = staging.Staging.finish, []

    def interrupted(self: staging.Staging, unit: str) -> None:
        finish(self, unit)
        calls.append(unit)
        if len(calls) == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr(staging.Staging, "finish", interrupted)
    with pytest.raises(medtl.errors.Stopped, match=r"stopped after 25 files; they are kept") as stopped:
        medtl.ingest(source, out=out, size_px=32)
    assert stopped.value.again == () and not out.exists()
    calls.clear()
    calls += ["already"] * 25
    data = medtl.ingest(source, out=out, size_px=32)
    assert len(calls) == 40 and len(data) == 40


def test_other_settings_start_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_pngs(tmp_path / "in", range(4)), tmp_path / "ds"
    part = out.parent / ".ds.part"
    part.mkdir()
    (part / staging.JOURNAL).write_text('{"spec": "another"}\n{"unit": "x", "rows": []}\n')
    (part / "pixels-00000.npy").write_bytes(b"old")
    assert len(medtl.ingest(source, out=out, size_px=32)) == 4
    assert "read other files or otherwise: starting anew" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["first", "second"])
def test_a_full_disk_leaves_the_dataset_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    source, out = write_pngs(tmp_path / "in", range(6)), tmp_path / "ds"
    if when == "second":
        medtl.ingest(source, out=out, size_px=32)
    before = files_of(out) if out.exists() else None
    append = ShardWriter.append

    def full(self: ShardWriter, block: np.ndarray) -> None:
        if self.count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "append", full)
        with pytest.raises(DatasetError, match="no space left on the disk; the dataset is as it was"):
            medtl.ingest(source, out=out, size_px=48)
    assert (files_of(out) if out.exists() else None) == before
    assert len(medtl.ingest(source, out=out, size_px=48)) == 6


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    from medtl.files import resumable_folder

    with (
        resumable_folder(tmp_path / "ds", marker="dataset.json"),
        pytest.raises(MedtlError, match="another medtl is writing it"),
        resumable_folder(tmp_path / "ds", marker="dataset.json"),
    ):
        pass


def test_scans_are_added_in_place_and_nobody_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_pngs(tmp_path / "in", range(30)), tmp_path / "ds"
    labels = tmp_path / "labels.csv"
    labels.write_text("path,x\n0000.png,1\n0001.png,0\n")
    first = medtl.ingest(source, out=out, size_px=32, labels=labels)
    manifest = first.manifest
    write_pngs(source, range(30, 50))
    (source / "9999.png").write_bytes((source / "0003.png").read_bytes())
    labels.write_text("path,x\n0040.png,1\n0001.png,1\n")
    capsys.readouterr()
    second = medtl.ingest(source, out=out, add=True, labels=labels)
    assert len(second) == 50
    pd.testing.assert_frame_equal(second.manifest.iloc[:30], manifest)
    rows = np.arange(50)
    whole = medtl.ingest(source, out=tmp_path / "whole", size_px=32)
    assert np.array_equal(second.pixels(rows), whole.pixels(rows))
    assert second.manifest["split"].tolist() == whole.manifest["split"].tolist(), "parts follow from the patient alone"
    assert [second.labels().values[row, 0] for row in (0, 1, 40)] == [1, 1, 1], "the later label counts"
    rejects = pd.read_csv(out / "rejects.csv")
    assert rejects["path"].tolist() == ["9999.png"]
    (source / "0005.png").write_bytes(png_bytes(777))
    third = medtl.ingest(source, out=out, add=True)
    assert files_of(out)["pixels-00000.npy"] == files_of(tmp_path / "whole")["pixels-00000.npy"] and len(third) == 50
    rejects = pd.read_csv(out / "rejects.csv")
    assert sorted(zip(rejects["path"], rejects["code"], strict=True)) == [
        ("0005.png", "changed"), ("9999.png", "duplicate"),
    ]  # fmt: skip


def test_what_cannot_be_added_is_said(tmp_path: Path) -> None:
    source, out = write_pngs(tmp_path / "in", range(10)), tmp_path / "ds"
    with pytest.raises(DatasetError, match="no such folder; expected a dataset that medtl ingest left"):
        medtl.ingest(source, out=out, add=True)
    data = medtl.ingest(source, out=out, size_px=32)
    with pytest.raises(ConfigError, match=r"was ingested with another --size-px \(32\); leave the option out"):
        medtl.ingest(source, out=out, size_px=64, add=True)
    part = data.manifest["split"][0]
    other = "test" if part != "test" else "train"
    (tmp_path / "labels.csv").write_text(f"path,split,x\n0000.png,{other},1\n")
    with pytest.raises(LabelError, match="scans that are added cannot move those that are there"):
        medtl.ingest(write_pngs(tmp_path / "more", range(10, 12)), out=out, add=True, labels=tmp_path / "labels.csv")
    assert len(open_dataset(out)) == 10
