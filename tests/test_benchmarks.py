"""Benchmarks run as a file from any folder, and as a module of the checkout."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_one_takes_from_another_is_found_from_anywhere(file: Path) -> None:
    """As a file its own folder is on the path, as a module the checkout is: `benchmarks.` needs the latter in both."""
    names, ready = {other.stem for other in FILES}, False
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        ready = ready or "sys.path.insert(0, str(Path(__file__).parents[1]))" in ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            first, _, rest = (node.module or "").partition(".")
            assert first not in names, f"{file.name}: write benchmarks.{first}, or -m does not find it"
            assert first != "benchmarks" or (ready and rest in names), f"{file.name}: extend sys.path before"


def bench(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONPATH": str(FOLDER.parent), "OMP_NUM_THREADS": "1"}
    if words[0].endswith(".py"):  # the installed medtl, or this checkout's, but not benchmarks by PYTHONPATH
        alone = cwd / "path"
        alone.mkdir(exist_ok=True)
        if not (alone / "medtl").exists():
            (alone / "medtl").symlink_to(FOLDER.parent / "medtl")
        env["PYTHONPATH"] = str(alone)
    return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # half a minute of a processor, which a busy machine made five minutes
def test_pretrain_without_arguments_prints_the_ratios(tmp_path: Path) -> None:
    least = ["--rounds", "1", "--steps", "1", "--batch", "8", "--side-px", "32", "--threads", "1"]
    done = bench(str(FOLDER / "pretrain.py"), *least, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^SimCLR, 32 px, batch 8.* ratio \d+\.\d\d", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^a step of \d+ ms: .* own work is \d+%", done.stdout, flags=re.MULTILINE)
    ratios = re.findall(r"^(\w+): \d+ ms a step, [\d.]+ of SimCLR's", done.stdout, flags=re.MULTILINE)
    assert len(ratios) == 11 and {"simclr", "mae", "voco"} <= set(ratios)


@pytest.mark.slow
def test_pretrain_as_a_module_takes_what_and_a_dataset(tmp_path: Path) -> None:
    nowhere = bench("-m", "benchmarks.pretrain", "share", "nowhere", cwd=tmp_path)
    assert "nowhere" in nowhere.stderr.splitlines()[-1] and "DatasetError" in nowhere.stderr
    wrong = bench("-m", "benchmarks.pretrain", "spede", "nowhere", cwd=tmp_path)
    assert wrong.returncode == 2 and "expected one of speed, share, methods, memory, sooner" in wrong.stderr
