"""Pictures of different shapes in one run: each is cropped to the nearest of a few sizes, and a batch holds one size only.

Sizes are (width, height) in px. All functions are pure; the order of an epoch depends on (seed, epoch) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sdplay.data.shapes import Size, bucket_sizes, nearest, step_of
from sdplay.diffusion.objective import step_generator

ORDER = 1001
"""The stream of random numbers for the order of an epoch."""


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
