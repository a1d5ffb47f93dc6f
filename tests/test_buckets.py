"""Buckets: several shapes and sizes in one run, no picture lost, none stretched, every epoch repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sdplay import checkpoint
from sdplay.buckets import batch_at, batches_of_epoch, by_size
from sdplay.cache import center_crop
from sdplay.data.shapes import MAX_ASPECT, bucket_sizes, crop_box, nearest, step_of
from sdplay.engine import Engine
from tests.test_optimizers import cut_at
from tests.test_train import trained, values


@pytest.mark.parametrize(("side", "unit", "step"), [(512, 16, 64), (1024, 16, 64), (64, 8, 8), (32, 8, 8), (256, 16, 32)])
def test_steps_are_64_px_or_an_eighth_of_a_small_side(side: int, unit: int, step: int) -> None:
    assert step_of(side, unit) == step


@pytest.mark.parametrize("side", [32, 512, 768, 1024])
def test_bucket_sizes_have_nearly_the_area_of_the_square_and_no_more(side: int) -> None:
    step = step_of(side, 8 if side == 32 else 16)
    sizes = bucket_sizes(side, step)

    assert (side, side) in sizes
    assert len(sizes) >= 3
    for width, height in sizes:
        assert (height, width) in sizes
        assert width % step == height % step == 0
        assert 0.75 * side * side < width * height <= side * side
        assert max(width, height) <= MAX_ASPECT * min(width, height)


def test_a_picture_goes_where_most_of_it_is_kept() -> None:
    sizes = bucket_sizes(512, 64)

    assert nearest((1000, 1000), sizes) == (512, 512)
    assert nearest((1500, 1000), sizes) == (640, 384)
    assert nearest((1000, 1500), sizes) == (384, 640)
    for picture in ((3000, 1000), (1234, 1111), (640, 480)):
        best = nearest(picture, sizes)
        kept = [(right - left) * (bottom - top) for left, top, right, bottom in (crop_box(picture, size) for size in sizes)]
        left, top, right, bottom = crop_box(picture, best)
        assert (right - left) * (bottom - top) >= 0.999 * max(kept)


def test_crops_are_centred_and_inside_and_square_ones_are_those_of_before() -> None:
    assert crop_box((300, 100), (200, 100)) == (50, 0, 250, 100)
    assert crop_box((100, 300), (64, 64)) == (0, 100, 100, 200)
    assert crop_box((101, 64), (32, 32)) == (18, 0, 82, 64)  # (101 - 64) // 2


def test_a_crop_is_not_stretched() -> None:
    """A circle stays a circle: its width and height in the crop are alike."""
    from PIL import ImageDraw

    picture = Image.new("L", (300, 200))
    ImageDraw.Draw(picture).ellipse((100, 50, 200, 150), fill=255)

    ys, xs = np.nonzero(np.asarray(center_crop(picture, (96, 64))) > 127)

    assert abs((xs.max() - xs.min()) - (ys.max() - ys.min())) <= 1


def test_every_picture_is_there_once_for_each_side() -> None:
    found = by_size([(600, 400), (400, 400), (400, 600)], [512, 768], unit=16, square=False)

    assert sorted(index for pictures in found.values() for index in pictures) == [0, 0, 1, 1, 2, 2]
    assert found[512, 512] == found[768, 768] == [1]
    assert list(by_size([(600, 400), (400, 400)], [512], unit=16, square=True).values()) == [[0, 1]]


def test_an_epoch_shows_every_row_once_and_no_batch_mixes_buckets() -> None:
    batches = batches_of_epoch([5, 2, 1], 2, seed=3, epoch=0)

    assert sorted((bucket, row) for bucket, rows in batches for row in rows) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (0, 4),
        (1, 0),
        (1, 1),
        (2, 0),
    ]
    assert all(1 <= len(rows) <= 2 for _, rows in batches)
    assert batches == batches_of_epoch([5, 2, 1], 2, seed=3, epoch=0)
    assert batches != batches_of_epoch([5, 2, 1], 2, seed=3, epoch=1)
    assert batches != batches_of_epoch([5, 2, 1], 2, seed=4, epoch=0)


def test_the_batch_at_a_position_needs_nothing_of_those_before() -> None:
    two_epochs = [batch for epoch in (0, 1) for batch in batches_of_epoch([5, 2, 1], 2, seed=3, epoch=epoch)]

    assert [batch_at(position, [5, 2, 1], 2, seed=3) for position in range(10)] == two_epochs


@pytest.fixture
def shapes(pictures: Path) -> Path:
    """The six square pictures, and four that are not."""
    for index, size in enumerate(((96, 64), (98, 64), (64, 96), (200, 64))):
        Image.new("RGB", size, (40 * index, 90, 10)).save(pictures / f"shape-{index}.png")
    return pictures


@pytest.mark.trap(24)
def test_a_bucketed_run_resumes_in_the_same_bits_and_caches_each_shape(engine: Engine, tiny_base: Path, shapes: Path) -> None:
    settings = values(
        engine, tiny_base, shapes, steps=6, sample_prompts=[], bucketing="on", resolutions=[32, 48], validate_every=3, caption_shuffle="on"
    )
    run = trained(engine, settings)
    state = run.state()
    expected = load_file(run.folder / state.artifacts[0].file)
    cut_at(run, 5, checkpoint_step=4)

    new_process = Engine(engine.workspace)
    new_process.resume(run.id)
    resumed = new_process.wait(run.id)
    new_process.close()

    assert checkpoint.steps_on_disk(run.folder / "checkpoints") == [2, 4, 6]
    assert [step.loss for step in resumed.losses] == [step.loss for step in state.losses]
    found = load_file(run.folder / resumed.artifacts[0].file)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    kept = {tuple(load_file(path)["mean"].shape) for path in (engine.workspace.cache / "latents").glob("*.safetensors")}
    assert {(4, 8, 8), (4, 12, 12)} < kept, "squares of 32 and 48 px, and other shapes"
    assert state.validations
