"""A small classifier that tells icon styles apart, trained on real icons: the judge of whether a style was learned.

At 64 px a style is mostly its palette and how it shades: flat areas of which colours, how soft the edges are. So it looks at
colour histograms of the whole drawing and of its flat parts, and at how steep its edges are, never at what is drawn. It learns
from icons as the base model shows them, through the autoencoder, so that softness gives nothing away.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sdplay.mini import data
from sdplay.mini import vae as autoencoder

STYLES = (*data.TRAINED_STYLES, data.HELD_OUT_STYLE)
DRAWN_PX, LOOKED_AT_PX = 128, 64
"""Side at which icons go through the autoencoder, as drawings do; and side at which the judge looks at both: no more is seen at 128."""
VIEWS = 1
HELD_OUT_SHARE = 0.15
STEPS, BATCH = 1200, 256
BINS = 8
EDGE_STEPS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 2.0)
"""Borders between classes of edges, by the largest difference of a colour channel to the next pixel."""
FLAT = 0.03
DIFFERS = 0.08
"""From which difference to the background a pixel belongs to the drawing."""
NUM_FEATURES = 2 * BINS**3 + len(EDGE_STEPS)
USUAL = 3.0
"""Features are cut at so many standard deviations: no single colour that real icons seldom have decides alone."""
STRONGEST, SPECKLE = 1.4, 0.04
"""Drawings are up to so much stronger in contrast than icons, and their flat areas flicker by so much: the judge learns not to mind."""
VERSION = "5"
"""Part of the name of the kept weights: count up when the training changes."""


@dataclass(frozen=True)
class Judge:
    """A trained classifier and how good it is on icons it never saw."""

    net: nn.Module
    accuracy: tuple[float, float]
    """Share of held-out icons it puts right: of the new style, and of the styles that the base knows."""

    @torch.no_grad()
    def in_style(self, pictures: list[Image.Image]) -> list[bool]:
        """Whether each picture is taken for one of the new style rather than of one the base knows."""
        return (self.net(features(to_tensor(pictures))).squeeze(1) > 0).tolist()


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """(B, 3, LOOKED_AT_PX, LOOKED_AT_PX) in [-1, 1]"""
    arrays = [np.asarray(picture.convert("RGB").resize((LOOKED_AT_PX, LOOKED_AT_PX), Image.Resampling.BOX)) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def features(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, NUM_FEATURES): square roots of shares of the drawing, its background left out."""
    colours = ((pixels + 1) / 2).clamp(0, 1)
    frame = torch.cat([part.flatten(2) for part in (colours[:, :, :3], colours[:, :, -3:], colours[..., :3], colours[..., -3:])], dim=2)
    drawing = ((colours - frame.median(dim=2).values[:, :, None, None]).abs().amax(dim=1) > DIFFERS).float()
    steps = torch.maximum(
        F.pad(colours.diff(dim=3).abs().amax(dim=1), (0, 1)),
        F.pad(colours.diff(dim=2).abs().amax(dim=1), (0, 0, 0, 1)),
    )
    edges = [((steps >= low) & (steps < high)).float() for low, high in itertools.pairwise(EDGE_STEPS)]
    area = drawing.flatten(1).sum(dim=1, keepdim=True)
    shares = torch.cat([(edge * drawing).flatten(1).sum(dim=1, keepdim=True) for edge in edges], dim=1) / (area + 1)
    flat = drawing * (steps < FLAT)
    size = area / drawing[0].numel()
    return torch.cat([_histogram(colours, drawing), _histogram(colours, flat), shares, size], dim=1).sqrt()


def trained_judge(icons: Path, vae: AutoencoderKL, folder: Path) -> Judge:
    """Train it in about a minute, or read it from `folder`, where it is kept."""
    facts = "\0".join([VERSION, *STYLES, str(sum(weight.double().abs().sum().item() for weight in vae.parameters()))])
    path = folder / f"judge-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.safetensors"
    torch.manual_seed(0)
    net = new_net()
    if path.exists():
        state = load_file(path)
        new, known = state.pop("accuracy").tolist()
        net.load_state_dict(state)
        return Judge(net.eval(), (new, known))
    values, labels, held_out = _material(icons, vae)
    _train(net, values[~held_out], labels[~held_out])
    truth = labels[held_out]
    with torch.no_grad():
        right = ((net(values[held_out]).squeeze(1) > 0) == truth.bool()).float()
    new, known = (float(right[truth == label].mean()) for label in (1, 0))
    save_file({**net.state_dict(), "accuracy": torch.tensor([new, known])}, path)
    return Judge(net, (new, known))


