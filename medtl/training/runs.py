"""The folder that a run works in: its complete config, and whether it may start, go on, or is done."""

from pathlib import Path
from typing import Any, TypeVar

import yaml

from medtl.config import StrictModel, build, dump
from medtl.errors import RunError
from medtl.files import atomic_file

CONFIG = "config.yaml"
Config = TypeVar("Config", bound=StrictModel)


def open_run(folder: Path, config: Config, *, resume: bool, finished: str) -> Config:
    """Make the folder ready to work in and return the config to work with.

    Args:
        folder: the run's folder.
        config: what this call asks for; on resuming, what the run was started with counts instead.
        finished: the file that is there once the run is done.

    Raises:
        RunError: the folder holds a run and `resume` is not set, or the other way round, or other files.
    """
    exists = (folder / CONFIG).is_file()
    if exists and not resume:
        state = "a finished run" if (folder / finished).is_file() else "a run that did not finish"
        raise RunError(f"{folder}: holds {state}; add --resume to go on with it, delete it, or choose another --out")
    if resume and not exists:
        raise RunError(f"{folder}: holds no run to resume; leave --resume out to start one")
    if exists:
        found = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        stored = build(type(config), found, source=str(folder / CONFIG))
        for key in sorted(config.model_fields_set):
            if not _agrees(getattr(config, key), getattr(stored, key)):
                raise RunError(
                    f"{folder}: was started with {key.rstrip('_')} {getattr(stored, key)}, now it is "
                    f"{getattr(config, key)}; resume with what it was started with, or start anew with another --out"
                )
        return stored
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder}: holds other files; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    return config


def _agrees(asked: Any, stored: Any) -> bool:
    """Whether a setting is what it was; of a mapping, which is stored complete, only what is asked for counts."""
    if isinstance(asked, dict) and isinstance(stored, dict):
        return all(key in stored and _agrees(value, stored[key]) for key, value in asked.items())
    return asked in (stored, "auto")  # what was chosen for "auto" fits it


def save_config(folder: Path, config: StrictModel) -> None:
    """Write the resolved config; from then on the folder holds a run."""
    with atomic_file(folder / CONFIG) as temporary:
        temporary.write_text(dump(config), encoding="utf-8")
