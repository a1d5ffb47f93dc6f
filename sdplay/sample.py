"""Prompts -> pictures, from a base model with or without an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sdplay.drawing import GenerateConfig
from sdplay.families import DrawRequest, Family, Parts, Start, batch, checked_size
from sdplay.formats import AdapterFile, attached
from sdplay.start import StartPicture, size_like

BATCH = 8
"""Pictures drawn at once; more does not pay on small machines."""
BATCH_PX = BATCH * 512 * 512
"""Pixels drawn at once: 8 pictures of 512 px, 2 of 1024 px."""

LATENT_GRID = 8
"""Sides in px that diffusers' inpainting pipelines take are whole multiples of it."""


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
    parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig, *, cancelled: Callable[[], bool] = never,
    start: StartPicture | None = None,
) -> Iterator[Image.Image]:  # fmt: skip
    """One picture per shot, in order, with whatever is on the base. Raises Cancelled between denoising steps, ConfigError.

    start: what every picture begins with, fitted to the size; outside its mask it comes back to the pixel.
    """
    width, height = drawn_size(parts, config, start)
    if start:
        start = start.fitted(width, height)
        if not start.done_steps(config.steps):
            yield from (start.picture.copy() for _ in shots)
            return
    texts = list(dict.fromkeys([config.negative_prompt, *(shot.prompt for shot in shots)]))
    with torch.no_grad():
        encoded = dict(zip(texts, family.encode_prompts(parts, texts, clip_skip=config.clip_skip).rows(), strict=True))
        seen = encode_start(parts, family, start) if start else None
    at_once = max(1, min(BATCH, BATCH_PX // (width * height)))
    for first in range(0, len(shots), at_once):
        chunk = shots[first : first + at_once]
        request = DrawRequest(
            conditioning=batch([encoded[shot.prompt] for shot in chunk]),
            negative=batch([encoded[config.negative_prompt]] * len(chunk)),
            seeds=tuple(shot.seed for shot in chunk),
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            width=width,
            height=height,
            cancelled=cancelled,
            scheduler=config.scheduler,
            guidance_rescale=config.guidance_rescale,
            start=seen,
        )
        pictures = map(to_picture, family.draw(parts, request))
        yield from map(start.kept, pictures) if start else pictures


def drawn_size(parts: Parts, config: GenerateConfig, start: StartPicture | None) -> tuple[int, int]:
    """Width and height in px. Where no size is asked for: the base's own square, or a start picture's shape at that area."""
    if start and config.size is None and config.height is None:
        return size_like(start.picture, side=parts.size, multiple=math.lcm(parts.size_multiple, LATENT_GRID))
    width = checked_size(parts, config.size)
    return width, checked_size(parts, config.height or width)


def encode_start(parts: Parts, family: Family, start: StartPicture) -> Start:
    """A start picture of a size the base takes, as the denoiser sees it. A latent is drawn anew if any pixel of it is."""
    pixels = _pixels(start.picture)
    shape = (1, 1, *pixels.shape[2:])
    painted = _pixels(start.mask)[:, :1].add(1).div(2).round() if start.mask else torch.ones(shape)
    factor = parts.latent_factor
    hidden = functional.interpolate(functional.max_pool2d(painted, factor), size=shape[2:])
    latents, _ = family.encode_images(parts, pixels)
    seen, _ = family.encode_images(parts, pixels * (1 - hidden))
    return Start(latents.to(parts.device), hidden.to(parts.device), seen.to(parts.device), start.strength)


def _pixels(picture: Image.Image) -> Tensor:
    """RGB or L -> (1, 3, H, W) in [-1, 1]."""
    array = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1)[None]


def to_picture(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().astype(np.uint8))
