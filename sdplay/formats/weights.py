"""Whole weights, what a full fine-tune learns: sdplay's own layout, because no other program has one for them.

<model>.<parameter>         such as unet.conv_in.weight, under the names that diffusers and transformers have for them

The header says `sdplay.layout: weights`. For other programs the file is merged into its base, see merge.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from sdplay.workspace import sync_folder

MARK = {"sdplay.layout": "weights"}


def is_weights(facts: Mapping[str, str]) -> bool:
    """Whether a file's metadata say that it is of this layout."""
    return MARK.items() <= facts.items()


def write_weights(path: Path, values: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write weights by their names, in the number format they come in."""
    write_large(path, values, {"format": "pt", **MARK, **facts})


def write_large(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a file of GB: never half a file, and never all of it in memory at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".tmp-{path.name}")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata=dict(facts))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)
