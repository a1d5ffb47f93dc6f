"""Stable Diffusion 1.x: one CLIP text encoder, a U-Net, a four-channel autoencoder. The embedded `mini` base is one too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn
from transformers import CLIPTokenizer

from sdplay.device import Device, autocast
from sdplay.diffusion.objective import Objective
from sdplay.errors import Cancelled, ModelError
from sdplay.families import Conditioning, DrawRequest, Parts, TokenCount

NAME = "sd15"
TITLE = "Stable Diffusion 1.x"
DENOISER = "unet"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def identify(folder: Path) -> bool:
    """A Stable Diffusion pipeline with one text encoder and a U-Net that takes plain latents and no added conditions."""
    index = _read_json(folder / "model_index.json")
    unet = _read_json(folder / "unet" / "config.json")
    return (
        index.get("_class_name") == "StableDiffusionPipeline"
        and "text_encoder_2" not in index
        and unet.get("in_channels", 4) == 4
        and unet.get("addition_embed_type") is None
    )


def native_size(folder: Path) -> int:
    """The U-Net's side in latents times the autoencoder's factor."""
    unet, vae = _read_json(folder / "unet" / "config.json"), _read_json(folder / "vae" / "config.json")
    return int(unet.get("sample_size", 64) * 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1))


def load(folder: Path, device: Device, *, source: str) -> Parts:
    """Read every part as float32, frozen, in evaluation mode. Raises ModelError when a file is missing or does not fit."""
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            safety_checker=None,
            requires_safety_checker=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"The base model {source!r} cannot be read: {_first_line(error)}", "Download it again, or choose another."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    pipeline.to(device.torch_device)
    pipeline.unet.to(memory_format=torch.channels_last)
    return Parts(
        pipeline=pipeline,
        denoiser=pipeline.unet,
        text_encoders={"text_encoder": pipeline.text_encoder},
        tokenizers={"text_encoder": pipeline.tokenizer},
        device=device.torch_device,
        size=pipeline.unet.config.sample_size * pipeline.vae_scale_factor,
        latent_factor=pipeline.vae_scale_factor,
        latent_channels=pipeline.vae.config.latent_channels,
        source=source,
        fingerprint=_fingerprint(pipeline.vae, pipeline.text_encoder),
    )


@torch.no_grad()
def encode_images(parts: Parts, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> scaled mean and standard deviation of the latents. Raises ModelError if they are not finite."""
    vae = parts.pipeline.vae
    posterior = vae.encode(pixels.to(parts.device)).latent_dist
    factor = vae.config.scaling_factor
    if not torch.isfinite(posterior.mean).all():
        raise ModelError("The autoencoder of the base model gave latents that are not finite.", "Choose another base model.")
    return (posterior.mean * factor).cpu(), (posterior.std * factor).cpu()


def encode_prompts(parts: Parts, prompts: Sequence[str]) -> Conditioning:
    """B texts -> (B, 77, width); longer texts are cut, as Stable Diffusion does."""
    tokenizer = parts.tokenizers["text_encoder"]
    ids = tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return Conditioning(parts.text_encoders["text_encoder"](ids.to(parts.device)).last_hidden_state)


def objective(parts: Parts) -> Objective:
    """From the scheduler's config, so that v-prediction bases train as what they are."""
    scheduler = parts.pipeline.scheduler
    return Objective(scheduler.alphas_cumprod.float().to(parts.device), scheduler.config.prediction_type)


def predict(parts: Parts, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    """(B, 4, h, w) noisy latents at t (B,) -> (B, 4, h, w)."""
    return parts.denoiser(x_t, t, conditioning.hidden, return_dict=False)[0]


@torch.no_grad()
def draw(parts: Parts, request: DrawRequest) -> list[Tensor]:
    """B pictures (3, size, size) in [0, 1] by the base's own scheduler. The noise of a picture depends on its seed and size only."""
    pipeline = parts.pipeline
    side = request.size // parts.latent_factor
    shape = (parts.latent_channels, side, side)
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in request.seeds])

    def check(pipe: StableDiffusionPipeline, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        if request.cancelled():
            raise Cancelled("Drawing was cancelled.")
        return values

    with autocast(parts.device):
        pictures = pipeline(
            prompt_embeds=request.conditioning.hidden,
            negative_prompt_embeds=request.negative.hidden,
            latents=noise.to(parts.device),
            height=request.size,
            width=request.size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            output_type="pt",
            callback_on_step_end=check,
        ).images
    return list(pictures.float().cpu())


def count_tokens(folder: Path, texts: Sequence[str]) -> list[TokenCount]:
    """Needs the tokenizer's files only."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    limit = tokenizer.model_max_length - 2
    counted = []
    for text in texts:
        tokens = tuple(token.replace("</w>", " ").strip() for token in tokenizer.tokenize(text))
        counted.append(TokenCount(tokens[:limit], tokens[limit:], limit))
    return counted


def ordinary_words(folder: Path) -> set[str]:
    """CLIP numbers its tokens by how common they are: the first four fifths of the whole words are ordinary."""
    vocabulary = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True).get_vocab()
    return {token.removesuffix("</w>") for token, index in vocabulary.items() if token.endswith("</w>") and index < 0.8 * len(vocabulary)}


def _fingerprint(*modules: nn.Module) -> str:
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else str(tensor.item()).encode())
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
