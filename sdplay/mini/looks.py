"""Styles that are made from drawn icons by arithmetic: other colours, fewer colours, other surfaces, other shapes.

Two icon sets teach the base two ways to draw. These teach it that a word before "style" can change colours, shading, surface and
shape, and leave the subject as it is: what a new style has to be learned into. `looks` have names that say what they do; `invented`
ones have names that say nothing, are many, and change a little of everything, as one icon set differs from another.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageFilter

Colour = tuple[int, int, int]
Look = Callable[[np.ndarray], np.ndarray]
"""(H, W, 4) uint8 RGBA, straight alpha -> the same."""

LUMINANCE = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""
FLAT_COLOURS = 5
BORDER_PX = 5
INK: Colour = (34, 30, 44)
INK_PX = 3
PIXELS = 16
"""Squares along a side."""
SIMPLE_PX = 9
"""Shapes narrower than about half of that are gone."""
WAVE_PX, WAVES = 5.0, 3.0
SQUASHED = 0.68
"""Of a side; `wide` is so high, and `tall` so wide."""
TILT_DEGREES = 24
INVENTED = 32
"""How many styles are made up."""
SYLLABLES = ("ba", "do", "fi", "gu", "ka", "lo", "mi", "nu", "po", "ra", "so", "tu", "ve", "wi", "xa", "zo")
STICKER_SIDE = 0.84
"""Of the icon's side, so that the border has room."""

RAMPS: dict[str, tuple[Colour, ...]] = {
    "gold": ((72, 40, 4), (214, 160, 34), (255, 246, 196)),
    "silver": ((30, 34, 40), (140, 148, 158), (246, 248, 250)),
    "sepia": ((52, 32, 18), (156, 116, 78), (240, 222, 190)),
    "frost": ((12, 34, 96), (92, 170, 236), (236, 250, 255)),
    "bubblegum": ((122, 22, 92), (250, 108, 172), (255, 228, 240)),
    "forest": ((14, 46, 26), (76, 140, 66), (222, 238, 170)),
    "sunset": ((62, 14, 84), (230, 74, 62), (255, 214, 96)),
}
"""From dark to bright."""
PALETTES: dict[str, tuple[Colour, ...]] = {
    "retro": ((44, 62, 72), (228, 208, 164), (200, 84, 60), (224, 152, 62), (92, 138, 130), (244, 236, 216), (122, 76, 60), (142, 160, 96)),
    "arcade": ((16, 16, 32), (255, 255, 255), (255, 0, 77), (255, 163, 0), (255, 236, 39), (0, 228, 54), (41, 173, 255), (126, 37, 83)),
    "nordic": ((46, 52, 64), (94, 129, 172), (136, 192, 208), (236, 239, 244), (191, 97, 106), (163, 190, 140), (235, 203, 139)),
    "autumn": ((58, 34, 24), (120, 40, 32), (186, 86, 32), (222, 154, 54), (240, 214, 148), (110, 110, 52), (252, 244, 226)),
    "reef": ((0, 70, 90), (0, 150, 150), (255, 110, 90), (255, 205, 80), (120, 200, 80), (250, 250, 240), (200, 60, 130)),
    "berry": ((44, 16, 54), (110, 34, 110), (190, 60, 120), (240, 150, 170), (252, 236, 240), (70, 90, 160), (150, 190, 220)),
}
"""Flat areas of these colours and no others."""


def looks() -> dict[str, Look]:
    """What is done to an icon, by the word that captions have for it."""
    return {
        "flat": flat,
        "pastel": lambda icon: _recoloured(icon, lambda rgb: 255 - 0.45 * (255 - rgb)),
        "neon": lambda icon: _recoloured(icon, lambda rgb: 1.15 * (_grey(rgb) + 2.0 * (rgb - _grey(rgb)))),
        "martian": lambda icon: _recoloured(icon, lambda rgb: rgb[..., [2, 0, 1]]),
        "sticker": sticker,
        "sketch": sketch,
        "shadow": lambda icon: _recoloured(icon, lambda rgb: np.broadcast_to((44.0, 46.0, 66.0), rgb.shape)),
        "pixel": pixel,
        "paper": lambda icon: flat(simple(icon, SIMPLE_PX)),
        "comic": lambda icon: inked(flat(simple(icon, 3)), INK, INK_PX),
        "wavy": wavy,
        "puffy": puffy,
        "wide": lambda icon: placed(icon, high=SQUASHED),
        "tall": lambda icon: placed(icon, wide=SQUASHED),
        "leaning": lambda icon: placed(icon, wide=0.9, high=0.9, degrees=TILT_DEGREES),
        **{word: partial(_on_ramp, ramp) for word, ramp in RAMPS.items()},
        **{word: partial(_in_palette, palette) for word, palette in PALETTES.items()},
    }


