"""Inpainting U-Nets: they see, beside the noisy latents, a mask of what is hidden and the latents of what is not.

Training shows them pictures with holes (holes.py). Drawing without a mask hides the whole picture, one of the cases such bases were
made with; with a painted mask they see what is outside of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdplay import pipelines
from sdplay.families import DrawRequest, Parts
from sdplay.resting import at_hand

CHANNELS = 9
"""Four of noisy latents, one of the mask (1: hidden), four of the picture with its hidden part grey."""


def with_hidden_picture(parts: Parts, x_t: Tensor) -> Tensor:
    """(B, 4, h, w) -> (B, 9, h, w) for an inpainting U-Net; unchanged for others, and where a picture with a hole is there already."""
    if parts.denoiser.config.in_channels != CHANNELS or x_t.shape[1] == CHANNELS:
        return x_t
    grey = _grey(parts, x_t.shape[2], x_t.shape[3]).to(x_t.dtype).expand(len(x_t), -1, -1, -1)
    return torch.cat([x_t, torch.ones_like(x_t[:, :1]), grey], dim=1)


def hiding_arguments(parts: Parts, request: DrawRequest) -> dict[str, Any]:
    """What an inpainting pipeline must be given to draw a whole picture from nothing; nothing for others."""
    if parts.denoiser.config.in_channels != CHANNELS or request.start:
        return {}
    count, height, width = len(request.seeds), request.height, request.width
    grey = _grey(parts, height // parts.latent_factor, width // parts.latent_factor)
    return {
        "image": torch.full((count, 3, height, width), 0.5),
        "mask_image": torch.ones(count, 1, height, width),
        "masked_image_latents": grey.repeat(count, 1, 1, 1),
        "strength": 1.0,
    }


def _grey(parts: Parts, height: int, width: int) -> Tensor:
    """(1, 4, h, w) latents of plain grey, computed once for a size."""
    if (height, width) not in parts.grey_latents:
        pixels = torch.zeros(1, 3, height * parts.latent_factor, width * parts.latent_factor)
        with at_hand(parts):
            parts.grey_latents[height, width] = pipelines.encode_images(parts, pixels)[0].to(parts.device)
    return parts.grey_latents[height, width]
