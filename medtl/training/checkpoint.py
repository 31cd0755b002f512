"""Checkpoints in open formats: weights and optimizer state as safetensors, the rest as JSON. No pickles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from medtl.errors import RunError
from medtl.files import atomic_folder, read_json, write_json

MARKER = "state.json"


def save_checkpoint(
    folder: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    step: int,
    identity: Mapping[str, Any],
) -> None:
    """Write everything that resuming needs, atomically.

    Args:
        modules: the trained network and what moves along with it (averaged weights, queues), by name.
        step: how many steps are done.
        identity: what must be equal for a later call to go on: config, dataset.
    """
    with atomic_folder(folder, marker=MARKER) as temporary:
        for name, module in modules.items():
            state, names = module.state_dict(), _first_names(module)
            weights = {key: value.contiguous() for key, value in state.items() if names[key] == key}
            (temporary / f"{name}.safetensors").write_bytes(save(weights))
        moments = optimizer.state_dict()["state"]
        tensors = {
            f"{i}.{k}": torch.as_tensor(v).contiguous() for i, values in moments.items() for k, v in values.items()
        }
        (temporary / "optimizer.safetensors").write_bytes(save(tensors))
        write_json(temporary / MARKER, {"step": step, "identity": dict(identity)})


def load_checkpoint(
    folder: Path, *, modules: Mapping[str, nn.Module], optimizer: Optimizer, identity: Mapping[str, Any]
) -> int:
    """Put a checkpoint back into the modules and the optimizer.

    Returns:
        How many steps were done.

    Raises:
        RunError: no checkpoint, a damaged one, or one of another config or dataset.
    """
    saved = read_json(folder / MARKER, error=RunError)
    for key, value in identity.items():
        found = saved["identity"].get(key)
        if found != value:
            raise RunError(
                f"{folder}: the run was started with {key} {found}, now it is {value}; "
                "resume with what it was started with, or start anew with another --out"
            )
    try:
        for name, module in modules.items():
            weights = load_file(folder / f"{name}.safetensors")
            shared = {key: weights[first] for key, first in _first_names(module).items() if first in weights}
            module.load_state_dict(weights | shared)
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in load_file(folder / "optimizer.safetensors").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
    except (SafetensorError, OSError, RuntimeError) as problem:
        raise RunError(f"{folder}: the checkpoint is damaged ({problem}); start anew with another --out") from None
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(saved["step"])


def _first_names(module: nn.Module) -> dict[str, str]:
    """For each tensor of a module the first name that it has: objectives learned together share an encoder."""
    first: dict[tuple[Any, ...], str] = {}
    return {
        key: first.setdefault((value.data_ptr(), value.dtype, value.shape, value.stride()), key)
        for key, value in module.state_dict().items()
    }
