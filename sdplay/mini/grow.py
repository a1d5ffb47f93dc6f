"""From 64 px to 128 px: an autoencoder with one more stage and four more latent channels, and a denoiser that goes on with what it knows.

Nothing that was learned at 64 px is thrown away. The new stages stand between the pictures and the old autoencoder, and begin by halving
and doubling; the first channels of the latents go on meaning what the small autoencoder meant, the new ones hold the details that only
a larger picture has. A denoiser whose new channels begin at zero draws on as before, and learns the details.
Growing pictures while training: Karras et al. 2018, arXiv 1710.10196.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from sdplay.mini import data
from sdplay.mini.machine import quicken_norms, this_machine
from sdplay.mini.recipe import Recipe
from sdplay.mini.vae import (
    KL_WEIGHT,
    WHOLE_PICTURES_FROM,
    Progress,
    descend,
    learning_rate,
    pictures_of_held_out_style,
    random_crop,
    random_pictures,
    reconstruction_loss,
)

LEASH = 2.0
"""How much the loss cares that the first channels stay what the small autoencoder makes of the halved picture."""
DETAIL_GAIN, DETAIL_LOG_VARIANCE = 8.0, -4.0
"""What the new channels begin with: about the size of the old ones, and little noise."""
Weights = dict[str, Tensor]


@torch.no_grad()
def grown_autoencoder(small: AutoencoderKL, channels: int) -> AutoencoderKL:
    """(B, 3, H, W) <-> (B, channels, H / 2f, W / 2f), from one with the factor f and fewer channels. Decodes as that one does, doubled."""
    widths = small.config.block_out_channels
    grown = AutoencoderKL(
        block_out_channels=(widths[0], *widths),
        down_block_types=("DownEncoderBlock2D",) * (len(widths) + 1),
        up_block_types=("UpDecoderBlock2D",) * (len(widths) + 1),
        layers_per_block=small.config.layers_per_block,
        norm_num_groups=small.config.norm_num_groups,
        latent_channels=channels,
        mid_block_add_attention=small.config.mid_block_add_attention,
        scaling_factor=small.config.scaling_factor,
        sample_size=2 * small.config.sample_size,
    )
    weights = grown.state_dict()
    for name, value in small.state_dict().items():
        target = weights[_one_stage_further(name)]
        if target.shape == value.shape:
            target.copy_(value)
    _widen(weights, small.state_dict(), known=small.config.latent_channels, channels=channels)
    _begin_by_halving(weights, last=len(widths))
    grown.load_state_dict(weights)
    return grown


def _one_stage_further(name: str) -> str:
    """The encoder's blocks move up by one, to make room for the new first one. The decoder's new block is its last."""
    head, separator, rest = name.partition("encoder.down_blocks.")
    if not separator:
        return name
    index, rest = rest.split(".", 1)
    return f"{head}{separator}{int(index) + 1}.{rest}"


def _widen(weights: Weights, small: Weights, *, known: int, channels: int) -> None:
    """The layers at the latents: old channels as they were, new ones passed through. Moments are means, then logarithms of variances."""
    new = torch.arange(known, channels)
    outwards, encoder_out = weights["quant_conv.weight"].zero_(), weights["encoder.conv_out.weight"]
    for part in (0, 1):
        rows, old = slice(part * channels, part * channels + known), slice(part * known, (part + 1) * known)
        encoder_out[rows] = small["encoder.conv_out.weight"][old]
        for name in ("encoder.conv_out.bias", "quant_conv.bias"):
            weights[name][part * channels : (part + 1) * channels] = 0
            weights[name][rows] = small[name][old]
        for other in (0, 1):
            columns = slice(other * channels, other * channels + known)
            outwards[rows, columns] = small["quant_conv.weight"][old, other * known : (other + 1) * known]
    outwards[new, new, 0, 0] = DETAIL_GAIN
    outwards[channels + new, channels + new, 0, 0] = 1
    weights["quant_conv.bias"][channels + new] = DETAIL_LOG_VARIANCE
    inwards = weights["post_quant_conv.weight"].zero_()
    inwards[:known, :known] = small["post_quant_conv.weight"]
    inwards[new, new, 0, 0] = 1
    weights["post_quant_conv.bias"].zero_()[:known] = small["post_quant_conv.bias"]
    decoder_in = weights["decoder.conv_in.weight"].mul_(0.1)
    decoder_in[:, :known] = small["decoder.conv_in.weight"]


def _begin_by_halving(weights: Weights, *, last: int) -> None:
    """The new stages: residual branches that are silent, a mean of four pixels, and a pixel given four times."""
    for block in ("encoder.down_blocks.0.", f"decoder.up_blocks.{last}."):
        for name in weights:
            if name.startswith(block) and ".conv2." in name:
                weights[name].zero_()
    halve, double = "encoder.down_blocks.0.downsamplers.0.conv", f"decoder.up_blocks.{last - 1}.upsamplers.0.conv"
    every = torch.arange(len(weights[f"{halve}.bias"]))
    weights[f"{halve}.weight"].zero_()[every, every, :2, :2] = 0.25
    weights[f"{double}.weight"].zero_()[every, every, 1, 1] = 1
    weights[f"{halve}.bias"].zero_()
    weights[f"{double}.bias"].zero_()


def grow_autoencoder(recipe: Recipe, small: AutoencoderKL, out: Path) -> None:
    """Train the grown autoencoder to `recipe.vae_steps`; write it to `out`/vae and its state to `out`/vae.pt.

    Picks up where an earlier call stopped. Crops first, whole pictures at the end, as at 64 px.
    """
    machine = this_machine()
    vae = grown_autoencoder(small, recipe.latent_channels).to(machine.device, memory_format=torch.channels_last)
    small.to(machine.device).eval()
    if machine.device.type == "cpu":
        quicken_norms(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.vae_lr, betas=(0.9, 0.99), weight_decay=0.0)
    unseen = pictures_of_held_out_style(recipe).to(machine.device)
    progress = Progress("vae", vae, optimizer, out / "vae.pt", unseen, recipe.vae_steps, every=100)
    step = progress.resume()
    icons = [icon for style in data.AUTOENCODER_STYLES for icon in _icons(recipe, style)]
    rng = np.random.default_rng([recipe.seed, step])
    while step < recipe.vae_steps:
        whole = step >= WHOLE_PICTURES_FROM * recipe.vae_steps
        pixels = random_pictures(icons, recipe.vae_batch // 2 if whole else recipe.vae_batch, recipe.size_px, rng).to(machine.device)
        with machine.autocast():
            loss = growing_loss(vae, small, pixels if whole else random_crop(pixels, recipe.size_px // 2, rng))
        descend(loss, optimizer, learning_rate(step, recipe.vae_steps, recipe.vae_lr))
        step += 1
        progress.tell(step, loss)
    surveyed = random_pictures(icons, recipe.surveyed, recipe.size_px, np.random.default_rng(recipe.seed))
    even_details(vae.cpu(), surveyed, small.config.latent_channels)
    vae.to(memory_format=torch.contiguous_format).save_pretrained(out / "vae")


def growing_loss(vae: AutoencoderKL, small: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Reconstruction, a trace of KL, and the first channels near to what the small autoencoder makes of the halved pictures."""
    posterior = vae.encode(pixels).latent_dist
    with torch.no_grad():
        known = small.encode(F.avg_pool2d(pixels, 2)).latent_dist.mean.float() * small.config.scaling_factor
    strayed = F.mse_loss(posterior.mean[:, : known.shape[1]].float() * small.config.scaling_factor, known)
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return reconstruction_loss(vae.decode(posterior.sample()).sample.float(), pixels) + KL_WEIGHT * kl + LEASH * strayed


