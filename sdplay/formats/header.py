"""The header of a safetensors file, checked before any tensor is read.

A safetensors file is 8 bytes of length, a JSON header, then the tensors' bytes. The header is hostile until it is checked:
its size, the number, names, shapes and places of its tensors. Pickled files are never opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdplay.errors import AdapterError
from sdplay.formats.weights import is_weights

MAX_FILE_MB, MAX_WEIGHTS_MB = 2000, 25_000
"""Of an adapter, and of whole weights: SDXL's denoiser in float32 with its mean has 21 GB."""
MAX_HEADER_BYTES = 10_000_000
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 5
KEY = re.compile(r"[A-Za-z0-9_.:<>-]{1,300}")
TOKEN_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
"""An embedding's only tensor is called what its trigger word is, in whatever script; bundled ones have it in their names."""
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes per value of the types an adapter may have."""
DAMAGED = "Download or export it again."


@dataclass(frozen=True)
class Header:
    """What a file says it holds."""

    shapes: dict[str, tuple[int, ...]]
    facts: dict[str, str]
    """The file's own metadata."""


def read_header(path: Path) -> Header:
    """Read and check. Raises AdapterError with what is wrong; no tensor is touched."""
    if path.suffix.lower() in PICKLED:
        raise AdapterError(
            f"{path.name} is a pickled file, and opening it may run a program.",
            "Only .safetensors files are read; convert it first.",
        )
    if not path.is_file():
        raise AdapterError(f"There is no file {str(path)!r}.", "Give a run or a .safetensors file.")
    size = path.stat().st_size
    raw = _raw_header(path, size)
    try:
        header = json.loads(raw, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise AdapterError(f"{path.name} has an unreadable header.", DAMAGED)
    facts = header.pop("__metadata__", {})
    if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
        raise AdapterError(f"{path.name} has an unreadable header: its metadata are not texts.", DAMAGED)
    most = MAX_WEIGHTS_MB if is_weights(facts) else MAX_FILE_MB
    if size > most * 2**20:
        raise AdapterError(f"{path.name} has {size / 2**20:.0f} MB; an adapter has at most {most}.", "Choose an adapter file.")
    _check_names(path, header)
    return Header(_checked_shapes(path, header, size - 8 - len(raw)), facts)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _raw_header(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise AdapterError(
                f"{path.name} is not a safetensors file.", "Only .safetensors adapters are read; pickled .pt, .bin and .ckpt are not."
            )
        return file.read(length)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name is there twice")
    return values


def _check_names(path: Path, header: dict[str, Any]) -> None:
    lonely = len(header) == 1
    for key in header:
        good = KEY.fullmatch(key) or ((lonely or "bundle_emb." in key) and TOKEN_KEY.fullmatch(key))
        if not good or any(part.startswith("__") for part in key.split(".")):
            raise AdapterError(f"{path.name} has a tensor with a strange name: {key[:60]!r}.", "It is not an adapter file.")


def _checked_shapes(path: Path, header: dict[str, Any], num_bytes: int) -> dict[str, tuple[int, ...]]:
    """Every tensor has numbers of a known type; together they fill the file without gap or overlap."""
    shapes, spans = {}, []
    for key, entry in header.items():
        if not _is_valid(entry):
            raise AdapterError(f"{path.name} has an unreadable header: the tensor {key[:60]!r} has no valid type, shape or place.", DAMAGED)
        shapes[key] = tuple(entry["shape"])
        spans.append(tuple(entry["data_offsets"]))
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise AdapterError(f"{path.name} has an unreadable header: its tensors overlap or leave gaps.", DAMAGED)
        end = stop
    if end != num_bytes:
        raise AdapterError(f"{path.name} is damaged: its header tells of {end} bytes, the file has {num_bytes}.", DAMAGED)
    return shapes


def _is_valid(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str) or entry["dtype"] not in BYTES:
        return False
    shape, span = entry.get("shape"), entry.get("data_offsets")
    if not _whole_numbers(shape, MAX_DIMENSIONS) or not _whole_numbers(span, 2) or not isinstance(shape, list):
        return False
    return isinstance(span, list) and len(span) == 2 and span[1] - span[0] == math.prod(shape) * BYTES[entry["dtype"]]


def _whole_numbers(values: object, most: int) -> bool:
    return isinstance(values, list) and len(values) <= most and all(type(value) is int and 0 <= value < 2**40 for value in values)
