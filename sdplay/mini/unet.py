"""Train the embedded base model's denoiser and text encoder together, from nothing, on cached latents."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from sdplay.mini import data
from sdplay.mini.recipe import Recipe
from sdplay.mini.text import MAX_TOKENS, TEXT_WIDTH, build_tokenizer, new_text_encoder
from sdplay.mini.vae import to_tensor

HIGH_NOISE_CAP = 0.05
"""Keeps `noise_level_weight` below 20."""

NOISE_OFFSET = 0.15
"""Size of the noise's own flat part. Even at the last timestep some of the picture's mean colour shines through; where a drawing
starts there is none, and without this the model takes the start noise's mean for a hint at the colours."""

HELD_OUT_SHARE = 0.05
"""Share of the (subject, style) pairs that are kept out of training, to test composition."""

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


def new_unet(size_px: int, factor: int) -> UNet2DConditionModel:
    """(B, 4, H/f, W/f) noisy latents -> the noise in them. `attention_head_dim` is diffusers' name for the number of heads."""
    return UNet2DConditionModel(
        sample_size=size_px // factor,
        in_channels=4,
        out_channels=4,
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


@dataclass(frozen=True)
class Cache:
    """Every training picture as (N, 4, h, w) scaled latents, with what its caption can be made of."""

    latents: Tensor
    names: list[str]
    styles: list[str]
    backgrounds: list[str]


def held_out_pairs() -> set[tuple[str, str]]:
    """(name, style) pairs never trained on; each subject stays in at least one style."""
    rng = np.random.default_rng(20261123)
    names = data.trained_names()
    count = round(HELD_OUT_SHARE * len(names) * len(data.TRAINED_STYLES))
    chosen = rng.choice(len(names), count, replace=False)
    return {(names[i], data.TRAINED_STYLES[k % len(data.TRAINED_STYLES)]) for k, i in enumerate(chosen)}


@torch.no_grad()
def build_cache(recipe: Recipe, vae: AutoencoderKL) -> Cache:
    """`recipe.views` compositions of every trained pair, each on a background of its own, a third of them on white."""
    rng = np.random.default_rng(recipe.seed)
    left_out = held_out_pairs()
    colours = [colour for colour in data.BACKGROUNDS if colour != "white"]
    latents, names, styles, backgrounds = [], [], [], []
    for style in data.TRAINED_STYLES:
        for icon in data.draw_icons(recipe.icons, style, data.trained_names()):
            if (icon.name, style) in left_out:
                continue
            whites = max(1, recipe.views // 3)
            chosen = ["white"] * whites + list(rng.permutation(colours)[: recipe.views - whites])
            pictures = np.stack([np.asarray(data.compose(icon, colour, size_px=recipe.size_px, rng=rng)) for colour in chosen])
            latents.append(vae.encode(to_tensor(pictures)).latent_dist.mean * vae.config.scaling_factor)
            names += [icon.name] * len(chosen)
            styles += [style] * len(chosen)
            backgrounds += chosen
    return Cache(torch.cat(latents).contiguous(), names, styles, backgrounds)


def chances_of(cache: Cache, recipe: Recipe) -> np.ndarray:
    """(N,) how likely each picture is drawn; they add up to one."""
    by_style = dict(zip(data.TRAINED_STYLES, recipe.style_weights, strict=True))
    favourites = data.favourite_names()
    pairs = zip(cache.names, cache.styles, strict=True)
    weights = np.array([by_style[style] * (recipe.favour if name in favourites else 1.0) for name, style in pairs])
    return weights / weights.sum()


class Captions:
    """Draws a caption for a cached picture: mostly whole, now and then without style or background, sometimes empty."""

    def __init__(self, tokenizer: CLIPTokenizer, dropout: float) -> None:
        self.tokenizer = tokenizer
        self.dropout = dropout
        self.memory: dict[str, Tensor] = {}

    def draw(self, cache: Cache, index: int, rng: np.random.Generator) -> Tensor:
        """(77,) token ids."""
        if rng.random() < self.dropout:
            return self.ids("")
        text = data.words(cache.names[index])
        if rng.random() < 0.9:
            text += f", {cache.styles[index]} style"
        if cache.backgrounds[index] != "white" or rng.random() < 0.3:
            text += f", {cache.backgrounds[index]} background"
        return self.ids(text)

    def ids(self, text: str) -> Tensor:
        """(77,) token ids, padded and cut as Stable Diffusion does."""
        if text not in self.memory:
            encoded = self.tokenizer(text, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
            self.memory[text] = encoded.input_ids[0]
        return self.memory[text]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 200 steps, constant, then linear to 2 % over the last 30 %. The length can change while it is constant."""
    warm = min(1.0, (step + 1) / 200)
    left = (steps - step) / (0.3 * steps)
    return peak * warm * min(1.0, max(0.02, left))


def denoising_loss(unet: nn.Module, scheduler: DDIMScheduler, latents: Tensor, hidden: Tensor, gamma: float) -> Tensor:
    """Epsilon loss at uniform timesteps, weighted by `noise_level_weight`."""
    noise = torch.randn_like(latents) + NOISE_OFFSET * torch.randn(*latents.shape[:2], 1, 1)
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
    predicted = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, hidden).sample
    alphas = scheduler.alphas_cumprod[timesteps]
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

    Picks up where an earlier call stopped; steps already done count. `warm_start`: a model this recipe made, whose weights it
    begins with (at step 0, with a fresh optimiser) where no earlier call left a state.
    """
    torch.manual_seed(recipe.seed)
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    tokenizer = _tokenizer(recipe, out, warm_start)
    unet = new_unet(recipe.size_px, 2 ** (len(vae.config.block_out_channels) - 1)).to(memory_format=torch.channels_last)
    text_encoder = new_text_encoder(tokenizer).train()
    modules = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    if warm_start:
        _begin_with(modules, warm_start)
    weights = list(modules.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.unet_lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    averages = [weight.detach().clone() for weight in weights]
    step = _resume(out / "unet.pt", modules, optimizer, averages)
    torch.manual_seed(recipe.seed + step)
    rng = np.random.default_rng([recipe.seed, step])
    scheduler, cache, captions = new_scheduler(), build_cache(recipe, vae), Captions(tokenizer, recipe.caption_dropout)
    chances = chances_of(cache, recipe)
    print(f"{len(cache.names)} pictures, {sum(w.numel() for w in weights) / 1e6:.1f}M weights, {len(tokenizer)} tokens", flush=True)
    running, started, first = 0.0, time.monotonic(), step
    while step < recipe.unet_steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe.unet_steps, recipe.unet_lr)
        chosen = rng.choice(len(cache.names), size=recipe.unet_batch, p=chances)
        ids = torch.stack([captions.draw(cache, index, rng) for index in chosen])
        latents = cache.latents[torch.from_numpy(chosen)].contiguous(memory_format=torch.channels_last)
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
            _write_model(out, recipe, averages=averages, tokenizer=tokenizer, vae=vae)


def _tokenizer(recipe: Recipe, out: Path, warm_start: Path | None) -> CLIPTokenizer:
    """Kept in `out`/tokenizer: learnt anew, a few rare words would fall apart otherwise than the text encoder has learned."""
    if not (out / "tokenizer").exists():
        fresh = CLIPTokenizer.from_pretrained(warm_start / "tokenizer") if warm_start else build_tokenizer(recipe.icons, recipe.vocabulary)
        fresh.save_pretrained(out / "tokenizer")
    return CLIPTokenizer.from_pretrained(out / "tokenizer")


def _begin_with(modules: nn.ModuleDict, model: Path) -> None:
    """Copy the denoiser and the text encoder of a shipped model, which must be of the same shape."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    modules["unet"].load_state_dict(unet.state_dict())
    modules["text_encoder"].load_state_dict(text_encoder.state_dict())


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
def _write_model(out: Path, recipe: Recipe, *, averages: list[Tensor], tokenizer: CLIPTokenizer, vae: AutoencoderKL) -> None:
    """The averaged weights as a diffusers pipeline, and a contact sheet drawn with them."""
    unet, text_encoder = new_unet(recipe.size_px, 2 ** (len(vae.config.block_out_channels) - 1)), new_text_encoder(tokenizer)
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
