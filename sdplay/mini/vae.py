"""Train the embedded base model's autoencoder: AutoencoderKL, factor 4, four latent channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from sdplay.mini import data
from sdplay.mini.machine import quicken_norms, this_machine
from sdplay.mini.recipe import Recipe

KL_WEIGHT = 1e-5
GRADIENT_WEIGHT = 0.5
"""How much the loss cares for edges beside flat colour: icons are mostly edges."""


WHOLE_PICTURES_FROM = 0.75
"""Share of the training after which it sees whole pictures; before that, crops of half the side, four times as fast."""


def new_autoencoder() -> AutoencoderKL:
    """(B, 3, H, W) in [-1, 1] <-> (B, 4, H/4, W/4)."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=4,
        mid_block_add_attention=False,
    )


def reconstruction_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Mean absolute error of the pixels and of their horizontal and vertical differences."""
    loss = F.l1_loss(decoded, pixels)
    for dim in (2, 3):
        loss = loss + GRADIENT_WEIGHT * F.l1_loss(decoded.diff(dim=dim), pixels.diff(dim=dim))
    return loss


def psnr(decoded: Tensor, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1], the mean over the batch's squared error."""
    return float(10 * torch.log10(4 / F.mse_loss(decoded.clamp(-1, 1), pixels)))


