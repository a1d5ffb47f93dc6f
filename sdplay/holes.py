"""What an inpainting base is shown of a picture while it learns: a mask, and the picture without what the mask hides.

A quarter of the time everything is hidden, as when Stable Diffusion's inpainting bases were made; else the picture's own mask
where it has one, or rectangles, an ellipse or strokes at random (LaMa, Suvorov et al. 2021, arXiv 2109.07161, sec. 2.4, has both
kinds). Which, depends on (seed, step) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from sdplay.cache import center_crop, load_pixels
from sdplay.config import TrainConfig
from sdplay.data import Example
from sdplay.diffusion.objective import step_generator
from sdplay.families import Family, Parts
from sdplay.inpainting import CHANNELS
from sdplay.resting import at_hand

STREAM = 850
"""First of the streams of random numbers that choose masks, one for each micro-batch of a step."""
EVERYTHING = 0.25
"""How often the whole picture is hidden."""


@dataclass(frozen=True)
class Holes:
    """The training pictures of a run on an inpainting base."""

    parts: Parts
    family: Family
    examples: Sequence[Example]
    config: TrainConfig

    @torch.no_grad()
    def shown(self, pictures: Sequence[int], latent_size: tuple[int, int], *, step: int, micro: int) -> Tensor:
        """(B, 5, h, w): the mask, 1 where it hides, and the latents of the pictures with grey there. On the CPU."""
        random = step_generator(self.config.seed, step, STREAM + micro)
        height, width = (side * self.parts.latent_factor for side in latent_size)
        masks = torch.stack([self._mask(self.examples[index], (width, height), random) for index in pictures])
        pixels = torch.stack([load_pixels(self.examples[index].path, (width, height)) for index in pictures])
        with at_hand(self.parts):
            latents, _ = self.family.encode_images(self.parts, pixels * (masks < 0.5))
        return torch.cat([functional.interpolate(masks, size=latent_size), latents], dim=1)

    def _mask(self, example: Example, size: tuple[int, int], random: torch.Generator) -> Tensor:
        """(1, H, W), 0 or 1. Draws the same count of random numbers whatever comes of them."""
        everything = float(torch.rand(1, generator=random)) < EVERYTHING
        made = random_mask(size, random)
        if everything:
            return torch.ones_like(made)
        if self.config.inpaint_masks == "auto" and example.mask is not None:
            with Image.open(example.mask) as opened:
                own = center_crop(opened.convert("L"), size)
            return (torch.from_numpy(np.asarray(own).copy())[None] > 127).float()
        return made


def holes_for(parts: Parts, family: Family, examples: Sequence[Example], config: TrainConfig) -> Holes | None:
    """None for bases that see no mask, and where the whole picture is to be hidden always."""
    if parts.denoiser.config.in_channels != CHANNELS or config.inpaint_masks == "whole":
        return None
    return Holes(parts, family, examples, config)


def random_mask(size: tuple[int, int], random: torch.Generator) -> Tensor:
    """(1, H, W) of zeros and ones for a size (width, height) in px: up to three rectangles, an ellipse, or a stroke with corners."""
    width, height = size
    picture = Image.new("L", size, 0)
    pen = ImageDraw.Draw(picture)
    kind, *shares = torch.rand(1 + 16, generator=random).tolist()
    if kind < 1 / 3:
        for index in range(1 + int(3 * shares[0])):
            pen.rectangle(_box(shares[1 + 4 * index : 5 + 4 * index], width, height), fill=1)
    elif kind < 2 / 3:
        pen.ellipse(_box(shares[1:5], width, height), fill=1)
    else:
        _stroke(pen, shares, width, height)
    return torch.from_numpy(np.asarray(picture).copy())[None].float()


def _box(shares: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box whose sides are a tenth to six tenths of the picture's, anywhere inside it."""
    wide, high = (max(1, round((0.1 + 0.5 * share) * side)) for share, side in zip(shares, (width, height), strict=False))
    left, top = round(shares[2] * (width - wide)), round(shares[3] * (height - high))
    return left, top, left + wide - 1, top + high - 1


def _stroke(pen: ImageDraw.ImageDraw, shares: Sequence[float], width: int, height: int) -> None:
    """A line of three to seven parts with round corners, a twentieth to a sixth of the picture thick."""
    side = min(width, height)
    thick = max(2, round((0.05 + 0.12 * shares[0]) * side))
    x, y = shares[1] * width, shares[2] * height
    for index in range(3 + int(5 * shares[3])):
        angle = 2 * math.pi * shares[4 + index]
        length = (0.15 + 0.35 * shares[(9 + index) % len(shares)]) * side
        further = min(max(x + length * math.cos(angle), 0), width - 1), min(max(y + length * math.sin(angle), 0), height - 1)
        pen.line((x, y, *further), fill=1, width=thick)
        for centre in ((x, y), further):
            pen.ellipse((centre[0] - thick / 2, centre[1] - thick / 2, centre[0] + thick / 2, centre[1] + thick / 2), fill=1)
        x, y = further
