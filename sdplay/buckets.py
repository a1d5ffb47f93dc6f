"""Pictures of different shapes in one run: each is cropped to the nearest of a few sizes, and a batch holds one size only.

Sizes are (width, height) in px. All functions are pure; the order of an epoch depends on (seed, epoch) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sdplay.diffusion.objective import step_generator

Size = tuple[int, int]
ORDER = 1001
"""The stream of random numbers for the order of an epoch."""
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


def crop_box(picture: Size, size: Size) -> tuple[int, int, int, int]:
    """Left, top, right, bottom, in px of the picture: its largest centred part with the shape of `size`."""
    width, height = picture
    wide = width * size[1] > height * size[0]
    kept_width = max(1, round(height * size[0] / size[1])) if wide else width
    kept_height = height if wide else max(1, round(width * size[1] / size[0]))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def by_size(pictures: Sequence[Size], sides: Sequence[int], *, unit: int, square: bool) -> dict[Size, list[int]]:
    """Size -> which pictures are shown at it. Each picture is there once for each side: at its nearest bucket, or square.

    unit: px that the sides of a bucket which is no square are multiples of.
    """
    found: dict[Size, list[int]] = {}
    for side in sides:
        sizes = [(side, side)] if square else bucket_sizes(side, step_of(side, unit))
        for index, picture in enumerate(pictures):
            found.setdefault(nearest(picture, sizes), []).append(index)
    return dict(sorted(found.items()))


def batches_of_epoch(counts: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[tuple[int, list[int]]]:
    """(bucket, rows in it) of each batch, in shuffled order; every row of every bucket comes once.

    counts: rows in each bucket. What is left over in a bucket makes a smaller batch.
    """
    generator = step_generator(seed, epoch, ORDER)
    batches = []
    for bucket, count in enumerate(counts):
        rows = torch.randperm(count, generator=generator).tolist()
        batches += [(bucket, rows[start : start + batch_size]) for start in range(0, count, batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def batch_at(position: int, counts: Sequence[int], batch_size: int, *, seed: int) -> tuple[int, list[int]]:
    """(bucket, rows) of the batch at a position, from 0, of the endless sequence of epochs. So a resumed run goes on in place."""
    epoch, within = divmod(position, sum(math.ceil(count / batch_size) for count in counts))
    return batches_of_epoch(counts, batch_size, seed=seed, epoch=epoch)[within]


def _kept(picture: Size, size: Size) -> float:
    """Share of the picture that is inside the crop."""
    aspect, wanted = picture[0] / picture[1], size[0] / size[1]
    return min(aspect / wanted, wanted / aspect)