def train_autoencoder(recipe: Recipe, out: Path) -> None:
    """Train to `recipe.vae_steps`; write the model to `out`/vae and its state to `out`/vae.pt.

    Prints the reconstruction of the held-out style as it goes. Picks up where an earlier call stopped.
    """
    device = this_machine().device
    vae = new_autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.vae_lr, betas=(0.9, 0.99), weight_decay=0.0)
    unseen = pictures_of_held_out_style(recipe).to(device)
    progress = Progress("vae", vae, optimizer, out / "vae.pt", unseen, recipe.vae_steps, every=200)
    step = progress.resume()
    names = {style: data.names_of(recipe.icons, style)[:: recipe.vae_thinning] for style in data.AUTOENCODER_STYLES}
    icons = [icon for style, chosen in names.items() for icon in data.draw_icons(recipe.icons, style, chosen)]
    rng = np.random.default_rng(recipe.seed + step)
    while step < recipe.vae_steps:
        pixels = random_pictures(icons, recipe.vae_batch, recipe.size_px, rng).to(device)
        if step < WHOLE_PICTURES_FROM * recipe.vae_steps:
            pixels = random_crop(pixels, recipe.size_px // 2, rng)
        loss = autoencoder_loss(vae, pixels)
        descend(loss, optimizer, learning_rate(step, recipe.vae_steps, recipe.vae_lr))
        step += 1
        progress.tell(step, loss)
    save_autoencoder(vae.cpu(), icons, recipe, out)


def polish_decoder(recipe: Recipe, out: Path) -> None:
    """Train the decoder of `out`/vae on for `recipe.polish_steps`, its encoder left as it is, and write it back.

    Latents mean what they meant, so a denoiser that was trained on them stays right and only its pictures gain. Whole pictures of
    all icons, the posterior's mean; with `recipe.polish_noise`, each picture's latents stray by up to so much, as drawn ones do, and
    the decoder learns to keep flat colours flat. State in `out`/decoder.pt: picks up where an earlier call stopped.
    """
    machine = this_machine()
    device = machine.device
    vae = AutoencoderKL.from_pretrained(out / "vae", dtype=torch.float32).to(device, memory_format=torch.channels_last)
    vae.requires_grad_(False)
    if device.type == "cpu":
        quicken_norms(vae)
    trained = [*vae.decoder.requires_grad_(True).parameters(), *vae.post_quant_conv.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(trained, lr=recipe.polish_lr, betas=(0.9, 0.99), weight_decay=0.0)
    unseen = pictures_of_held_out_style(recipe).to(device)
    progress = Progress("decoder", vae, optimizer, out / "decoder.pt", unseen, recipe.polish_steps, every=100)
    step = progress.resume()
    if step >= recipe.polish_steps:
        return
    icons = [
        icon for style in data.AUTOENCODER_STYLES for icon in data.draw_icons(recipe.icons, style, data.names_of(recipe.icons, style))
    ][:: recipe.polish_thinning]
    rng = np.random.default_rng(recipe.seed + 1 + step)
    while step < recipe.polish_steps:
        pixels = random_pictures(icons, recipe.polish_batch, recipe.size_px, rng).to(device)
        with machine.autocast():
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mean.float()
                amounts = recipe.polish_noise * torch.rand(len(latents), 1, 1, 1, device=device) / vae.config.scaling_factor
                latents = latents + amounts * torch.randn_like(latents)
            loss = reconstruction_loss(vae.decode(latents).sample.float(), pixels)
        descend(loss, optimizer, learning_rate(step, recipe.polish_steps, recipe.polish_lr))
        step += 1
        progress.tell(step, loss)
    vae.to("cpu", memory_format=torch.contiguous_format).save_pretrained(out / "vae")


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step at this learning rate, the gradients' norm at most 1."""
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def autoencoder_loss(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Reconstruction from a sampled latent, and a trace of KL to keep the latents near unit size."""
    posterior = vae.encode(pixels).latent_dist
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return reconstruction_loss(vae.decode(posterior.sample()).sample, pixels) + KL_WEIGHT * kl


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 100 steps, then half a cosine down to 2 %."""
    return peak * min(1.0, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / steps)))


@dataclass(frozen=True)
class Progress:
    """How far an autoencoder's training is: told now and then, and kept, so that another call goes on where this one stops."""

    name: str
    vae: AutoencoderKL
    optimizer: torch.optim.Optimizer
    path: Path
    """The file it is kept in."""
    unseen: Tensor
    """(B, 3, H, W) pictures that nothing is trained on, to tell the quality by."""
    steps: int
    every: int

    def resume(self) -> int:
        """Load what an earlier call kept. Returns the steps it had done, 0 if there is nothing."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        self.vae.load_state_dict(state["vae"])
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])

    def tell(self, step: int, loss: Tensor) -> None:
        """Print loss and quality and keep the state, at every so many steps and at the last."""
        if step % self.every and step != self.steps:
            return
        figure = held_out_psnr(self.vae, self.unseen)
        print(f"{self.name} step {step}/{self.steps} loss {loss.item():.4f} held-out PSNR {figure:.2f} dB", flush=True)
        torch.save({"vae": self.vae.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step}, self.path)


@torch.no_grad()
def save_autoencoder(vae: AutoencoderKL, icons: list[data.Icon], recipe: Recipe, out: Path) -> None:
    """Set the scaling factor so that latents have unit variance (as SD's does) and write diffusers' layout."""
    pixels = random_pictures(icons, recipe.surveyed, recipe.size_px, np.random.default_rng(recipe.seed))
    latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in pixels.split(32)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()), sample_size=recipe.size_px)
    vae.to(memory_format=torch.contiguous_format).save_pretrained(out / "vae")


def random_pictures(icons: list[data.Icon], count: int, size_px: int, rng: np.random.Generator) -> Tensor:
    """(count, 3, H, W) in [-1, 1], channels last."""
    colours = list(data.BACKGROUNDS)
    pictures = [
        data.compose(icons[rng.integers(len(icons))], colours[rng.integers(len(colours))], size_px=size_px, rng=rng) for _ in range(count)
    ]
    return to_tensor(np.stack([np.asarray(picture) for picture in pictures]))


def random_crop(pixels: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """(B, 3, H, W) -> (B, 3, side, side), the same place for the whole batch."""
    y, x = (int(rng.integers(0, length - side + 1)) for length in pixels.shape[2:])
    return pixels[:, :, y : y + side, x : x + side].contiguous(memory_format=torch.channels_last)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def pictures_of_held_out_style(recipe: Recipe) -> Tensor:
    """(recipe.unseen, 3, H, W): a fixed choice from the style that nothing is trained on."""
    names = data.names_of(recipe.icons, data.HELD_OUT_STYLE)
    icons = data.draw_icons(recipe.icons, data.HELD_OUT_STYLE, names[:: len(names) // recipe.unseen])
    return random_pictures(icons, recipe.unseen, recipe.size_px, np.random.default_rng(1))


@torch.no_grad()
def held_out_psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """PSNR of encode-decode at the posterior's mean."""
    return psnr(vae.decode(vae.encode(pixels).latent_dist.mean).sample, pixels)
