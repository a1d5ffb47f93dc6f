"""Stable Diffusion 3 and 3.5: a transformer over pictures and text together, flow matching, two CLIP text encoders and perhaps a T5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline
from torch import Tensor
from torch.nn import functional

from sdplay import pipelines
from sdplay.clip_text import count_tokens, ordinary_words, penultimate, side_by_side, token_ids
from sdplay.device import Device
from sdplay.diffusion.objective import FlowObjective
from sdplay.families import AS_TRAINED, Conditioning, DrawRequest, Parts, Reading
from sdplay.pipelines import encode_images
from sdplay.prompting import plain_text

NAME = "sd3"
TITLE = "Stable Diffusion 3 and 3.5"
DENOISER = "transformer"
LORA_TARGETS = (
    "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out", "attn.to_k", "attn.to_out.0", "attn.to_q", "attn.to_v",
)  # fmt: skip
CLIPS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
T5 = {"text_encoder_3": "tokenizer_3"}
T5_TOKENS = 256
"""What the pipeline gives T5 when it draws; training must give the same."""

__all__ = (
    "DENOISER", "LORA_TARGETS", "NAME", "TITLE", "count_tokens", "draw", "encode_images", "encode_prompts", "identify", "load",
    "native_size", "objective", "ordinary_words", "predict",
)  # fmt: skip


def identify(folder: Path) -> bool:
    """A Stable Diffusion 3 pipeline, of any depth, with or without T5."""
    return pipelines.read_json(folder / "model_index.json").get("_class_name") == "StableDiffusion3Pipeline"


def native_size(folder: Path) -> int:
    """The transformer's side in latents times the autoencoder's factor."""
    return pipelines.native_size(folder, DENOISER)


def load(folder: Path, device: Device, *, source: str, checkpoint: Path | None = None) -> Parts:
    """Read every part, frozen; T5 only where the folder has it. Raises ModelError when a file is missing or does not fit."""
    has_t5 = checkpoint is None and (folder / "text_encoder_3" / "config.json").is_file()
    without: dict[str, Any] = {} if has_t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = pipelines.load_pipeline(StableDiffusion3Pipeline, folder, source=source, checkpoint=checkpoint, **without)
    encoders = {**CLIPS, **T5} if has_t5 else CLIPS
    pipelines.shrink(device, *(getattr(pipeline, name) for name in (DENOISER, *CLIPS)))
    if has_t5:
        pipelines.shrink(device, pipeline.text_encoder_3)
    size_multiple = pipeline.vae_scale_factor * pipeline.transformer.config.patch_size
    return pipelines.assemble(pipeline, device, source=source, denoiser=DENOISER, encoders=encoders, size_multiple=size_multiple)


def encode_prompts(parts: Parts, prompts: Sequence[str], how: Reading = AS_TRAINED) -> Conditioning:
    """B texts -> (B, 77 + 256, width), CLIP's states side by side and padded with zeros, then T5's, and both CLIPs' pooled vectors.

    T5 reads a text without its weights and 256 tokens of it, in any case.
    """
    with pipelines.computing(parts.text_encoders["text_encoder"]):
        first, pooled = penultimate(parts, "text_encoder", prompts, how)
        second, pooled_too = penultimate(parts, "text_encoder_2", prompts, how)
        t5 = _encode_t5(parts, [plain_text(prompts[0])] if how.whole else prompts)
    clip = side_by_side(first, second)
    clip = functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return Conditioning(torch.cat([clip, t5], dim=1), torch.cat([pooled, pooled_too], dim=-1))


def objective(parts: Parts) -> FlowObjective:
    """Flow matching with the shift of the scheduler's config."""
    config = parts.pipeline.scheduler.config
    return FlowObjective(config.num_train_timesteps, shift=float(config.get("shift") or 1.0))


def predict(parts: Parts, x_t: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
    """(B, 16, h, w) noisy latents at t (B,) -> velocity (B, 16, h, w). These bases are not told the geometry."""
    with pipelines.computing(parts.denoiser):
        return parts.denoiser(
            hidden_states=x_t,
            timestep=t,
            encoder_hidden_states=conditioning.hidden,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )[0]


@torch.no_grad()
def draw(parts: Parts, request: DrawRequest) -> list[Tensor]:
    """B pictures (3, H, W) in [0, 1]."""
    latents = pipelines.run_pipeline(
        parts,
        request,
        StableDiffusion3InpaintPipeline,
        pooled_prompt_embeds=request.conditioning.pooled,
        negative_pooled_prompt_embeds=request.negative.pooled,
        output_type="latent",
    )
    return pipelines.decode_latents(parts, latents)


def _encode_t5(parts: Parts, prompts: Sequence[str]) -> Tensor:
    """(B, 256, width); zeros where there is no T5, as the base was taught to do without."""
    width = parts.denoiser.config.joint_attention_dim
    if "text_encoder_3" not in parts.text_encoders:
        return torch.zeros(len(prompts), T5_TOKENS, width, device=parts.device)
    ids = token_ids(parts, "text_encoder_3", prompts, length=T5_TOKENS)
    return parts.text_encoders["text_encoder_3"](ids)[0].float()
