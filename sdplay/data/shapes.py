"""Shapes and crops: which part of a picture training sees, at which size. Pure arithmetic on (width, height) in px."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in px; right and bottom are the first that are outside."""
MAX_ASPECT = 3.0


def step_of(side: int, unit: int) -> int:
    """Px between two bucket sizes: 64 from 512 px on, an eighth of the side below, always a multiple of `unit`."""
    return max(unit, min(64, side // 8) // unit * unit)


def bucket_sizes(side: int, step: int) -> list[Size]:
    """Every size in steps of `step` px whose area is the largest that fits into side^2, up to 3:1 and 1:3, widest first.

    The square is always one of them.
    """
    sizes = {(side, side)}
    for width in range(step, math.floor(side * math.sqrt(MAX_ASPECT)) + 1, step):
        height = side * side // width // step * step
        if height >= step and max(width, height) <= MAX_ASPECT * min(width, height):
            sizes |= {(width, height), (height, width)}
    return sorted((size for size in sizes if size[0] * size[1] > 0.75 * side * side), key=lambda size: (-size[0] / size[1], size))


def nearest(picture: Size, sizes: Sequence[Size]) -> Size:
    """The size whose crop keeps most of the picture; of two alike, the one of larger area."""
    return max(sizes, key=lambda size: (_kept(picture, size), size[0] * size[1]))


def crop_box(picture: Size, size: Size) -> Box:
    """The largest centred part of the picture with the shape of `size`."""
    width, height = picture
    wide = width * size[1] > height * size[0]
    kept_width = max(1, round(height * size[0] / size[1])) if wide else width
    kept_height = height if wide else max(1, round(width * size[1] / size[0]))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def shifted(box: Box, left: int, top: int) -> Box:
    """A box of a part, as a box of the whole; the part begins at (left, top)."""
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def _kept(picture: Size, size: Size) -> float:
    """Share of the picture that is inside the crop."""
    aspect, wanted = picture[0] / picture[1], size[0] / size[1]
    return min(aspect / wanted, wanted / aspect)
