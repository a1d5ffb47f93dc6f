"""Checkpoints that a crash cannot spoil.

    checkpoints/<step>/adapter.safetensors     what was learned, readable by other programs
                       optimizer.safetensors   the optimiser's state, what is no tensor as JSON in its header; pruned from older
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
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdplay.errors import RunError
from sdplay.formats.header import sha256_of
from sdplay.methods import Trainable
from sdplay.workspace import folder_written_atomically

ADAPTER, OPTIMIZER, LOOP_STATE, MANIFEST = "adapter.safetensors", "optimizer.safetensors", "loop_state.json", "MANIFEST.json"
STRUCTURE = "sdplay.structure"
KEPT = 2
"""Checkpoints that keep their optimiser state; all keep their adapter, if it is light, else only these are kept."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    step: int
    path: Path
    """What was learned."""
    state: dict[str, Any]
    """Of the optimiser, and of the average where there is one."""


def write_checkpoint(folder: Path, step: int, trainable: Trainable, state: Mapping[str, object]) -> None:
    """Write `folder`/<step>, then prune older ones. At no time is there no valid checkpoint."""
    with folder_written_atomically(folder / str(step)) as beside:
        trainable.save(beside / ADAPTER)
        _write_state(beside / OPTIMIZER, state)
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
            return Restored(step, folder / str(step) / ADAPTER, _read_state(folder / str(step) / OPTIMIZER))
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


def packed(value: object, tensors: dict[str, Tensor]) -> object:
    """The value as JSON can hold it, its tensors put into `tensors` by number. For what optimisers keep:

    tensors, numbers, texts, None, and lists, tuples and dicts of these, whose keys need not be texts.
    """
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.detach().cpu().contiguous().clone()
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, Mapping):
        return {"dict": [[key, packed(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [packed(entry, tensors) for entry in value]}
    assert value is None or isinstance(value, bool | int | float | str), f"cannot keep a {type(value).__name__}"
    return value


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401  whatever was packed
    """What `packed` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, inside),) = value.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {key: unpacked(entry, tensors) for key, entry in inside}
    entries = [unpacked(entry, tensors) for entry in inside]
    return tuple(entries) if kind == "tuple" else entries


def _write_state(path: Path, state: Mapping[str, object]) -> None:
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(packed(state, tensors))
    save_file(tensors, path, metadata={STRUCTURE: structure})


def _read_state(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        structure = (file.metadata() or {}).get(STRUCTURE)
    if structure is None:
        raise RunError("The checkpoint was written by an older sdplay.", "Start the run again; its adapter files can still be used.")
    return unpacked(json.loads(structure), load_file(path))
