"""Make the embedded base model from nothing: `python -m sdplay.mini`, or `--smoke` to see in a minute that the recipe runs."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from sdplay.mini import data, recipe
from sdplay.mini.ship import ship
from sdplay.mini.unet import train_denoiser
from sdplay.mini.vae import polish_decoder, train_autoencoder


def main() -> None:
    """Fetch the icon sets, train autoencoder and denoiser, write the model. An interrupted call goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="python -m sdplay.mini", description="Train sdplay's embedded base model.")
    parser.add_argument("--work", type=Path, default=Path(".mini"), help="folder for icons, states and previews (default: .mini)")
    parser.add_argument("--out", type=Path, help="where to write the finished model; presets/mini replaces the shipped one")
    parser.add_argument("--steps", type=int, default=recipe.UNET_STEPS, help="optimiser steps of the denoiser")
    parser.add_argument("--warm-start", type=Path, metavar="MODEL", help="begin with this model's weights (presets/mini, say)")
    parser.add_argument("--smoke", action="store_true", help="the whole recipe in about a minute; the model is of no use")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    plan = recipe.smoke(arguments.work) if arguments.smoke else recipe.Recipe(arguments.work, unet_steps=arguments.steps)
    data.fetch_icon_sets(plan.icons)
    if arguments.warm_start and not (arguments.work / "vae").exists():
        shutil.copytree(arguments.warm_start / "vae", arguments.work / "vae")
    if not (arguments.work / "vae").exists():
        train_autoencoder(plan, arguments.work)
    if (arguments.work / "vae.pt").exists():
        polish_decoder(plan, arguments.work)
    train_denoiser(plan, arguments.work, arguments.warm_start)
    if arguments.out:
        ship(arguments.work / "model", arguments.out)


if __name__ == "__main__":
    main()
