"""Prompts -> pictures, from a base model with or without an adapter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from sdplay import png_settings
from sdplay.attach import base_alone
from sdplay.config import GenerateConfig
from sdplay.families import AfterStep, Conditioning, DrawRequest, Family, Parts, Reading, Start, batch, checked_size
from sdplay.formats import AdapterFile, attached
from sdplay.guidance import twin
from sdplay.pipelines import affordable_pixels
from sdplay.prompting import fits, is_plain
from sdplay.remembered_texts import read_texts
from sdplay.resting import looking, reading
from sdplay.start import StartPicture, size_like
from sdplay.templates import split_negative
from sdplay.workspace import write_atomically

BATCH, GPU_BATCH = 8, 32
"""Pictures drawn at once; more does not pay, on small machines and on GPUs."""
BATCH_PX = BATCH * 512 * 512
"""Pixels drawn at once where nobody knows the free memory: 8 pictures of 512 px, 2 of 1024 px."""
LATENT_GRID = 8
"""Sides in px that diffusers' inpainting pipelines take are whole multiples of it."""


@dataclass(frozen=True)
class Shot:
    """One picture to draw."""

    prompt: str
    """May end in ` --n ` and a negative of its own, which replaces the drawing's."""
    seed: int

    def texts(self, negative: str) -> tuple[str, str]:
        """(prompt, negative), where `negative` is the drawing's."""
        prompt, own = split_negative(self.prompt)
        return prompt, own or negative


@dataclass(frozen=True)
class Texts:
    """A prompt and the negative prompt as the denoiser is told them, of one length."""

    conditioning: Conditioning
    negative: Conditioning


def never() -> bool:
    """For drawings that nobody can cancel."""
    return False


@dataclass(frozen=True)
class Onlooker:
    """Somebody who waits for the pictures."""

    cancelled: Callable[[], bool] = never
    """Asked between two denoising steps; True ends the drawing with Cancelled."""
    after_step: AfterStep | None = None
    """Told of the pictures that come next."""


@contextmanager
def using(parts: Parts, adapters: Sequence[tuple[AdapterFile, float]], drawings: Iterable[GenerateConfig] = ()) -> Iterator[None]:
    """The base alone (no adapters), or with several, each at its strength. All else on it, such as what trains, is off meanwhile.

    drawings: what is drawn inside. Only where one of them guides away from the base, and adapters change it, is it kept beside.
    """
    changed = any(strength for _, strength in adapters)
    with base_alone(parts):
        if changed and any(drawing.guidance_from == "base" for drawing in drawings):
            parts.base_denoiser = twin(parts.denoiser)
        try:
            with attached(parts, adapters):
                yield
        finally:
            parts.base_denoiser = None


def draw(
    parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig, *, onlooker: Onlooker = Onlooker(),
    start: StartPicture | None = None,
) -> Iterator[Image.Image]:  # fmt: skip
    """One picture per shot, in order, with whatever is on the base. Raises Cancelled between denoising steps, ConfigError.

    start: what every picture begins with, fitted to the size; outside its mask it comes back to the pixel.
    """
    width, height = drawn_size(parts, config, start)
    fitted = start.fitted(width, height) if start else None
    if fitted and not fitted.done_steps(config.steps):
        yield from (fitted.picture.copy() for _ in shots)
        return
    yield from _drawn(parts, family, shots, config, onlooker=onlooker, start=fitted)


def _drawn(
    parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig, *, onlooker: Onlooker, start: StartPicture | None
) -> Iterator[Image.Image]:  # fmt: skip
    width, height = start.picture.size if start else drawn_size(parts, config, None)
    with torch.no_grad():
        with reading(parts):
            texts = texts_of(parts, family, shots, config)
        with looking(parts):
            seen = encode_start(parts, family, start) if start else None
    for chunk in _chunks(shots, texts, most_at_once(parts, width * height)):
        request = DrawRequest(
            conditioning=batch([texts[shot.prompt].conditioning for shot in chunk]),
            negative=batch([texts[shot.prompt].negative for shot in chunk]),
            seeds=tuple(shot.seed for shot in chunk),
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            width=width,
            height=height,
            cancelled=onlooker.cancelled,
            scheduler=config.scheduler,
            guidance_rescale=config.guidance_rescale,
            guided_from=parts.base_denoiser if config.guidance_from == "base" else None,
            guidance_stop=config.guidance_stop,
            start=seen,
            after_step=onlooker.after_step,
        )
        with looking(parts):
            drawn = family.draw(parts, request)
        pictures = map(to_picture, drawn)
        yield from map(start.kept, pictures) if start else pictures


