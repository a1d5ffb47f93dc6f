"""Train the embedded base model's denoiser and text encoder together, from nothing or from what a smaller one knows, on cached latents."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from sdplay.mini.grow import widened_unet
from sdplay.mini.machine import this_machine
from sdplay.mini.material import Batches, Captions, build_cache
from sdplay.mini.recipe import Recipe
from sdplay.mini.text import TEXT_WIDTH, build_tokenizer, new_text_encoder

HIGH_NOISE_CAP = 0.05
"""Keeps `noise_level_weight` below 20."""

NOISE_OFFSET = 0.15
"""Size of the noise's own flat part. Even at the last timestep some of the picture's mean colour shines through; where a drawing
starts there is none, and without this the model takes the start noise's mean for a hint at the colours."""

PREVIEW_PROMPTS = (
    "red apple, noto style",
    "cat face, noto style, blue background",
    "dog face, twemoji style, yellow background",
    "house, noto style, pink background",
    "guitar, twemoji style",
    "mushroom, noto style, green background",
    "rocket, twemoji style, black background",
    "hamburger, noto style",
    "sunflower, twemoji style, purple background",
    "penguin, noto style, orange background",
    "strawberry, noto style",
    "fox, twemoji style, white background",
)


def new_unet(vae: AutoencoderKL) -> UNet2DConditionModel:
    """(B, C, 16, 16) noisy latents -> the noise in them. `attention_head_dim` is diffusers' name for the number of heads."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return UNet2DConditionModel(
        sample_size=vae.config.sample_size // factor,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.x; drawing begins at its very end, where there is most noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 200 steps, constant, then linear to 2 % over the last 30 %. The length can change while it is constant."""
    warm = min(1.0, (step + 1) / 200)
    left = (steps - step) / (0.3 * steps)
    return peak * warm * min(1.0, max(0.02, left))


def denoising_loss(unet: nn.Module, scheduler: DDIMScheduler, latents: Tensor, hidden: Tensor, gamma: float) -> Tensor:
    """Epsilon loss at uniform timesteps, weighted by `noise_level_weight`."""
    noise = torch.randn_like(latents) + NOISE_OFFSET * torch.randn(*latents.shape[:2], 1, 1, device=latents.device)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    predicted = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, hidden).sample.float()
    alphas = scheduler.alphas_cumprod.to(latents.device)[timesteps]
    errors = (predicted - noise).square().mean(dim=(1, 2, 3))
    return (errors * noise_level_weight(alphas / (1 - alphas), gamma)).mean()


def noise_level_weight(snr: Tensor, gamma: float) -> Tensor:
    """How much an epsilon error counts: as a v error does, capped where the picture is nearly clean and nearly noise.

    snr: (B,).  A v error is an epsilon error times (snr + 1) / snr (Salimans & Ho 2022, arXiv 2202.00512); min-SNR caps the
    numerator (Hang et al. 2023, arXiv 2303.09556). What is drawn, and in which colours, is decided at high noise, where a plain
    epsilon loss hardly looks: 2.2 at snr 1, 18 at snr 0.005, 0.06 at snr 100, for gamma 5.
    """
    return (snr.clamp(max=gamma) + 1) / (snr + HIGH_NOISE_CAP)


@torch.no_grad()
def follow(averages: list[Tensor], weights: list[nn.Parameter], decay: float) -> None:
    """Exponential moving average, in place."""
    torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - decay)


