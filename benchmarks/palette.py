"""Pictures in the colours of others: the palette of a style and nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from sdplay.mini.vae import to_tensor
from sdplay.sample import to_picture


def in_colours_of(shown: Sequence[Image.Image], pictures: Sequence[Image.Image], count: int) -> list[Image.Image]:
    """`pictures` with each pixel in the nearest of `count` colours (at most 256) that `shown` are best said in, by median cut."""
    side = max(max(picture.size) for picture in pictures)
    strip = np.concatenate([np.asarray(picture.convert("RGB").resize((side, side))) for picture in shown])
    palette = Image.fromarray(strip).quantize(count)
    return [picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB") for picture in pictures]


@torch.no_grad()
def through(vae: AutoencoderKL, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """As the autoencoder gives them back; all of one size."""
    pixels = to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    rebuilt = torch.cat([vae.decode(vae.encode(chunk).latent_dist.mean).sample for chunk in pixels.split(32)])
    return [to_picture((pixels + 1) / 2) for pixels in rebuilt]
