"""Strict settings: YAML or keywords in, frozen pydantic models out, with did-you-mean for a wrong key."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from medtl.errors import ConfigError


class StrictModel(BaseModel):
    """Base of every config: frozen, keyword-only, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


Model = TypeVar("Model", bound=StrictModel)


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """The choice that `word` most likely means, in whatever case it is written; None where none is near."""
    by_word = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_word, n=1, cutoff=0.6)
    return by_word[near[0]] if near else None


def closest(word: str, choices: Sequence[str]) -> str:
    """`; did you mean 'x'?` where a choice is near to `word`, else the list of choices."""
    near = nearest(word, choices)
    return f"; did you mean '{near}'?" if near else f"; choose from: {', '.join(choices)}"


def build(model: type[Model], values: Mapping[str, Any], *, source: str = "") -> Model:
    """Make a config from `values`.

    Raises:
        ConfigError: one line that names the key, what was found and what to do.
    """
    prefix = f"{source}: " if source else ""
    try:
        return model(**values)
    except ValidationError as problem:
        first = problem.errors()[0]
        *parents, key = [str(part) for part in first["loc"]] or [model.__name__]
        where = ".".join([*parents, key])
        if first["type"] == "extra_forbidden":
            known = [field.alias or name for name, field in _inner(model, parents).model_fields.items()]
            raise ConfigError(f"{prefix}unknown key '{where}'{closest(key, known)}") from None
        raise ConfigError(f"{prefix}{where}: {first['msg']} (found {first['input']!r})") from None


def _inner(model: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """The model of a nested key; the keys of a mapping are anybody's."""
    keys = iter(path)
    for key in keys:
        annotation = model.model_fields[key].annotation
        if get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
            next(keys, None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return model


def load(model: type[Model], *, file: Path | None, settings: Sequence[str], **values: Any) -> Model:
    """Make a config from defaults, overridden by a YAML `file`, then by `key=value` settings, then `values`.

    Args:
        file: a YAML file with a mapping, or None.
        settings: strings `key=value` or `outer.key=value`; the value is read as YAML, so `true` and `3` have their
            types.
        values: what the command's own options say; None means "not said".
    """
    merged: dict[str, Any] = {}
    if file is not None:
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such file") from None
        except (yaml.YAMLError, ValueError, OSError) as problem:
            raise ConfigError(f"{file}: is not a readable YAML mapping ({problem})") from None
        if not isinstance(found, dict):
            kind = "a list" if isinstance(found, list) else "a single value"
            raise ConfigError(f"{file}: holds {kind}; expected a YAML mapping, lines such as batch_size: 64")
        if odd := [key for key in found if not isinstance(key, str)]:
            raise ConfigError(f"{file}: has the key {odd[0]!r}; expected names of settings, such as batch_size: 64")
        merged |= _numbers(found)
    for setting in settings:
        key, found, value = setting.partition("=")
        if not found:
            raise ConfigError(f"--set {setting}: expected key=value, such as --set batch_size=64")
        *outer, last = key.strip().split(".")
        inner = merged
        for name in outer:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        try:
            inner[last] = _numbers(yaml.safe_load(value))
        except yaml.YAMLError:
            raise ConfigError(f"--set {setting}: the value is not YAML") from None
    merged |= {key: value for key, value in values.items() if value is not None}
    return build(model, merged, source=str(file or ""))


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` as a string; people mean the number."""
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def dump(config: StrictModel) -> str:
    """The complete config as YAML, in the order of its fields."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
