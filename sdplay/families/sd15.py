"""Stable Diffusion 1.x, its distilled and pruned relatives, and the embedded `mini` base: CLIP's text encoder and a U-Net."""

from __future__ import annotations

from pathlib import Path

from sdplay.clip_text import count_tokens, ordinary_words
from sdplay.clip_unet import DENOISER, LORA_TARGETS, configs_of, draw, encode_prompts, load, native_size, predict, reads_with_openclip
from sdplay.pipelines import diffusion_objective as objective
from sdplay.pipelines import encode_images

NAME = "sd15"
TITLE = "Stable Diffusion 1.x"

__all__ = (
    "DENOISER", "LORA_TARGETS", "NAME", "TITLE", "count_tokens", "draw", "encode_images", "encode_prompts", "identify", "load",
    "native_size", "objective", "ordinary_words", "predict",
)  # fmt: skip


def identify(folder: Path) -> bool:
    """A Stable Diffusion pipeline with OpenAI's text encoder and a U-Net of any depth, plain or inpainting, without added conditions."""
    configs = configs_of(folder)
    return configs is not None and not reads_with_openclip(*configs)