def invented() -> dict[str, Look]:
    """Styles that nobody has, by a word each: flat areas of a palette of their own, shapes rounder, leaner or turned, some outlined."""
    words = [f"{first}{second}{third}" for first, second, third in zip(SYLLABLES * 3, SYLLABLES[5:] * 5, SYLLABLES[11:] * 10, strict=False)]
    return {word: _made_up(np.random.default_rng([20261129, index])) for index, word in enumerate(words[:INVENTED])}


def _made_up(rng: np.random.Generator) -> Look:
    """One style, by chance."""
    palette = _chosen_colours(rng)
    shape = {"wide": rng.uniform(0.84, 1.0), "high": rng.uniform(0.84, 1.0), "degrees": rng.uniform(-12, 12) * (rng.random() < 0.4)}
    simplicity = int(rng.choice([1, 3, 5, 7]))
    ink = palette[0] if rng.random() < 0.35 else None
    shaded = rng.random() < 0.25

    def look(icon: np.ndarray) -> np.ndarray:
        drawn = simple(placed(icon, **shape), simplicity)
        flat_colours = _in_palette(palette, drawn)
        drawn = _recoloured(flat_colours, lambda rgb: 0.6 * rgb + 0.4 * drawn[..., :3]) if shaded else flat_colours
        return inked(drawn, ink, 2) if ink else drawn

    return look


def _chosen_colours(rng: np.random.Generator) -> list[Colour]:
    """12 to 24 colours: the darkest first, greys, and every hue, shifted and as bright and strong as this style has them."""
    count, turn = int(rng.integers(9, 20)), rng.random()
    strong, bright = rng.uniform(0.35, 1.0), rng.uniform(0.6, 1.0)
    greys = [(34, 32, 40), (128, 130, 136), (248, 247, 244)]
    hues = [
        colorsys.hsv_to_rgb((turn + index / count) % 1, strong * rng.uniform(0.6, 1.0), bright * rng.uniform(0.5, 1.0))
        for index in range(count)
    ]
    return [*greys, *(_colour(np.array(hue) * 255) for hue in hues)]


