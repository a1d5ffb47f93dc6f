"""What the embedded base model's denoiser learns from: cached latents of icons on coloured backgrounds, and their captions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from sdplay.mini import data
from sdplay.mini.looks import looks
from sdplay.mini.recipe import Recipe
from sdplay.mini.text import MAX_TOKENS
from sdplay.mini.vae import to_tensor

HELD_OUT_SHARE = 0.05
"""Share of the (subject, style) pairs that are kept out of training, to test composition."""


@dataclass
class Cache:
    """Every training picture as (N, C, h, w) scaled latents, with what its caption can be made of."""

    latents: Tensor
    subjects: list[tuple[str, ...]] = field(default_factory=list)
    """What is in it, as captions say it; then other words for the same."""
    styles: list[str] = field(default_factory=list)
    backgrounds: list[str] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    """How likely each is drawn, up to a factor."""

    def add(self, subject: tuple[str, ...], style: str, background: str, chance: float) -> None:
        """Note a picture; its latents are joined at the end."""
        self.subjects.append(subject)
        self.styles.append(style)
        self.backgrounds.append(background)
        self.chances.append(chance)

    def add_views(self, icon: data.Icon, backgrounds: list[str], chance: float) -> None:
        """Note one icon on several backgrounds."""
        for background in backgrounds:
            self.add((data.words(icon.name), *data.synonyms().get(icon.name, ())), icon.style, background, chance)


def held_out_pairs() -> set[tuple[str, str]]:
    """(name, style) pairs never trained on; each subject stays in all its other styles.

    The two best known styles draw theirs first, as they did when they were the only ones: a warm start has not seen them either.
    """
    rng = np.random.default_rng(20261123)
    names, styles = data.trained_names(), data.TRAINED_STYLES
    first = rng.choice(len(names), round(HELD_OUT_SHARE * len(names) * 2), replace=False)
    rest = rng.permutation(np.setdiff1d(np.arange(len(names)), first))[: round(HELD_OUT_SHARE * len(names) * len(styles[2:]))]
    pairs = [(names[i], styles[k % 2]) for k, i in enumerate(first)]
    return set(pairs) | {(names[i], styles[2 + k % len(styles[2:])]) for k, i in enumerate(rest)}


@torch.no_grad()
def build_cache(recipe: Recipe, vae: AutoencoderKL) -> Cache:
    """`recipe.views` compositions of every trained pair, a third of them on white; then small subjects and pairs of them."""
    rng = np.random.default_rng(recipe.seed)
    left_out, favourites = held_out_pairs(), data.favourite_names()
    cache, latents = Cache(torch.empty(0)), []
    for style, weight in zip(data.TRAINED_STYLES, recipe.style_weights, strict=True):
        names = [name for name in data.trained_names_in(recipe.icons, style) if (name, style) not in left_out]
        icons = data.draw_icons(recipe.icons, style, names)
        for icon in icons:
            chosen = _backgrounds(recipe.views, rng)
            latents.append(_encoded(vae, [data.compose(icon, colour, size_px=recipe.size_px, rng=rng) for colour in chosen]))
            cache.add_views(icon, chosen, weight * (recipe.favour if icon.name in favourites else 1.0) / recipe.views)
        known = [icon for icon in icons if icon.name in favourites] or icons
        total = sum(recipe.favour if icon.name in favourites else 1.0 for icon in icons)
        composed = [_composed(known, recipe.size_px, rng) for _ in range(recipe.composed)]
        for picture, text, colour in composed:
            latents.append(_encoded(vae, [picture]))
            cache.add((text,), style, colour, weight * total * recipe.composed_share / (1 - recipe.composed_share) / recipe.composed)
    latents += _add_looks(recipe, vae, cache, rng)
    cache.latents = torch.cat(latents)
    return cache


def _add_looks(recipe: Recipe, vae: AutoencoderKL, cache: Cache, rng: np.random.Generator) -> list[Tensor]:
    """`recipe.look_views` compositions of every icon of the best known style in every look, where that pair is not held out."""
    if not recipe.look_share:
        return []
    style, left_out, favourites = data.TRAINED_STYLES[0], held_out_pairs(), data.favourite_names()
    names = [name for name in data.trained_names_in(recipe.icons, style) if (name, style) not in left_out]
    icons, every, latents = data.draw_icons(recipe.icons, style, names), looks(), []
    liked = [recipe.favour if icon.name in favourites else 1.0 for icon in icons]
    each = sum(cache.chances) * recipe.look_share / (1 - recipe.look_share) / (len(every) * sum(liked) * recipe.look_views)
    for word, look in every.items():
        for icon, weight in zip(icons, liked, strict=True):
            chosen = _backgrounds(recipe.look_views, rng)
            changed = data.Icon(icon.name, word, look(icon.rgba))
            latents.append(_encoded(vae, [data.compose(changed, colour, size_px=recipe.size_px, rng=rng) for colour in chosen]))
            cache.add_views(changed, chosen, weight * each)
    return latents


def _composed(icons: list[data.Icon], size_px: int, rng: np.random.Generator) -> tuple[Image.Image, str, str]:
    """A picture, what is in it, and its background: one small subject, two of a kind, or two next to each other."""
    first, second = (icons[i] for i in rng.choice(len(icons), 2, replace=False))
    name, other = data.words(first.name), data.words(second.name)
    shown, text = (
        ([first], f"small {name}"), ([first, first], f"two {data.plural(name)}"), ([first, second], f"{name} next to {other}"),
    )[rng.choice(3, p=(0.3, 0.25, 0.45))]  # fmt: skip
    colour = _backgrounds(2, rng)[int(rng.random() < 2 / 3)]
    return data.compose_small(shown, colour, size_px=size_px, rng=rng), text, colour


def _backgrounds(count: int, rng: np.random.Generator) -> list[str]:
    """`count` colours, a third of them white and at least one, the others all different."""
    whites = max(1, count // 3)
    colours = [colour for colour in data.BACKGROUNDS if colour != "white"]
    return ["white"] * whites + [str(colour) for colour in rng.permutation(colours)[: count - whites]]


def _encoded(vae: AutoencoderKL, pictures: list[Image.Image]) -> Tensor:
    pixels = to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor


class Captions:
    """Draws a caption for a cached picture: mostly whole, now and then without style or background, sometimes empty.

    And some have words that mean nothing: in place of the style, before the subject, or between commas. A base that has seen such
    draws the rest of the prompt as ever, on white where no background is named, until training gives the word a meaning. Looks are always
    named: without a style the base draws as the icon sets do.
    """

    def __init__(self, tokenizer: CLIPTokenizer, dropout: float, synonyms: float, strangers: float = 0.0) -> None:
        self.tokenizer = tokenizer
        self.dropout, self.synonyms, self.strangers = dropout, synonyms, strangers
        self.pieces = [piece for piece in tokenizer.get_vocab() if piece.isascii() and piece.removesuffix("</w>").isalnum()]
        self.looks = frozenset(looks())
        self.meant = {*data.BACKGROUNDS, "background", "style", *data.TRAINED_STYLES, *self.looks}
        self.meant |= {word for name in data.trained_names() for word in data.words(name).split()}
        self.memory: dict[str, Tensor] = {}

    def draw(self, cache: Cache, index: int, rng: np.random.Generator) -> Tensor:
        """(77,) token ids."""
        if rng.random() < self.dropout:
            return self.ids("")
        text, *others = cache.subjects[index]
        if others and rng.random() < self.synonyms:
            text = others[rng.integers(len(others))]
        strange = [rng.random() < share * self.strangers for share in (0.5, 0.25, 0.25)]
        is_look = cache.styles[index] in self.looks
        style = f"{self.stranger(rng)} style" if strange[0] and not is_look else data.style_words(cache.styles[index])
        if strange[1]:
            text = f"{self.stranger(rng)} {text}"
        if strange[2]:
            text += f", {self.stranger(rng)}"
        if rng.random() < 0.9 or is_look:
            text += f", {style}"
        if cache.backgrounds[index] != "white" or rng.random() < 0.3:
            text += f", {cache.backgrounds[index]} background"
        return self.ids(text)

    def stranger(self, rng: np.random.Generator) -> str:
        """A word that no picture goes with, of one to three of the tokenizer's pieces."""
        while True:
            word = "".join(rng.choice(self.pieces, rng.integers(1, 4))).replace("</w>", "")
            if word not in self.meant:
                return word

    def ids(self, text: str) -> Tensor:
        """(77,) token ids, padded and cut as Stable Diffusion does."""
        if text not in self.memory:
            encoded = self.tokenizer(text, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
            self.memory[text] = encoded.input_ids[0]
        return self.memory[text]


class Batches:
    """Draws pictures by their chances, with a caption each."""

    def __init__(self, cache: Cache, captions: Captions, rng: np.random.Generator, device: torch.device) -> None:
        self.cache, self.captions, self.rng, self.device = cache, captions, rng, device
        self.chances = np.array(cache.chances) / np.sum(cache.chances)
        self.latents = cache.latents.to(device)

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """(size, C, h, w) latents, channels last, and (size, 77) token ids."""
        chosen = self.rng.choice(len(self.chances), size=size, p=self.chances)
        ids = torch.stack([self.captions.draw(self.cache, index, self.rng) for index in chosen]).to(self.device)
        return self.latents[torch.from_numpy(chosen)].contiguous(memory_format=torch.channels_last), ids
