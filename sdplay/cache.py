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
from sdplay.data.shapes import Box, Size, crop_box
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
    examples: Sequence[Example], parts: Parts, family: Family, *, size: Size, folder: Path, on_progress: Progress
) -> Latents:
    """Latents of the examples: their own crops, cut in the middle to the shape of `size`, (width, height) in px."""
    shape = str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
    paths = [folder / f"{_key('latents', _part_key(example), shape, parts.fingerprint)}.safetensors" for example in examples]
    values = [_read(path) for path in paths]
    missing = [index for index, value in enumerate(values) if value is None]
    for start in range(0, len(missing), ENCODE_BATCH):
        chunk = missing[start : start + ENCODE_BATCH]
        on_progress(start, len(missing))
        pixels = [load_pixels(examples[index].path, size, crop=examples[index].crop) for index in chunk]
        mean, std = family.encode_images(parts, torch.stack(pixels))
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


def load_pixels(path: Path, size: Size, *, crop: Box | None = None) -> Tensor:
    """(3, height, width) in [-1, 1]: the largest centred part of that shape, of the picture or of its crop, resized."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
        cropped = center_crop(whole.crop(crop) if crop else whole, size)
    return torch.from_numpy(np.asarray(cropped).copy()).permute(2, 0, 1).float() / 127.5 - 1


def center_crop(picture: Image.Image, size: Size) -> Image.Image:
    """What training sees of a picture."""
    return picture.resize(size, Image.Resampling.LANCZOS, box=crop_box(picture.size, size))


def latent_area(example: Example, size: Size, latent_factor: int) -> Tensor:
    """(1, h, w) in [0, 1]: how much each latent of the example, cropped to `size`, counts; ones without a mask.

    A latent counts as much as the brightest pixel of the mask under it, so thin parts are not lost.
    """
    width, height = size[0] // latent_factor, size[1] // latent_factor
    if example.mask is None:
        return torch.ones(1, height, width)
    with Image.open(example.mask) as opened:
        part = opened.convert("L").crop(example.region)
        cropped = part.crop(crop_box(part.size, size))
    pixels = torch.from_numpy(np.asarray(cropped).copy()).float()[None] / 255
    return torch.nn.functional.adaptive_max_pool2d(pixels, (height, width))


def geometry_of(example: Example, size: Size) -> tuple[int, int, int, int, int, int]:
    """Original height and width, top and left of the crop, target height and width, as SDXL is told them.

    The crop is the one `load_pixels` makes, counted in pixels of the picture resized so that the crop has `size`. A picture
    with a crop of its own counts as one of that size: what is outside was never meant to be learned.
    Podell et al. 2023, arXiv 2307.01952, sec. 2.2.
    """
    width, height = size
    own_width, own_height = example.size
    left, top, right, bottom = crop_box((own_width, own_height), size)
    return (own_height, own_width, round(top * height / (bottom - top)), round(left * width / (right - left)), height, width)


def _part_key(example: Example) -> str:
    """What tells a picture, and the part of it that is taken, from every other."""
    return example.key if example.crop is None else f"{example.key}@{','.join(map(str, example.crop))}"


def _key(*facts: str) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
