"""Ground truth for the quality bench: which real icon a drawn picture is nearest to, and which colour it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sdplay.mini import data

COMPARED_PX = 32
SIZES = (0.82, 0.88, 0.94)
"""Sides at which a real icon is held against a drawing, as shares of the picture: those that compositions have."""


@dataclass(frozen=True)
class Shelf:
    """Real icons of one style, to find a drawing's nearest among."""

    names: list[str]
    colours: np.ndarray
    """(names, sizes, 32, 32, 3) in [0, 1], premultiplied."""
    alphas: np.ndarray
    """(names, sizes, 32, 32, 1) in [0, 1]"""

    def rank(self, picture: Image.Image, name: str) -> int:
        """How many other names are nearer to the picture than `name`: 0 is the best.

        Distance: root of the mean squared RGB difference at 32 px, the icon on the drawing's own background, at its best size.
        """
        distances = self.distances(picture)
        return int((distances < distances[self.names.index(name)]).sum())

    def distance(self, picture: Image.Image, name: str) -> float:
        """The squared distance of `rank` to the real icon of that name."""
        return float(self.distances(picture)[self.names.index(name)])

    def distances(self, picture: Image.Image) -> np.ndarray:
        """(names,): the squared distance to each."""
        drawn = _pixels(picture.resize((COMPARED_PX, COMPARED_PX), Image.Resampling.LANCZOS))
        real = self.colours + (1 - self.alphas) * background_of(picture)
        return np.square(real - drawn).mean(axis=(2, 3, 4)).min(axis=1)


def shelf(icons: Path, style: str, names: Sequence[str]) -> Shelf:
    """Draw the named icons of a style. `names` are those of its own set."""
    return shelf_of(data.draw_icons(icons, style, list(names)))


def shelf_of(icons: Sequence[data.Icon]) -> Shelf:
    """These icons, under their names."""
    stack = np.stack([[_placed(icon, size) for size in SIZES] for icon in icons])
    return Shelf([icon.name for icon in icons], stack[..., :3] * stack[..., 3:], stack[..., 3:])


def background_of(picture: Image.Image) -> np.ndarray:
    """(3,) in [0, 1]: the median colour of the picture's frame, a sixteenth of its side wide."""
    pixels = _pixels(picture)
    width = max(1, len(pixels) // 16)
    inside = np.zeros(pixels.shape[:2], bool)
    inside[width:-width, width:-width] = True
    return np.median(pixels[~inside], axis=0)


def named_background(picture: Image.Image) -> str:
    """The one of the base model's ten colours that the picture's background is nearest to."""
    colour = background_of(picture) * 255
    return min(data.BACKGROUNDS, key=lambda name: float(np.square(colour - data.BACKGROUNDS[name]).sum()))


def _placed(icon: data.Icon, size: float) -> np.ndarray:
    canvas = Image.new("RGBA", (COMPARED_PX, COMPARED_PX))
    drawing = data.premultiplied_resize(icon.rgba, round(COMPARED_PX * size))
    corner = (COMPARED_PX - drawing.width) // 2
    canvas.paste(drawing, (corner, corner))
    return np.asarray(canvas).astype(np.float32) / 255


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(np.float32) / 255
