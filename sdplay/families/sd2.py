"""Stable Diffusion 2.0 and 2.1: SD 1.x's shape with OpenCLIP's text encoder; at 768 px it predicts v, as its scheduler's config says."""

from __future__ import annotations

from pathlib import Path

from sdplay.clip_text import count_tokens, ordinary_words
from sdplay.clip_unet import DENOISER, LORA_TARGETS, configs_of, draw, encode_prompts, load, native_size, predict, reads_with_openclip
from sdplay.pipelines import diffusion_objective as objective
from sdplay.pipelines import encode_images

NAME = "sd2"
TITLE = "Stable Diffusion 2.x"

__all__ = (
    "DENOISER", "LORA_TARGETS", "NAME", "TITLE", "count_tokens", "draw", "encode_images", "encode_prompts", "identify", "load",
    "native_size", "objective", "ordinary_words", "predict",
)  # fmt: skip


def identify(folder: Path) -> bool:
    """A Stable Diffusion pipeline with OpenCLIP's text encoder."""
    configs = configs_of(folder)
    return configs is not None and reads_with_openclip(*configs)