@torch.no_grad()
def even_details(vae: AutoencoderKL, pixels: Tensor, known: int) -> None:
    """Give each new channel mean 0 and variance 1 after scaling, by the 1 x 1 convolutions around the latents; no picture changes."""
    latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in pixels.split(32)])[:, known:]
    mean, size = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)) * vae.config.scaling_factor
    channels = vae.config.latent_channels
    outwards, inwards = vae.quant_conv, vae.post_quant_conv
    inwards.bias += inwards.weight[:, known:, 0, 0] @ mean
    inwards.weight[:, known:] *= size[:, None, None]
    outwards.weight[known:channels] /= size[:, None, None, None]
    outwards.bias[known:channels] = (outwards.bias[known:channels] - mean) / size
    outwards.bias[channels + known :] -= 2 * size.log()


@torch.no_grad()
def widened_unet(small: UNet2DConditionModel, wide: UNet2DConditionModel) -> UNet2DConditionModel:
    """`wide`, of the same shape but for more latent channels, with the weights of `small`; of the new channels it says nothing yet."""
    weights = wide.state_dict()
    for name, value in small.state_dict().items():
        if name.startswith(("conv_in.weight", "conv_out.")):
            weights[name].zero_()
        weights[name][tuple(slice(length) for length in value.shape)] = value
    wide.load_state_dict(weights)
    return wide


def _icons(recipe: Recipe, style: str) -> list[data.Icon]:
    return data.draw_icons(recipe.icons, style, data.names_of(recipe.icons, style)[:: recipe.vae_thinning])
