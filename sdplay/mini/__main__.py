"""Make the embedded base model from nothing: `python -m sdplay.mini`, or `--smoke` to see in a minute that the recipe runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from sdplay.mini import data, recipe
from sdplay.mini.grow import grow_autoencoder
from sdplay.mini.recipe import Recipe
from sdplay.mini.ship import ship
from sdplay.mini.unet import train_denoiser
from sdplay.mini.vae import polish_decoder, train_autoencoder


def main() -> None:
    """Fetch the icon sets, train the small model, grow it, write it. An interrupted call goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="python -m sdplay.mini", description="Train sdplay's embedded base model.")
    parser.add_argument("--work", type=Path, default=Path(".mini"), help="folder for icons, states and previews (default: .mini)")
    parser.add_argument("--out", type=Path, help="where to write the finished model; presets/mini replaces the shipped one")
    parser.add_argument("--steps", type=int, default=recipe.UNET_STEPS, help="optimiser steps of the denoiser at its full size")
    parser.add_argument(
        "--warm-start",
        type=Path,
        metavar="MODEL",
        help="begin with this model's weights: presets/mini, say, or a small one, which then grows",
    )
    parser.add_argument("--smoke", action="store_true", help="the whole recipe in about a minute; the model is of no use")
    arguments = parser.parse_args()
    if arguments.warm_start and not is_model(arguments.warm_start):
        parser.error(f"--warm-start: {arguments.warm_start} has no vae and unet folders. Name a model's folder, such as presets/mini.")
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    work = arguments.work
    stages = recipe.smoke(work) if arguments.smoke else recipe.stages(work, arguments.steps)
    data.fetch_icon_sets(work)
    model = train_grown(stages.grown, work / "grown", arguments.warm_start or train_small(stages.small, work / "small"))
    if arguments.out:
        ship(model, arguments.out)


def is_model(folder: Path) -> bool:
    """Whether a folder is a model in diffusers' layout, as far as this recipe reads it."""
    return all((folder / part / "config.json").is_file() for part in ("vae", "unet"))


def train_small(plan: Recipe, out: Path) -> Path:
    """From nothing; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "vae").exists():
        train_autoencoder(plan, out)
    polish_decoder(plan, out)
    train_denoiser(plan, out)
    return out / "model"


def train_grown(plan: Recipe, out: Path, known: Path) -> Path:
    """From `known`, a small model or a grown one; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    autoencoder = AutoencoderKL.from_pretrained(known / "vae", dtype=torch.float32)
    there = (out / "vae").exists()
    if autoencoder.config.latent_channels != plan.latent_channels:
        if not there:
            grow_autoencoder(plan, autoencoder, out)
        polish_decoder(plan, out)
    elif not there:
        shutil.copytree(known / "vae", out / "vae")
    train_denoiser(plan, out, known)
    return out / "model"


if __name__ == "__main__":
    main()