def _chunks(shots: Sequence[Shot], texts: Mapping[str, Texts], most: int) -> Iterator[Sequence[Shot]]:
    """What is drawn together, in order: at most `most`, and all their texts of one length."""
    for _, same in itertools.groupby(shots, lambda shot: texts[shot.prompt].conditioning.hidden.shape[1]):
        alike = list(same)
        at_once = even_batch(len(alike), most)
        for first in range(0, len(alike), at_once):
            yield alike[first : first + at_once]


def texts_of(parts: Parts, family: Family, shots: Sequence[Shot], config: GenerateConfig) -> dict[str, Texts]:
    """What the denoiser is told for each prompt; prompt and negative prompt of one length, the shorter filled up with empty texts.

    Texts without weights that fit the encoders' context are read together, exactly as training reads them. Raises ConfigError.
    """
    pairs = {shot.prompt: shot.texts(config.negative_prompt) for shot in shots}
    texts = list(dict.fromkeys([config.negative_prompt, *(text for pair in pairs.values() for text in pair)]))
    how = Reading(config.clip_skip)
    read = read_texts(parts, family, [text for text in texts if is_plain(text) and fits(parts, text)], how=how)
    for text in texts:
        if text not in read:
            read |= read_texts(parts, family, [text], how=replace(how, whole=True))
    lengths = {conditioning.hidden.shape[1] for conditioning in read.values()}
    empty = read_texts(parts, family, [""], how=how)[""] if len(lengths) > 1 else read[texts[0]]
    context = parts.tokenizers["text_encoder"].model_max_length
    return {
        asked: Texts(_as_long_as(read[text], read[own], empty, context), _as_long_as(read[own], read[text], empty, context))
        for asked, (text, own) in pairs.items()
    }


def _as_long_as(short: Conditioning, long: Conditioning, empty: Conditioning, context: int) -> Conditioning:
    """`short` with empty texts behind it until it is as long as `long`; as it is when it is no shorter."""
    missing = (long.hidden.shape[1] - short.hidden.shape[1]) // context
    filling = [empty.hidden[:, :context]] * missing
    return replace(short, hidden=torch.cat([short.hidden, *filling], dim=1)) if filling else short


def drawn_size(parts: Parts, config: GenerateConfig, start: StartPicture | None) -> tuple[int, int]:
    """Width and height in px. Where no size is asked for: the base's own square, or a start picture's shape at that area."""
    if start and config.size is None and config.height is None:
        return size_like(start.picture, side=parts.size, multiple=math.lcm(parts.size_multiple, LATENT_GRID))
    width = checked_size(parts, config.size)
    return width, checked_size(parts, config.height or width)


def encode_start(parts: Parts, family: Family, start: StartPicture) -> Start:
    """A start picture of a size the base takes, as the denoiser sees it. A latent is drawn anew if any pixel of it is."""
    pixels = _pixels(start.picture)
    shape = (1, 1, *pixels.shape[2:])
    painted = _pixels(start.mask)[:, :1].add(1).div(2).round() if start.mask else torch.ones(shape)
    factor = parts.latent_factor
    hidden = functional.interpolate(functional.max_pool2d(painted, factor), size=shape[2:])
    latents, _ = family.encode_images(parts, pixels)
    seen, _ = family.encode_images(parts, pixels * (1 - hidden))
    return Start(latents.to(parts.device), hidden.to(parts.device), seen.to(parts.device), start.strength)


def _pixels(picture: Image.Image) -> Tensor:
    """RGB or L -> (1, 3, H, W) in [-1, 1]."""
    array = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1)[None]


def most_at_once(parts: Parts, pixels: int) -> int:
    """How many pictures of so many pixels may be drawn at once: by the free memory of a GPU, else by what was found to pay."""
    affordable = affordable_pixels(parts)
    if affordable is None:
        return max(1, min(BATCH, BATCH_PX // pixels))
    return max(1, min(GPU_BATCH, affordable // pixels))


def even_batch(count: int, most: int) -> int:
    """How many of `count` at once, at most `most`, so that no batch is nearly empty: 9 by at most 8 are 5 and 4."""
    return math.ceil(count / math.ceil(count / most)) if count else most


def to_picture(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy().astype(np.uint8))


def write_png(path: Path, picture: Image.Image, settings: Mapping[str, object]) -> None:
    """Write a PNG that knows how it was made."""
    write_atomically(path, png_settings.write(picture, settings))