def new_net() -> nn.Module:
    """(B, NUM_FEATURES) -> (B, 1): above zero for the new style."""
    return nn.Sequential(
        nn.BatchNorm1d(NUM_FEATURES, affine=False),
        nn.Hardtanh(-USUAL, USUAL),
        nn.Dropout(0.3),
        nn.Linear(NUM_FEATURES, 256),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(256, 1),
    )


def _histogram(colours: Tensor, weights: Tensor) -> Tensor:
    """(B, BINS^3): shares of the weighted pixels in each cell of the colour cube, spread over the eight nearest cells."""
    place = colours * (BINS - 1)
    low = place.floor().clamp(max=BINS - 2)
    above = place - low
    counts = torch.zeros(len(colours), BINS**3)
    for corner in np.ndindex(2, 2, 2):
        share, cell = weights, torch.zeros_like(weights, dtype=torch.long)
        for channel, upper in enumerate(corner):
            share = share * (above[:, channel] if upper else 1 - above[:, channel])
            cell = cell * BINS + low[:, channel].long() + upper
        counts.scatter_add_(1, cell.flatten(1), share.flatten(1))
    return counts / (weights.flatten(1).sum(dim=1, keepdim=True) + 1)


def _train(net: nn.Module, values: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    random = torch.Generator().manual_seed(0)
    chances = torch.where(labels == 1, 1 / (labels == 1).sum(), 1 / (labels == 0).sum())
    net.train()
    for _ in range(STEPS):
        chosen = torch.multinomial(chances, BATCH, replacement=True, generator=random)
        F.binary_cross_entropy_with_logits(net(values[chosen]).squeeze(1), labels[chosen].float()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    net.eval()


@torch.no_grad()
def _material(icons: Path, vae: AutoencoderKL) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and whether they are held out. A name is held out in all styles at once."""
    rng = np.random.default_rng(7)
    pictures, labels, held_out = [], [], []
    for style in STYLES:
        for icon in data.draw_icons(icons, style, data.names_of(icons, style)):
            pictures += [data.compose(icon, "white", size_px=DRAWN_PX, rng=rng) for _ in range(VIEWS)]
            labels += [int(style == data.HELD_OUT_STYLE)] * VIEWS
            held_out += [is_held_out(icon.name)] * VIEWS
    pixels = autoencoder.to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    rebuilt = [
        F.avg_pool2d(vae.decode(vae.encode(chunk).latent_dist.mean).sample.clamp(-1, 1), DRAWN_PX // LOOKED_AT_PX)
        for chunk in pixels.split(32)
    ]
    random = torch.Generator().manual_seed(7)
    values = torch.cat([features(chunk) for chunk in rebuilt])
    like_drawings = torch.cat([features(as_drawn(chunk, random)) for chunk in rebuilt])
    taught = ~torch.tensor(held_out)
    return (
        torch.cat([values, like_drawings[taught]]),
        torch.cat([torch.tensor(labels), torch.tensor(labels)[taught]]),
        torch.cat([~taught, torch.zeros(int(taught.sum()), dtype=torch.bool)]),
    )


def as_drawn(pixels: Tensor, random: torch.Generator) -> Tensor:
    """(B, 3, H, W) in [-1, 1]: with more contrast and flickering areas, as a diffusion model draws with guidance."""
    count, _, height, width = pixels.shape
    contrast = 1 + (STRONGEST - 1) * torch.rand(count, 1, 1, 1, generator=random)
    flicker = F.interpolate(torch.randn(count, 3, height // 4, width // 4, generator=random), size=(height, width), mode="bilinear")
    return (pixels * contrast + SPECKLE * flicker).clamp(-1, 1)


def is_held_out(name: str) -> bool:
    """Whether the judge is tested on this name and not taught it, in any style."""
    return int(hashlib.sha256(name.replace("-", "").encode()).hexdigest(), 16) % 1000 < 1000 * HELD_OUT_SHARE
