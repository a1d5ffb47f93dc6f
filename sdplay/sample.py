"""Prompts -> pictures, from a base model with or without an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sdplay import png_settings
from sdplay.config import GenerateConfig
from sdplay.families import DrawRequest, Family, Parts, batch, checked_size
from sdplay.formats import AdapterFile, attached
from sdplay.remembered_texts import read_texts
from sdplay.resting import at_hand
from sdplay.workspace import write_atomically

BATCH, GPU_BATCH = 8, 32
"""Pictures drawn at once; more does not pay, on small machines and on GPUs."""
BATCH_PX = BATCH * 512 * 512
"""Pixels drawn at once where nobody knows the free memory: 8 pictures of 512 px, 2 of 1024 px."""
BYTES_PER_PX, SHARE_OF_FREE = 3000, 0.7
"""Allowances for a GPU: what drawing holds for a pixel at its fullest, which is when the autoencoder decodes in float32 (128 channels,
some copies), and how much of the free memory a drawing may take."""


@dataclass(frozen=True)
class Shot:
    """One picture to draw."""

    prompt: str
    seed: int


def never() -> bool:
    """For drawings that nobody can cancel."""
    return False


@contextmanager
def using(parts: Parts, adapters: Sequence[tuple[AdapterFile, float]]) -> Iterator[None]:
    """The base alone (no adapters), or with several, each at its strength. All else on it, such as what trains, is off meanwhile."""
    with attached(parts, adapters):
        yield


def draw(
    parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig, *, cancelled: Callable[[], bool] = never
) -> Iterator[Image.Image]:
    """One picture per shot, in order, with whatever is on the base. Raises Cancelled between denoising steps."""
    with at_hand(parts):
        yield from _drawn(parts, family, shots, config, cancelled=cancelled)


def _drawn(
    parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig, *, cancelled: Callable[[], bool]
) -> Iterator[Image.Image]:
    size = checked_size(parts, config.size)
    encoded = read_texts(parts, family, [config.negative_prompt, *(shot.prompt for shot in shots)])
    at_once = even_batch(len(shots), most_at_once(parts, size * size))
    for start in range(0, len(shots), at_once):
        chunk = shots[start : start + at_once]
        request = DrawRequest(
            conditioning=batch([encoded[shot.prompt] for shot in chunk]),
            negative=batch([encoded[config.negative_prompt]] * len(chunk)),
            seeds=tuple(shot.seed for shot in chunk),
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            size=size,
            cancelled=cancelled,
        )
        yield from map(to_picture, family.draw(parts, request))


def most_at_once(parts: Parts, pixels: int) -> int:
    """How many pictures of so many pixels may be drawn at once: by the free memory of a GPU, else by what was found to pay."""
    if parts.device.type != "cuda":
        return max(1, min(BATCH, BATCH_PX // pixels))
    unused = torch.cuda.memory_reserved(parts.device) - torch.cuda.memory_allocated(parts.device)
    free = torch.cuda.mem_get_info(parts.device)[0] + unused
    return max(1, min(GPU_BATCH, int(SHARE_OF_FREE * free) // (BYTES_PER_PX * pixels)))


def even_batch(count: int, most: int) -> int:
    """How many of `count` at once, at most `most`, so that no batch is nearly empty: 9 by at most 8 are 5 and 4."""
    return math.ceil(count / math.ceil(count / most)) if count else most


def to_picture(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().astype(np.uint8))


def write_png(path: Path, picture: Image.Image, settings: Mapping[str, object]) -> None:
    """Write a PNG that knows how it was made."""
    write_atomically(path, png_settings.write(picture, settings))
