"""Stable Diffusion XL and its distilled relatives (SSD-1B, Vega): two text encoders, and a U-Net that is told a picture's geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from torch import Tensor

from sdplay import inpainting, pipelines
from sdplay.clip_text import count_tokens, ordinary_words, penultimate, side_by_side
from sdplay.device import Device
from sdplay.families import AS_TRAINED, Conditioning, DrawRequest, Parts, Reading
from sdplay.pipelines import diffusion_objective as objective
from sdplay.pipelines import encode_images

NAME = "sdxl"
TITLE = "Stable Diffusion XL"
DENOISER = "unet"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}

__all__ = (
    "DENOISER", "LORA_TARGETS", "NAME", "TITLE", "count_tokens", "draw", "encode_images", "encode_prompts", "identify", "load",
    "native_size", "objective", "ordinary_words", "predict",
)  # fmt: skip


def identify(folder: Path) -> bool:
    """Two text encoders and a U-Net of any depth, plain or inpainting, with six time ids. The refiner, which takes five, is not one."""
    index = pipelines.read_json(folder / "model_index.json")
    unet = pipelines.read_json(folder / "unet" / "config.json")
    return (
        index.get("_class_name") in ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline")
        and unet.get("in_channels", 4) in (unet.get("out_channels", 4), inpainting.CHANNELS)
        and unet.get("addition_embed_type") == "text_time"
        and None not in index.get("text_encoder", [None])
        and None not in index.get("text_encoder_2", [None])
    )


def native_size(folder: Path) -> int:
    """The U-Net's side in latents times the autoencoder's factor."""
    return pipelines.native_size(folder, DENOISER)


def load(folder: Path, device: Device, *, source: str, checkpoint: Path | None = None) -> Parts:
    """Read every part, frozen; the autoencoder in float32 always, because in float16 it overflows. Raises ModelError."""
    unet = pipelines.read_json(folder / DENOISER / "config.json")
    kind = StableDiffusionXLInpaintPipeline if unet.get("in_channels") == inpainting.CHANNELS else StableDiffusionXLPipeline
    pipeline = pipelines.load_pipeline(kind, folder, source=source, checkpoint=checkpoint, add_watermarker=False)
    pipelines.shrink(device, pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2)
    return pipelines.assemble(
        pipeline, device, source=source, denoiser=DENOISER, encoders=ENCODERS, size_multiple=pipeline.vae_scale_factor
    )


def encode_prompts(parts: Parts, prompts: Sequence[str], how: Reading = AS_TRAINED) -> Conditioning:
    """B texts -> (B, 77, 768 + 1280), both encoders' states before the last layer side by side, and (B, 1280) pooled by the second."""
    with pipelines.computing(parts.text_encoders["text_encoder"]):
        first, _ = penultimate(parts, "text_encoder", prompts, how)
        second, pooled = penultimate(parts, "text_encoder_2", prompts, how)
    return Conditioning(side_by_side(first, second), pooled)


def predict(parts: Parts, x_t: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
    """(B, 4, h, w) noisy latents at t (B,) -> (B, 4, h, w). geometry (B, 6) is what SDXL calls time ids."""
    added = {"text_embeds": conditioning.pooled, "time_ids": geometry}
    with pipelines.computing(parts.denoiser):
        return parts.denoiser(
            inpainting.with_hidden_picture(parts, x_t), t, conditioning.hidden, added_cond_kwargs=added, return_dict=False
        )[0]


@torch.no_grad()
def draw(parts: Parts, request: DrawRequest) -> list[Tensor]:
    """B pictures (3, H, W) in [0, 1], told to be uncropped and of the size that is drawn."""
    latents = pipelines.run_pipeline(
        parts,
        request,
        StableDiffusionXLInpaintPipeline,
        pooled_prompt_embeds=request.conditioning.pooled,
        negative_pooled_prompt_embeds=request.negative.pooled,
        original_size=(request.height, request.width),
        crops_coords_top_left=(0, 0),
        target_size=(request.height, request.width),
        output_type="latent",
        **inpainting.hiding_arguments(parts, request),
    )
    return pipelines.decode_latents(parts, latents)
