"""Checkpoints that a crash cannot spoil.

    checkpoints/<step>/adapter.safetensors     what was learned, readable by other programs
                       optimizer.safetensors   the optimiser's state; pruned from older checkpoints
                       loop_state.json         where the loop was
                       MANIFEST.json           sha256 of each file, written last

A checkpoint is written beside, fsynced and renamed. Resume takes the newest one whose files all match the manifest.
No pickle anywhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdplay.formats.header import sha256_of
from sdplay.methods import Trainable
from sdplay.workspace import folder_written_atomically

ADAPTER, OPTIMIZER, LOOP_STATE, MANIFEST = "adapter.safetensors", "optimizer.safetensors", "loop_state.json", "MANIFEST.json"
KEPT = 2
"""Checkpoints that keep their optimiser state; all keep their adapter, if it is light, else only these are kept."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    step: int
    path: Path
    """What was learned."""
    optimizer: dict[str, Tensor]


def write_checkpoint(folder: Path, step: int, trainable: Trainable, optimizer: torch.optim.Optimizer) -> None:
    """Write `folder`/<step>, then prune older ones. At no time is there no valid checkpoint."""
    with folder_written_atomically(folder / str(step)) as beside:
        trainable.save(beside / ADAPTER)
        save_file(optimizer_tensors(optimizer), beside / OPTIMIZER)
        (beside / LOOP_STATE).write_text(json.dumps({"step": step}))
        digests = {name: sha256_of(beside / name) for name in (ADAPTER, OPTIMIZER, LOOP_STATE)}
        (beside / MANIFEST).write_text(json.dumps(digests))
    for older in steps_on_disk(folder)[:-KEPT]:
        if trainable.light:
            (folder / str(older) / OPTIMIZER).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder / str(older))


def newest_valid(folder: Path) -> Restored | None:
    """The checkpoint to go on from, or None."""
    for step in reversed(steps_on_disk(folder)):
        if is_valid(folder / str(step)):
            return Restored(step, folder / str(step) / ADAPTER, load_file(folder / str(step) / OPTIMIZER))
    return None


def is_valid(checkpoint: Path) -> bool:
    """Every file is there and has the bytes that were written."""
    try:
        digests = json.loads((checkpoint / MANIFEST).read_text())
        return all(sha256_of(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def steps_on_disk(folder: Path) -> list[int]:
    """Steps of the checkpoints, rising."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat names: `<parameter index>.<what>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).cpu().contiguous() for index, values in state.items() for name, value in values.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # A file knows no strides, but fused optimisers walk parameter and state side by side in memory.
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
