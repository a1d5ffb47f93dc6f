"""What a picture is going to be, while it is still being denoised: a colour for each latent by one matrix, no autoencoder.

An autoencoder's latents are nearly linear in the colours under them
(https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204). The matrix is fitted to the base in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sdplay.families import Family, Parts

FITTED_ON, SIDE, PATCHES = 4, 16, 8
"""Pictures to fit by, their side in latents, and how many colours each has in a row."""
RIDGE = 0.03
"""Keeps the matrix small, so that what is still noise does not shine. On drawings of the embedded base the colours are then 28 of 255
off (root mean square); without it 30, with soft patches 36, and 26 with the best matrix that there is for those drawings."""
WORTH_S = 2.0
"""Pictures that are done within so many seconds are waited for."""
EVERY_S = 0.7
"""Between two previews."""


@torch.no_grad()
def latent_colours(parts: Parts, family: Family) -> Tensor:
    """(C + 1, 3): what the channels of a latent and a one add to red, green and blue in [0, 1].

    Ridge regression over patches of random colours. Found once per base, in the time of encoding one picture of 256 px.
    """
    if parts.latent_colours is None:
        random = torch.Generator().manual_seed(0)
        patches = torch.rand(FITTED_ON, 3, PATCHES, PATCHES, generator=random)
        colours = functional.interpolate(patches, size=(SIDE, SIDE)).permute(0, 2, 3, 1).reshape(-1, 3)
        latents, _ = family.encode_images(parts, functional.interpolate(patches, size=(SIDE * parts.latent_factor,) * 2) * 2 - 1)
        given = _with_one(latents.float().cpu())
        ridge = RIDGE * len(given) * torch.diag(torch.cat([torch.ones(given.shape[1] - 1), torch.zeros(1)]))
        parts.latent_colours = torch.linalg.solve(given.T @ given + ridge, given.T @ colours)
    return parts.latent_colours


def small_pictures(latents: Tensor, colours: Tensor) -> list[Image.Image]:
    """(B, C, h, w) clean latents -> B pictures of h x w px."""
    latents = latents.detach().float().cpu()
    shown = (_with_one(latents) @ colours).clamp(0, 1).reshape(len(latents), *latents.shape[2:], 3)
    return [Image.fromarray((picture * 255).round().to(torch.uint8).numpy()) for picture in shown]


def _with_one(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> (B * h * w, C + 1)"""
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)


@dataclass
class Previews:
    """Shows what comes, if that takes long enough to be looked at."""

    parts: Parts
    family: Family
    show: Callable[[int, int, list[Image.Image]], None]
    """Given how many steps are done, of how many, and a picture for each that is being drawn."""
    _before: float = field(default_factory=time.monotonic)
    _shown: float = 0.0

    def after_step(self, step: int, steps: int, latents: Tensor) -> None:
        """As families.AfterStep."""
        now = time.monotonic()
        took, self._before = now - self._before, now
        if 1 < step < steps and took * steps >= WORTH_S and now - self._shown >= EVERY_S:
            self.show(step, steps, small_pictures(latents, latent_colours(self.parts, self.family)))
            self._before = self._shown = time.monotonic()
