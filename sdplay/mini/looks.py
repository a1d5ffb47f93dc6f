"""Styles that are made from drawn icons by arithmetic: other colours, fewer colours, other surfaces.

Two icon sets teach the base two ways to draw. These teach it that a word before "style" can change colours, shading and surface, and
leave the subject as it is: what a new style has to be learned into.
"""

from __future__ import annotations

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
        **{word: partial(_on_ramp, ramp) for word, ramp in RAMPS.items()},
        **{word: partial(_in_palette, palette) for word, palette in PALETTES.items()},
    }


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
