"""Every number the embedded base model is made with. It learns at 64 px first, then grows to 128 px (`grow.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

SMALL_STEPS = 11650
"""Steps of the denoiser at 64 px."""
UNET_STEPS = 7100
"""Steps of the denoiser after it has grown."""


@dataclass(frozen=True)
class Recipe:
    """One of its two stages."""

    icons: Path
    """Folder that holds (or will hold) the npm icon packages."""
    size_px: int = 64
    latent_channels: int = 4
    seed: int = 0

    vae_steps: int = 1900
    vae_batch: int = 24
    vae_lr: float = 2e-3
    vae_thinning: int = 2
    """Use every n-th icon of each set."""
    unseen: int = 64
    """Pictures of the style that nothing is trained on, by which the autoencoder is measured."""
    surveyed: int = 256
    """Pictures from which the size of the latents is taken."""
    polish_steps: int = 900
    """Steps in which the decoder alone learns on, after the encoder is settled."""
    polish_batch: int = 24
    polish_lr: float = 1e-3
    polish_noise: float = 0.0
    """By how much the latents it then learns from stray, at most; latents themselves are of size 1."""
    polish_thinning: int = 1

    unet_steps: int = SMALL_STEPS
    unet_batch: int = 32
    unet_lr: float = 1e-3
    ema_decay: float = 0.999
    views: int = 12
    """Compositions cached per (subject, style)."""
    style_weights: tuple[float, ...] = (2.0, 1.0)
    """How often each of data.TRAINED_STYLES is drawn: in few hours one style is learned well and the others beside it."""
    composed: int = 0
    """Pictures per style of small or of two subjects, of the starred ones."""
    composed_share: float = 0.12
    """How often those are drawn."""
    synonym_share: float = 0.0
    """How often a subject that has another word is called by it."""
    stranger_share: float = 0.0
    """How often a caption has a word that means nothing: half of the times in place of the style."""
    look_share: float = 0.0
    """How often a picture in one of `looks.looks()` is drawn."""
    look_views: int = 3
    """Compositions cached per (subject, look)."""
    favour: float = 2.5
    """How much more often the starred subjects are drawn: few hours on a CPU teach few things well."""
    caption_dropout: float = 0.1
    snr_gamma: float = 5.0
    vocabulary: int = 3072
    save_every: int = 250


@dataclass(frozen=True)
class Stages:
    """The whole recipe. `smoke()` is the same in a minute, to see that it runs."""

    small: Recipe
    """64 px, from nothing."""
    grown: Recipe
    """128 px, from what the small one knows."""


def stages(icons: Path, unet_steps: int = UNET_STEPS) -> Stages:
    """As the shipped model is made."""
    return Stages(
        Recipe(icons),
        Recipe(
            icons,
            size_px=128,
            latent_channels=8,
            vae_steps=1100,
            vae_lr=1.5e-3,
            vae_thinning=1,
            polish_steps=700,
            polish_batch=12,
            polish_lr=6e-4,
            polish_noise=0.2,
            unet_steps=unet_steps,
            stranger_share=0.4,
            look_share=0.45,
        ),
    )


def smoke(icons: Path) -> Stages:
    """Cut down to about a minute."""
    both = stages(icons)
    return Stages(replace(_short(both.small), vae_steps=20, polish_steps=10), replace(_short(both.grown), vae_steps=6, polish_steps=4))


def _short(recipe: Recipe) -> Recipe:
    thin = replace(recipe, vae_batch=8, vae_thinning=40, polish_batch=8, polish_thinning=40, unseen=8, surveyed=32)
    return replace(thin, unet_steps=6, unet_batch=8, views=1, composed=4)
