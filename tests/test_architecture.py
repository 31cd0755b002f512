"""The house rules that a reader of the code relies on."""

import ast
import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room imports only from those above it.
ROOMS = [
    "errors", "files", "config", "torchrun", "progress", "data", "evaluation", "encoders", "training", "pretraining",
    "inference", "finetuning", "studying", "review", "demonstration", "cli_lists",
    "cli_reviews", "cli_teach", "cli", "__main__",
]  # fmt: skip
WITHOUT_TORCH = [
    "errors",
    "files",
    "config",
    "progress",
    "data/manifest",
    "data/labels",
    "evaluation",
    "review",
    "cli_lists",
    "cli_reviews",
    "cli_teach",
    "cli",
]
FOR_THE_PAGE = {"errors", "files", "config", "progress", "data", "inference", "interop", "review"}
BANNED = {"torchvision", "timm", "lightly", "pickle", "cv2"}


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", modules("medtl"), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_from_above(path: Path) -> None:
    own = path.relative_to(ROOT / "medtl").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in ROOMS, f"{own}: give the new room its place in ROOMS and in docs/architecture.md"
    used = {room(name) for name in imports(path) if name.startswith("medtl.")} & set(ROOMS)
    wrong = [name for name in used if ROOMS.index(name) > ROOMS.index(own)]
    assert not wrong, f"{own} stands above {wrong} and may not import from there"
    assert not any(name.split(".")[0] == "app" for name in imports(path))


@pytest.mark.parametrize("path", modules("app"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_never_reaches_into_training(path: Path) -> None:
    used = {room(name) for name in imports(path) if name.startswith("medtl.")} & set(ROOMS)
    assert used <= FOR_THE_PAGE


def test_light_rooms_do_not_load_torch() -> None:
    """All in one process, which says after each whether it is still light."""
    paths = [path for name in WITHOUT_TORCH for path in modules(f"medtl/{name}") or [ROOT / f"medtl/{name}.py"]]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    code = "import sys, importlib\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    print(name, [m for m in ('torch', 'monai') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.splitlines() == [f"{name} []" for name in names], done.stdout + done.stderr


def test_nothing_banned_is_imported() -> None:
    for path in [*modules("medtl"), *modules("app"), *modules("benchmarks")]:
        assert not {name.split(".")[0] for name in imports(path)} & BANNED, path


def test_files_are_short() -> None:
    long = {str(path.relative_to(ROOT)): count for path in [*modules("medtl"), *modules("app")]
            if (count := len(path.read_text(encoding="utf-8").splitlines())) > 350}  # fmt: skip
    assert not long, "look for the second idea in each"


MISSING = {
    "dataset": "medtl: not-there: no such folder; expected a dataset that medtl ingest left",
    "bundle": "medtl: not-there: no such folder; expected a bundle that medtl finetune left",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--help", "pretrain"),
        ("methods", "simclr"),
        ("strategies", "lp-ft"),
        *((f"{command} not-there --out out", MISSING["dataset"]) for command in ("pretrain", "finetune", "study")),
        ("split check not-there", MISSING["dataset"]),
        *((f"{command} not-there neither --out out", MISSING["bundle"]) for command in ("evaluate", "teach", "score")),
        ("serve not-there", MISSING["bundle"]),
    ],
)
def test_answers_at_once_without_torch(words: str, said: str) -> None:
    code = (
        f"import sys; sys.argv = ['medtl', *{words.split()!r}]\n"
        "from medtl.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('heavy:', [m for m in ('torch', 'monai', 'gradio', 'pandas') if m in sys.modules])"
    )
    took = [math.inf]
    while min(took) >= 0.6 and len(took) < 4:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    # Of the processor, not of the clock: the machine that runs the tests may be busy.
    assert min(took) < 0.6, f"medtl {words} took {min(took):.2f} s"
