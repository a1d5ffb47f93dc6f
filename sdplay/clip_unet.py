"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a U-Net, a four-channel autoencoder. Their families differ in little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline
from torch import Tensor

from sdplay import inpainting, pipelines
from sdplay.clip_text import last
from sdplay.device import Device, autocast
from sdplay.families import AS_TRAINED, Conditioning, DrawRequest, Parts, Reading

DENOISER = "unet"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def configs_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The U-Net's and the text encoder's configs if a folder holds a pipeline of this kind, plain or inpainting, else None."""
    index = pipelines.read_json(folder / "model_index.json")
    unet = pipelines.read_json(folder / "unet" / "config.json")
    fits = (
        index.get("_class_name") in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
        and "text_encoder_2" not in index
        and unet.get("in_channels", 4) in (unet.get("out_channels", 4), inpainting.CHANNELS)
        and unet.get("addition_embed_type") is None
    )
    return (unet, pipelines.read_json(folder / "text_encoder" / "config.json")) if fits else None


def reads_with_openclip(unet: dict[str, Any], text_encoder: dict[str, Any]) -> bool:
    """Whether the text encoder is OpenCLIP's, as in SD 2.x: width 1024, or its activation, gelu, where OpenAI's is quick_gelu."""
    return unet.get("cross_attention_dim") == 1024 or text_encoder.get("hidden_act", "quick_gelu") == "gelu"


def native_size(folder: Path) -> int:
    """The U-Net's side in latents times the autoencoder's factor."""
    return pipelines.native_size(folder, DENOISER)


def load(folder: Path, device: Device, *, source: str, checkpoint: Path | None = None) -> Parts:
    """Read every part, frozen, in evaluation mode; the autoencoder in float32. Raises ModelError when a file is missing or does not fit."""
    unet = pipelines.read_json(folder / DENOISER / "config.json")
    kind = StableDiffusionInpaintPipeline if unet.get("in_channels") == inpainting.CHANNELS else StableDiffusionPipeline
    pipeline = pipelines.load_pipeline(
        kind, folder, source=source, checkpoint=checkpoint, safety_checker=None, requires_safety_checker=False
    )
    pipelines.shrink(device, pipeline.unet, pipeline.text_encoder)
    return pipelines.assemble(
        pipeline,
        device,
        source=source,
        denoiser=DENOISER,
        encoders={"text_encoder": "tokenizer"},
        size_multiple=pipeline.vae_scale_factor,
    )


def encode_prompts(parts: Parts, prompts: Sequence[str], how: Reading = AS_TRAINED) -> Conditioning:
    """B texts -> (B, 77, width); longer texts are cut, as Stable Diffusion does, unless they are read whole."""
    with pipelines.computing(parts.text_encoders["text_encoder"]):
        return Conditioning(last(parts, "text_encoder", prompts, how).float())


def predict(parts: Parts, x_t: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
    """(B, 4, h, w) noisy latents at t (B,) -> (B, 4, h, w). These bases are not told the geometry."""
    with pipelines.computing(parts.denoiser):
        return parts.denoiser(inpainting.with_hidden_picture(parts, x_t), t, conditioning.hidden, return_dict=False)[0]


@torch.no_grad()
def draw(parts: Parts, request: DrawRequest) -> list[Tensor]:
    """B pictures (3, H, W) in [0, 1]."""
    hiding = inpainting.hiding_arguments(parts, request)
    latents = pipelines.run_pipeline(parts, request, StableDiffusionInpaintPipeline, output_type="latent", **hiding)
    with autocast(parts.device):
        return pipelines.decode_latents(parts, latents)