def train_denoiser(recipe: Recipe, out: Path, warm_start: Path | None = None) -> None:
    """Train to `recipe.unet_steps`; write the pipeline to `out`/model and the state to `out`/unet.pt every few minutes.

    Picks up where an earlier call stopped; steps already done count. `warm_start`: a model this recipe made, with as many latent
    channels as `out`/vae or fewer, whose weights it begins with (at step 0, with a fresh optimiser) where no earlier call left a state.
    """
    torch.manual_seed(recipe.seed)
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    tokenizer = _tokenizer(recipe, out, warm_start)
    unet, text_encoder = _begin_with(vae, warm_start) if warm_start else (new_unet(vae), new_text_encoder(tokenizer))
    unet.to(memory_format=torch.channels_last).train()
    modules = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder.train()})
    machine = this_machine()
    machine.prepare(unet, text_encoder)
    weights = list(modules.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.unet_lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    averages = [weight.detach().clone() for weight in weights]
    step = _resume(out / "unet.pt", modules, optimizer, averages)
    torch.manual_seed(recipe.seed + step)
    scheduler, cache = new_scheduler(), build_cache(recipe, vae)
    captions = Captions(tokenizer, recipe.caption_dropout, recipe.synonym_share, recipe.stranger_share)
    batches = Batches(cache, captions, np.random.default_rng([recipe.seed, step]), machine.device)
    print(
        f"{len(cache.styles)} pictures, {sum(w.numel() for w in weights) / 1e6:.1f}M weights, {len(tokenizer)} tokens, {machine}",
        flush=True,
    )
    running, started, first = 0.0, time.monotonic(), step
    while step < recipe.unet_steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe.unet_steps, recipe.unet_lr)
        latents, ids = batches.draw(recipe.unet_batch)
        with machine.autocast():
            loss = denoising_loss(unet, scheduler, latents, text_encoder(ids).last_hidden_state, recipe.snr_gamma)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        follow(averages, weights, min(recipe.ema_decay, (1 + step) / (10 + step)))
        running = loss.item() if step == first + 1 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            print(
                f"unet step {step}/{recipe.unet_steps} loss {running:.4f} {(time.monotonic() - started) / (step - first):.2f} s/step",
                flush=True,
            )
        if step % recipe.save_every == 0 or step == recipe.unet_steps:
            state = {"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "averages": averages, "step": step}
            torch.save(state, out / "unet.pt.new")
            (out / "unet.pt.new").replace(out / "unet.pt")
            _write_model(out, averages=averages, tokenizer=tokenizer, vae=vae)


def _tokenizer(recipe: Recipe, out: Path, warm_start: Path | None) -> CLIPTokenizer:
    """Kept in `out`/tokenizer: learnt anew, a few rare words would fall apart otherwise than the text encoder has learned."""
    if not (out / "tokenizer").exists():
        fresh = CLIPTokenizer.from_pretrained(warm_start / "tokenizer") if warm_start else build_tokenizer(recipe.icons, recipe.vocabulary)
        fresh.save_pretrained(out / "tokenizer")
    return CLIPTokenizer.from_pretrained(out / "tokenizer")


def _begin_with(vae: AutoencoderKL, model: Path) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """The denoiser of a model of this recipe, made wider if the autoencoder has more channels, and its text encoder."""
    known = UNet2DConditionModel.from_pretrained(model / "unet", dtype=torch.float32)
    return widened_unet(known, new_unet(vae)), CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)


def _resume(path: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, averages: list[Tensor]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    for average, saved in zip(averages, state["averages"], strict=True):
        average.copy_(saved)
    return int(state["step"])


@torch.no_grad()
def _write_model(out: Path, *, averages: list[Tensor], tokenizer: CLIPTokenizer, vae: AutoencoderKL) -> None:
    """The averaged weights as a diffusers pipeline, and a contact sheet drawn with them."""
    unet, text_encoder = new_unet(vae), new_text_encoder(tokenizer)
    for weight, average in zip(nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).parameters(), averages, strict=True):
        weight.copy_(average)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(
        list(PREVIEW_PROMPTS),
        num_inference_steps=20,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(i) for i in range(len(PREVIEW_PROMPTS))],
    ).images
    sheet = Image.new("RGB", (6 * 128, 2 * 128))
    for i, picture in enumerate(pictures):
        sheet.paste(picture.resize((128, 128)), (i % 6 * 128, i // 6 * 128))
    sheet.save(out / "sheet.png")
    pipeline.save_pretrained(out / "model")
