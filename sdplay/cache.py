"""Latents and text embeddings, computed once for a content and kept on disk.

The key holds everything the value depends on: the picture's hash or the text, the transform, and the fingerprint of the
base's encoders. So a changed picture, size or base never meets a stale value. Files may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sdplay.data import Example
from sdplay.families import Conditioning, Family, Parts
from sdplay.workspace import write_atomically

ENCODE_BATCH = 8
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Latents:
    """What the autoencoder says about N pictures; a training step samples around the mean, as the posterior says."""

    mean: Tensor
    """(N, C, h, w)"""
    std: Tensor
    """(N, C, h, w)"""
    geometry: Tensor
    """(N, 6) float32 px: original height and width, top and left of the crop, target height and width. See `geometry_of`."""


def encode_examples(
    examples: Sequence[Example], parts: Parts, family: Family, *, size: int, folder: Path, on_progress: Progress
) -> Latents:
    """Latents of the examples, centre-cropped to a `size` px square."""
    paths = [folder / f"{_key('latents', example.key, str(size), parts.fingerprint)}.safetensors" for example in examples]
    values = [_read(path) for path in paths]
    missing = [index for index, value in enumerate(values) if value is None]
    for start in range(0, len(missing), ENCODE_BATCH):
        chunk = missing[start : start + ENCODE_BATCH]
        on_progress(start, len(missing))
        mean, std = family.encode_images(parts, torch.stack([load_pixels(examples[index].path, size) for index in chunk]))
        for row, index in enumerate(chunk):
            value = {"mean": mean[row].contiguous(), "std": std[row].contiguous()}
            write_atomically(paths[index], save(value))
            values[index] = value
    mean, std = (torch.stack([value[name] for value in values if value]) for name in ("mean", "std"))
    return Latents(mean, std, torch.tensor([geometry_of(example, size) for example in examples], dtype=torch.float32))


@torch.no_grad()
def encode_texts(texts: Sequence[str], parts: Parts, family: Family, *, folder: Path, on_progress: Progress) -> dict[str, Conditioning]:
    """Conditioning of batch 1 for every different text, on the base's device."""
    wanted = list(dict.fromkeys(texts))
    known: dict[str, Conditioning] = {}
    for done, text in enumerate(wanted):
        path = folder / f"{_key('text', text, parts.fingerprint)}.safetensors"
        value = _read(path)
        if value is None:
            on_progress(done, len(wanted))
            value = {name: tensor.cpu().contiguous() for name, tensor in family.encode_prompts(parts, [text]).tensors().items()}
            write_atomically(path, save(value))
        known[text] = Conditioning(**value).to(parts.device)
    return known


def load_pixels(path: Path, size: int) -> Tensor:
    """(3, size, size) in [-1, 1]: the largest centred square, resized."""
    with Image.open(path) as picture:
        square = center_square(picture.convert("RGB"), size)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 127.5 - 1


def center_square(picture: Image.Image, size: int) -> Image.Image:
    """What training sees of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def geometry_of(example: Example, size: int) -> tuple[int, int, int, int, int, int]:
    """Original height and width, top and left of the crop, target height and width, as SDXL is told them.

    The crop is counted in pixels of the picture resized so that its shorter side is `size`. Podell et al. 2023, arXiv 2307.01952, sec. 2.2.
    """
    side = min(example.width, example.height)
    left, top = (example.width - side) // 2, (example.height - side) // 2
    return (example.height, example.width, round(top * size / side), round(left * size / side), size, size)


def _key(*facts: str) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