def placed(icon: np.ndarray, *, wide: float = 1.0, high: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    """Squeezed to a share of each side, and turned, in the middle of the same square."""
    side = icon.shape[0]
    shown = Image.fromarray(icon, "RGBA").convert("RGBa").resize((round(side * wide), round(side * high)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBa", (side, side))
    canvas.paste(shown, ((side - shown.width) // 2, (side - shown.height) // 2))
    return np.asarray(canvas.rotate(degrees, Image.Resampling.BICUBIC).convert("RGBA"))


def simple(icon: np.ndarray, size_px: int) -> np.ndarray:
    """Rounder shapes without what is thin: each pixel is the median of a square around it. `size_px` is odd; 1 changes nothing."""
    if size_px == 1:
        return icon
    picture = Image.fromarray(icon, "RGBA")
    median = ImageFilter.MedianFilter(size_px)
    rgb = Image.composite(picture.convert("RGB"), Image.fromarray(_spread(icon)), picture.getchannel("A").point(lambda a: 255 * (a > 127)))
    return np.dstack([np.asarray(rgb.filter(median)), np.asarray(picture.getchannel("A").filter(median))])


def inked(icon: np.ndarray, ink: Colour, width_px: int) -> np.ndarray:
    """A line of one colour around it, which goes into it as far as the icon's square leaves no room outside."""
    inner = placed(icon, wide=1 - 2 * width_px / icon.shape[1], high=1 - 2 * width_px / icon.shape[0])
    picture = Image.fromarray(inner, "RGBA")
    return np.asarray(Image.alpha_composite(_widened(picture.getchannel("A"), width_px, ink), picture))


def pixel(icon: np.ndarray) -> np.ndarray:
    """Squares of one colour each, there or not there."""
    small = Image.fromarray(icon, "RGBA").convert("RGBa").resize((PIXELS, PIXELS), Image.Resampling.BOX).convert("RGBA")
    large = np.asarray(small.resize(icon.shape[1::-1], Image.Resampling.NEAREST))
    return np.dstack([large[..., :3], 255 * (large[..., 3:] > 127).astype(np.uint8)])


def wavy(icon: np.ndarray) -> np.ndarray:
    """Every row moved sideways along a sine."""
    inner = placed(icon, wide=1 - 2 * WAVE_PX / icon.shape[1])
    rows = np.arange(icon.shape[0])
    moves = np.rint(WAVE_PX * np.sin(2 * np.pi * WAVES * rows / len(rows))).astype(int)
    return np.stack([np.roll(row, move, axis=0) for row, move in zip(inner, moves, strict=True)])


def puffy(icon: np.ndarray) -> np.ndarray:
    """The middle blown up, the rim pressed together."""
    side = icon.shape[0]
    across = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.meshgrid(across, across)
    inward = np.clip(np.hypot(x, y), 0, 1) ** 0.7
    column, row = (np.clip(np.rint((axis * inward + 1) / 2 * (side - 1)), 0, side - 1).astype(int) for axis in (x, y))
    return icon[row, column]


def _spread(icon: np.ndarray) -> np.ndarray:
    """(H, W, 3): the icon's mean colour everywhere, for where there is none."""
    seen = icon[..., 3] > 127
    mean = icon[..., :3][seen].mean(axis=0) if seen.any() else np.zeros(3)
    return np.broadcast_to(mean.astype(np.uint8), icon[..., :3].shape).copy()


def _colour(rgb: np.ndarray) -> Colour:
    red, green, blue = (int(channel) for channel in np.clip(rgb, 0, 255))
    return red, green, blue


def flat(icon: np.ndarray) -> np.ndarray:
    """A few colours of the icon's own, without shading."""
    seen = icon[..., 3] > 127
    shown = Image.fromarray(icon[..., :3][seen][None]) if seen.any() else Image.new("RGB", (1, 1))
    palette = shown.quantize(FLAT_COLOURS)
    return _with_colours(icon, Image.fromarray(icon[..., :3]).quantize(palette=palette, dither=Image.Dither.NONE))


def sticker(icon: np.ndarray) -> np.ndarray:
    """Cut out with a white border, and a thin gray line around that."""
    whole = Image.new("RGBA", icon.shape[1::-1])
    side = round(STICKER_SIDE * icon.shape[0])
    small = Image.fromarray(icon, "RGBA").convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    whole.paste(small, ((whole.width - side) // 2, (whole.height - side) // 2))
    cut = whole.getchannel("A")
    layers = [_widened(cut, BORDER_PX + 2, (120, 120, 128)), _widened(cut, BORDER_PX, (255, 255, 255)), whole]
    return np.asarray(functools.reduce(Image.alpha_composite, layers))


def _widened(mask: Image.Image, by_px: int, colour: Colour) -> Image.Image:
    """One colour, wherever the mask is no further away."""
    layer = Image.new("RGBA", mask.size, colour)
    layer.putalpha(mask.filter(ImageFilter.MaxFilter(2 * by_px + 1)).filter(ImageFilter.GaussianBlur(1)))
    return layer


def sketch(icon: np.ndarray) -> np.ndarray:
    """Dark lines where colours meet, on nearly white paper in the icon's shape."""
    alpha = icon[..., 3:].astype(np.float32) / 255
    grey = (_grey(icon[..., :3].astype(np.float32)) * alpha + 255 * (1 - alpha))[..., 0]
    across, down = np.abs(np.gradient(grey, axis=1)), np.abs(np.gradient(grey, axis=0))
    rim = np.hypot(*np.gradient(alpha[..., 0])) * 255
    ink = np.clip((np.maximum(np.maximum(across, down), 0.6 * rim) - 4) / 28, 0, 1)[..., None]
    thick = np.asarray(Image.fromarray((255 * ink[..., 0]).astype(np.uint8)).filter(ImageFilter.MaxFilter(3)), np.float32)[..., None] / 255
    rgb = 250 - (250 - np.array((50.0, 50.0, 64.0))) * thick
    return _joined(rgb, icon[..., 3])


def _on_ramp(ramp: Sequence[Colour], icon: np.ndarray) -> np.ndarray:
    """Each pixel's luminance, as a colour between the ramp's."""
    grey = _grey(icon[..., :3].astype(np.float32))[..., 0]
    stops = np.linspace(0, 255, len(ramp))
    rgb = np.stack([np.interp(grey, stops, [colour[channel] for colour in ramp]) for channel in range(3)], axis=-1)
    return _joined(rgb, icon[..., 3])


def _in_palette(palette: Sequence[Colour], icon: np.ndarray) -> np.ndarray:
    given = Image.new("P", (1, 1))
    given.putpalette([channel for colour in palette for channel in colour])
    return _with_colours(icon, Image.fromarray(icon[..., :3]).quantize(palette=given, dither=Image.Dither.NONE))


def _with_colours(icon: np.ndarray, quantised: Image.Image) -> np.ndarray:
    return _joined(np.asarray(quantised.convert("RGB"), np.float32), icon[..., 3])


def _recoloured(icon: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return _joined(change(icon[..., :3].astype(np.float32)), icon[..., 3])


def _grey(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) -> (..., 1)"""
    return rgb @ np.array(LUMINANCE, np.float32)[:, None]


def _joined(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.clip(rgb, 0, 255).round().astype(np.uint8), alpha])
