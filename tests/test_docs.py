"""What the documents promise exists: links lead somewhere, commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from medtl.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sample_data/*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def commands() -> list[str]:
    found = []
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"(    |\$ )(\.venv/bin/)?medtl ", line):
                found.append(line.split("#")[0].strip().removeprefix("$ ").removeprefix(".venv/bin/"))
    return found


@pytest.mark.parametrize("line", commands())
def test_commands_in_documents_have_known_options(line: str) -> None:
    import typer.main

    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("--"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line


GUESTS = {"rotation"}
"""Methods that the table does not have: the example of docs/guide/new-objective.md."""


@pytest.mark.parametrize("line", [line for line in commands() if line.split()[1] in ("pretrain", "finetune")])
def test_settings_in_documents_are_known(line: str) -> None:
    from medtl.config import build, load
    from medtl.finetuning.config import FinetuneConfig
    from medtl.pretraining.methods import METHODS
    from medtl.pretraining.pretrain import PretrainConfig

    words = shlex.split(line)
    said = [(words[i], words[i + 1]) for i in range(len(words) - 1)]
    settings = [value for option, value in said if option == "--set"]
    model = PretrainConfig if words[1] == "pretrain" else FinetuneConfig
    config = load(model, file=None, settings=settings)
    if not isinstance(config, PretrainConfig):
        return
    names = dict(said).get("--method", "simclr").split("+")
    assert set(names) <= set(METHODS) | GUESTS
    assert set(config.weights) <= set(names), line
    for name in set(names) & set(METHODS):
        build(METHODS[name].load().Config, config.objective.get(name, {}) if len(names) > 1 else config.objective)


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text
    assert "@@" not in text, "a number is still to be filled in"
