"""Models that look at sample pictures for judging.py: the base itself, or CLIP and DINO where they are on this computer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sdplay.attach import base_alone
from sdplay.device import Device, autocast
from sdplay.diffusion.objective import AnyObjective
from sdplay.errors import ModelError
from sdplay.families import Conditioning, Family, Parts, batch
from sdplay.resting import at_hand
from sdplay.sample import BATCH, BATCH_PX
from sdplay.seen import Seen

CLIP, DINO = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "facebook/dinov2-small"
"""About 0.6 and 0.1 GB, both with .safetensors files."""
FEATURES_AT, TEXTS_AT = 0.2, 0.6
"""Shares of the noise schedule: with little noise the features are of the picture (Tang et al. 2023, arXiv 2306.03881),
with more the text decides what the denoiser says (Li et al. 2023, arXiv 2303.16203)."""
OTHERS = (1, 3)
"""Which other prompts a picture is compared with: the next, and the third after it, in a ring."""
NOISE_SEED = 7
LOOK = "look"
"""The view of colours and edges; the others are features of a network."""
BINS = 8
EDGE_STEPS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 2.0)
"""Borders between classes of edges, by the largest difference of a colour channel to the next pixel."""
FLAT, DIFFERS = 0.03, 0.08
"""Below which difference to the next pixel an area is flat; above which one to the background a pixel belongs to the drawing."""


@dataclass
class BaseEye:
    """The base with nothing attached: its features, its errors with one text or another; and colours and edges."""

    parts: Parts
    family: Family
    objective: AnyObjective
    name = "base"
    _texts: dict[str, Conditioning] = field(default_factory=dict)

    def see(self, pixels: Tensor, texts: Sequence[str] = ()) -> Seen:
        """Colours and edges, the denoiser's features without a text, latents, and what its errors say about the texts."""
        with at_hand(self.parts):
            return self._see(pixels, texts)

    def _see(self, pixels: Tensor, texts: Sequence[str]) -> Seen:
        x0 = self.family.encode_images(self.parts, pixels)[0]
        views = {LOOK: F.normalize(look(pixels), dim=1), "features": self._features(x0)}
        return Seen(views, x0.flatten(1), self._fits(x0, texts) if texts else torch.zeros(0))

    def _fits(self, x0: Tensor, texts: Sequence[str]) -> Tensor:
        """log(error with another text / error with the own one), averaged over other texts: the diffusion classifier's odds."""
        own = self._errors(x0, texts)
        rings = [self._turned(texts, turn) for turn in OTHERS] if len(set(texts)) > 1 else [[""] * len(texts)]
        return torch.stack([(self._errors(x0, others) / own).log() for others in rings]).mean(dim=0)

    @staticmethod
    def _turned(texts: Sequence[str], turn: int) -> list[str]:
        return [texts[(index + turn) % len(texts)] for index in range(len(texts))]

    def _errors(self, latents: Tensor, texts: Sequence[str]) -> Tensor:
        """(N,) mean squared error of the denoiser, with the same noise for all pictures."""
        found = []
        with self._alone():
            for start, chunk in self._chunks(latents):
                x0, eps, t = self._noised(chunk, TEXTS_AT)
                predicted = self._predict(x0, eps, t, texts[start : start + len(chunk)])
                found.append((predicted - self.objective.target(x0, eps, t)).square().mean(dim=(1, 2, 3)).float().cpu())
        return torch.cat(found).clamp(min=1e-8)

    def _features(self, latents: Tensor) -> Tensor:
        seen: list[Tensor] = []
        block = _block_of(self.parts.denoiser)
        hook = block.register_forward_hook(lambda module, given, output: seen.append(_pooled(output)))
        try:
            with self._alone():
                for _, chunk in self._chunks(latents):
                    self._predict(*self._noised(chunk, FEATURES_AT), [""] * len(chunk))
        finally:
            hook.remove()
        return F.normalize(torch.cat(seen), dim=1)

    def _chunks(self, latents: Tensor) -> Iterator[tuple[int, Tensor]]:
        """As many pictures at once as are drawn at once."""
        pixels = latents.shape[2] * latents.shape[3] * self.parts.latent_factor**2
        at_once = max(1, min(BATCH, BATCH_PX // pixels))
        for start in range(0, len(latents), at_once):
            yield start, latents[start : start + at_once]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with torch.no_grad(), base_alone(self.parts):
            yield

    def _noised(self, x0: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """Clean latents, the noise, and its timesteps, on the device."""
        device = self.parts.device
        eps = torch.randn(x0[:1].shape, generator=torch.Generator().manual_seed(NOISE_SEED)).expand_as(x0)
        t = self.objective.timesteps_at(torch.full((len(x0),), share))
        return x0.to(device), eps.to(device), t.to(device)

    def _predict(self, x0: Tensor, eps: Tensor, t: Tensor, texts: Sequence[str]) -> Tensor:
        for text in dict.fromkeys(texts):
            if text not in self._texts:
                self._texts[text] = self.family.encode_prompts(self.parts, [text])
        side = x0.shape[2] * self.parts.latent_factor, x0.shape[3] * self.parts.latent_factor
        geometry = torch.tensor([[*side, 0, 0, *side]], dtype=torch.float32, device=x0.device).expand(len(x0), 6)
        x_t = self.objective.add_noise(x0, eps, t).contiguous(memory_format=torch.channels_last)
        with autocast(self.parts.device):
            return self.family.predict(self.parts, x_t, t, batch([self._texts[text] for text in texts]), geometry)


@dataclass
class ClipAndDino:
    """CLIP for prompts, DINO for likeness, as the papers on personalisation measure it (Ruiz et al. 2022, arXiv 2208.12242)."""

    clip: Any
    tokenizer: Any
    dino: Any
    device: torch.device
    name = "CLIP and DINO"

    def see(self, pixels: Tensor, texts: Sequence[str] = ()) -> Seen:
        """Colours and edges, DINO's class token, and what CLIP says about the texts."""
        shown = _prepared(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).to(self.device)
        with torch.no_grad():
            dino = F.normalize(self.dino(pixel_values=shown).last_hidden_state[:, 0].float().cpu(), dim=1)
        views = {LOOK: F.normalize(look(pixels), dim=1), "dino": dino}
        return Seen(views, dino, self._fits(pixels, texts) if texts else torch.zeros(0))

    def _fits(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """CLIP's similarity to the own text above that to the others, times 10: about 1 for a picture that is clearly of its text."""
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        with torch.no_grad():
            answer = self.clip(pixel_values=_prepared(pixels, mean, std).to(self.device), **tokens)
        similar = F.normalize(answer.image_embeds, dim=1) @ F.normalize(answer.text_embeds, dim=1).T
        own, count = similar.diagonal(), len(texts)
        others = (similar.sum(dim=1) - own) / (count - 1) if count > 1 else torch.zeros_like(own)
        return (10 * (own - others)).float().cpu()


def clip_and_dino(device: Device, *, download: bool, sources: tuple[str, str] = (CLIP, DINO)) -> ClipAndDino | None:
    """Load them when they are on this computer, or may be downloaded; None when they are not here.

    sources: Hub ids or folders.  Raises ModelError when a wanted download or a file fails.
    """
    from transformers import AutoModel, AutoTokenizer, CLIPModel

    options: dict[str, Any] = {"local_files_only": not download, "use_safetensors": True}
    try:
        clip = CLIPModel.from_pretrained(sources[0], **options)
        tokenizer = AutoTokenizer.from_pretrained(sources[0], local_files_only=not download)
        dino = AutoModel.from_pretrained(sources[1], **options)
    except (OSError, ValueError, RuntimeError) as error:
        if not download:
            return None
        raise ModelError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}", "Check the connection.") from error
    place = device.torch_device
    return ClipAndDino(clip.eval().to(place), tokenizer, dino.eval().to(place), place)


def look(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 2 BINS^3 + 10): colours of the drawing and of its flat parts, how steep its edges are.

    Square roots of shares, so that a dot product is Bhattacharyya's coefficient. Never what is drawn; a plain background is
    left out.
    """
    colours = ((pixels + 1) / 2).clamp(0, 1)
    border = max(1, pixels.shape[-1] // 20)
    sides = (colours[:, :, :border], colours[:, :, -border:], colours[..., :border], colours[..., -border:])
    frame = torch.cat([side.flatten(2) for side in sides], dim=2).median(dim=2).values
    drawing = ((colours - frame[:, :, None, None]).abs().amax(dim=1) > DIFFERS).float()
    right, below = colours.diff(dim=3).abs().amax(dim=1), colours.diff(dim=2).abs().amax(dim=1)
    steps = torch.maximum(F.pad(right, (0, 1)), F.pad(below, (0, 0, 0, 1)))
    area = drawing.flatten(1).sum(dim=1, keepdim=True)
    edges = [((steps >= low) & (steps < high)).float() for low, high in itertools.pairwise(EDGE_STEPS)]
    shares = torch.cat([(edge * drawing).flatten(1).sum(dim=1, keepdim=True) for edge in edges], dim=1) / (area + 1)
    flat = drawing * (steps < FLAT)
    return torch.cat([_histogram(colours, drawing), _histogram(colours, flat), shares, area / drawing[0].numel()], dim=1).sqrt()


def _histogram(colours: Tensor, weights: Tensor) -> Tensor:
    """(B, BINS^3): shares of the weighted pixels in each cell of the colour cube, spread over the eight nearest cells."""
    place = colours * (BINS - 1)
    low = place.floor().clamp(max=BINS - 2)
    above = place - low
    counts = torch.zeros(len(colours), BINS**3)
    for corner in itertools.product((0, 1), repeat=3):
        share, cell = weights, torch.zeros_like(weights, dtype=torch.long)
        for channel, upper in enumerate(corner):
            share = share * (above[:, channel] if upper else 1 - above[:, channel])
            cell = cell * BINS + low[:, channel].long() + upper
        counts.scatter_add_(1, cell.flatten(1), share.flatten(1))
    return counts / (weights.flatten(1).sum(dim=1, keepdim=True) + 1)


def _block_of(denoiser: Any) -> Any:  # noqa: ANN401  a U-Net or a transformer
    """Where the denoiser knows most about what is in a picture: a U-Net's first upward block, a transformer's middle."""
    blocks = getattr(denoiser, "up_blocks", None)
    return blocks[0] if blocks else denoiser.transformer_blocks[len(denoiser.transformer_blocks) // 2]


def _pooled(output: Any) -> Tensor:  # noqa: ANN401  a tensor, or several of which the last is of the picture
    """(B, 2 C): mean and deviation of each channel over the places of a picture."""
    hidden = (output[-1] if isinstance(output, tuple) else output).float()
    places = hidden.flatten(2) if hidden.dim() == 4 else hidden.transpose(1, 2)
    return torch.cat([places.mean(dim=2), places.std(dim=2)], dim=1).cpu()


def _prepared(pixels: Tensor, mean: Sequence[float], std: Sequence[float], side: int = 224) -> Tensor:
    """(N, 3, side, side) as image encoders take it."""
    shown = F.interpolate((pixels + 1) / 2, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return (shown - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
