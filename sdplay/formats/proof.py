"""Proof at writing: a file is believed when it has been loaded again and seen to work."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.families import Family, Parts
from sdplay.formats.adapter import AdapterFile, paths_text
from sdplay.formats.attach import attached
from sdplay.formats.files import read_adapter
from sdplay.resting import at_hand

LATENT_SIDE = 16
"""Side of the noise that is looked at; the smallest that every U-Net and transformer takes."""


def prove(path: Path, parts: Parts, family: Family) -> AdapterFile:
    """Load a written file again: every tensor has a place, the denoiser answers differently, and at strength 0 as the base does.

    Costs three passes through the denoiser on (1, C, 16, 16) noise. Returns what was read. Raises AdapterError with the
    layers that do nothing.
    """
    adapter = read_adapter(path)  # raises for tensors that it cannot place
    base = answer(parts, family, adapter, 0.0)
    changed = answer(parts, family, adapter, 1.0)
    if not torch.isfinite(changed).all():
        raise AdapterError(f"{path.name} was written, but with it the base model answers with numbers that are not finite.", "Train again.")
    if torch.equal(base, changed):
        raise AdapterError(f"{path.name} was written, but it changes nothing{_idle_text(adapter)}.", "Train longer or at a higher rate.")
    if not torch.equal(base, answer(parts, family, adapter, 0.0)):
        raise AdapterError(f"{path.name} was written, but the base model is not what it was after using it.", "Load the base model again.")
    return adapter


@torch.no_grad()
def answer(parts: Parts, family: Family, adapter: AdapterFile, strength: float) -> Tensor:
    """What the denoiser says, with the adapter at a strength, to fixed noise and a prompt that has the adapter's words."""
    side = min(LATENT_SIDE, parts.size // parts.latent_factor)
    noise = torch.randn((1, parts.latent_channels, side, side), generator=torch.Generator().manual_seed(0)).to(parts.device)
    objective = family.objective(parts)
    t = torch.full((1,), objective.num_timesteps // 2, device=parts.device)
    px = float(side * parts.latent_factor)
    geometry = torch.tensor([[px, px, 0.0, 0.0, px, px]], device=parts.device)
    with at_hand(parts), attached(parts, [(adapter, strength)]):
        conditioning = family.encode_prompts(parts, [f"a picture of {adapter.trigger}"])
        return family.predict(parts, noise, t, conditioning, geometry).float().cpu()


def idle_layers(adapter: AdapterFile) -> list[str]:
    """Layers that add nothing: one of their factors is zero."""
    return [path for path, layer in adapter.layers.items() if any(not t.any() for n, t in layer.tensors.items() if n != "diff_b")]


def _idle_text(adapter: AdapterFile) -> str:
    idle = idle_layers(adapter)
    return f": these layers are zero: {paths_text(idle)}" if idle else ""
