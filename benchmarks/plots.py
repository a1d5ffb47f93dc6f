"""Small log-log plots as PNG, drawn with Pillow: nothing to install."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 520, 340, 24, 40, 24, 52
INK, FAINT, LINE = (30, 30, 35), (205, 205, 210), (210, 80, 30)

Points = Sequence[tuple[float, float]]


def exponent(points: Points) -> float:
    """The power of x that fits y best: the slope of the least-squares line through the logarithms. Needs two points or more."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    middle_x, middle_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / sum((x - middle_x) ** 2 for x, _ in logs)


def last_exponent(points: Points) -> float:
    """The same between the two largest: where a fixed cost no longer hides the growth."""
    return exponent(sorted(points)[-2:])


def log_plot(path: Path, title: str, *, across: str, points: Points) -> None:
    """Write the plot: points joined, and in grey what would be linear through the last of them."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    last_x, last_y = max(points)
    linear = [(x, last_y * x / last_x) for x, _ in sorted(points)]
    spans = [_span(values) for values in zip(*points, *linear, strict=True)]

    def place(x: float, y: float) -> tuple[float, float]:
        across_share, up_share = ((math.log(value) - low) / (high - low) for value, (low, high) in zip((x, y), spans, strict=True))
        return LEFT + across_share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up_share * (HEIGHT - TOP - BOTTOM)

    pen.rectangle((LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM), outline=FAINT)
    pen.line([place(*point) for point in linear], fill=FAINT, width=2)
    pen.line([place(*point) for point in sorted(points)], fill=LINE, width=3)
    for x, y in points:
        left, top = place(x, y)
        pen.ellipse((left - 4, top - 4, left + 4, top + 4), fill=LINE)
        pen.text((left, HEIGHT - BOTTOM + 6), f"{x:g}", fill=INK, anchor="ma")
        pen.text((left, top - 9), f"{y:.3g}", fill=INK, anchor="mb")
    pen.text((LEFT, 8), f"{title}: grows as {across} to the {exponent(points):.2f}", fill=INK, font_size=15)
    pen.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), f"{across} (grey: linear)", fill=INK, anchor="mb", font_size=13)
    image.save(path)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Logarithms, with some room at both ends."""
    low, high = math.log(min(values)), math.log(max(values))
    room = max(0.12 * (high - low), 0.1)
    return low - room, high + room
