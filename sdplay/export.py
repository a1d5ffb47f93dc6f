"""Trained weights <-> the file formats other programs read.

Adapter files are hostile until they are read: only safetensors, never pickle; the header is checked before any tensor
is; names, shapes and values are checked before anything is attached to a base.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sdplay.errors import AdapterError
from sdplay.families import Parts
from sdplay.workspace import write_atomically

MAX_FILE_MB = 2000
MAX_HEADER_BYTES = 10_000_000
MAX_TENSORS = 20_000
MAX_RANK = 256
KEY = re.compile(r"[A-Za-z0-9_.:<>-]{1,300}")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA in diffusers' peft names, ready to attach."""

    path: Path
    weights: dict[str, Tensor]
    rank: int
    alpha: float
    facts: dict[str, str] = field(default_factory=dict)


def write_lora(path: Path, weights: Mapping[str, Tensor], *, rank: int, alpha: float, facts: Mapping[str, str]) -> None:
    """Write diffusers' LoRA layout: what `load_lora_weights` reads, with the true alpha in the header."""
    layers = sorted({name.split(".lora_")[0].removeprefix("unet.") for name in weights})
    config = {"r": rank, "lora_alpha": alpha, "target_modules": layers, "peft_type": "LORA", "bias": "none", "lora_dropout": 0.0}
    header = {LORA_ADAPTER_METADATA_KEY: json.dumps({f"unet.{key}": value for key, value in config.items()}), "format": "pt", **facts}
    write_atomically(path, save(dict(weights), metadata=header))


def read_lora(path: Path) -> LoraFile:
    """Read and check a LoRA file. Raises AdapterError with what is wrong with it."""
    header = read_header(path)
    metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    strange = next((key for key in header if not KEY.fullmatch(key) or "__" in key), None)
    if strange is not None:
        raise AdapterError(f"{path.name} has a tensor with a strange name: {strange[:60]!r}.", "It is not an adapter file.")
    if not any("lora_A" in key and key.startswith("unet.") for key in header):
        kind = "a LoRA of another layout" if any("lora" in key for key in header) else "not a LoRA"
        raise AdapterError(f"{path.name} is {kind}.", "sdplay reads LoRA files in diffusers' layout (unet.….lora_A.weight).")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise AdapterError(f"{path.name} is damaged: {error}.", "Download or export it again.") from None
    rank = _checked_rank(path, weights)
    alpha = _alpha(metadata, rank)
    return LoraFile(path, {key: tensor.float() for key, tensor in weights.items()}, rank, alpha, metadata)


def read_header(path: Path, *, max_mb: int = MAX_FILE_MB) -> dict[str, Any]:
    """The JSON header of a safetensors file, without touching its tensors. Raises AdapterError."""
    if not path.is_file():
        raise AdapterError(f"There is no file {str(path)!r}.", "Give a run or a .safetensors file.")
    size = path.stat().st_size
    if size > max_mb * 2**20:
        raise AdapterError(f"{path.name} has {size / 2**20:.0f} MB; an adapter has at most {max_mb}.", "Choose an adapter file.")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise AdapterError(
                f"{path.name} is not a safetensors file.", "Only .safetensors adapters are read; pickled .pt, .bin and .ckpt are not."
            )
        try:
            header = json.loads(file.read(length))
        except ValueError:
            header = None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise AdapterError(f"{path.name} has an unreadable header.", "Download or export it again.")
    return header


@contextmanager
def attached(parts: Parts, lora: LoraFile, strength: float) -> Iterator[None]:
    """The base with a LoRA at a strength, inside the block; the base's other adapters are off meanwhile.

    Raises AdapterError when the LoRA was made for another base. The caller switches its own adapter on again.
    """
    layers = dict(parts.denoiser.named_modules())
    _check_fit(lora, layers)
    name = "drawing"
    metadata = {"unet.r": lora.rank, "unet.lora_alpha": lora.alpha, "unet.target_modules": _layers(lora)}
    try:
        parts.denoiser.load_lora_adapter(dict(lora.weights), prefix="unet", adapter_name=name, metadata=metadata)
        parts.denoiser.enable_adapters()
        parts.denoiser.set_adapters([name], [strength])
        yield
    finally:
        parts.denoiser.delete_adapters(name)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()
        )


def _checked_rank(path: Path, weights: Mapping[str, Tensor]) -> int:
    ranks = set()
    for key, tensor in weights.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise AdapterError(
                f"{path.name} has values that are not finite numbers, in {key}.", "Its training failed; use an earlier checkpoint."
            )
        if "lora_A" in key:
            ranks.add(tensor.shape[0])
    if len(ranks) != 1 or max(ranks) > MAX_RANK:
        raise AdapterError(f"{path.name} has layers of rank {', '.join(map(str, sorted(ranks)))}.", f"One rank up to {MAX_RANK} is read.")
    return int(ranks.pop())


def _alpha(metadata: Mapping[str, str], rank: int) -> float:
    """diffusers writes alpha to the header; files without it were made with alpha = rank."""
    try:
        return float(json.loads(metadata[LORA_ADAPTER_METADATA_KEY])["unet.lora_alpha"])
    except (KeyError, ValueError, TypeError):
        return float(rank)


def _layers(lora: LoraFile) -> list[str]:
    return sorted({key.split(".lora_")[0].removeprefix("unet.") for key in lora.weights if key.startswith("unet.")})


def _check_fit(lora: LoraFile, layers: Mapping[str, nn.Module]) -> None:
    for layer in _layers(lora):
        weight = getattr(getattr(layers.get(layer), "base_layer", layers.get(layer)), "weight", None)
        down, up = lora.weights.get(f"unet.{layer}.lora_A.weight"), lora.weights.get(f"unet.{layer}.lora_B.weight")
        if weight is None or down is None or up is None or (up.shape[0], down.shape[1]) != tuple(weight.shape[:2]):
            raise AdapterError(
                f"{lora.path.name} does not fit this base model (layer {layer}).", "It was made for another one: choose that as base."
            )
