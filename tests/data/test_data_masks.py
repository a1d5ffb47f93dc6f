"""Masks: found, checked, kept with the picture, shown on it, and never losing what is thin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sdplay.cache import latent_area
from sdplay.config import LoraConfig
from sdplay.data import DatasetStore, Example, view_path
from sdplay.data.files import kind_of
from sdplay.data.masks import picture_with_mask
from sdplay.errors import DataError
from sdplay.losses import weighted_areas


def white_square(path: Path, *, size: tuple[int, int] = (64, 64), box: tuple[int, int, int, int] = (16, 16, 47, 47)) -> Path:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)
    return path


def share_of_white(example: Example) -> float:
    assert example.mask is not None
    return float((np.asarray(Image.open(example.mask)) > 127).mean())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fox.mask.png", "mask"),
        ("a/fox-masklabel.png", "mask"),
        ("masks/fox.png", "mask"),
        ("a/Masks/fox.jpg", "mask"),
        ("masks/fox.txt", "sidecar"),
        ("masks of venice/fox.png", "picture"),
        ("mask.png", "picture"),
        ("unmasked.png", "picture"),
    ],
)
def test_masks_are_known_by_their_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("mask", ["fox.mask.png", "fox-masklabel.png", "masks/fox.png"])
def test_a_mask_file_belongs_to_the_picture_of_its_name_and_is_no_picture(store: DatasetStore, paint: Callable, mask: str) -> None:
    fox, other = paint("fox.jpg"), paint("other.png")
    white_square(fox.parent / mask)

    dataset = store.create([fox.parent])

    assert [example.source for example in dataset.examples] == ["fox.jpg", "other.png"]
    assert share_of_white(dataset.examples[0]) == pytest.approx(0.25)
    assert dataset.examples[1].mask is None
    assert not dataset.skipped
    assert other.exists()


def test_transparency_is_kept_as_a_mask(store: DatasetStore, paint: Callable) -> None:
    path = paint("cut-out.png", mode="RGBA")
    picture = Image.open(path)
    picture.putalpha(Image.open(white_square(path.with_name("alpha.tmp.png"), box=(0, 0, 31, 63))))
    picture.save(path)

    assert share_of_white(store.create([path]).examples[0]) == pytest.approx(0.5)


def test_a_file_wins_over_transparency_and_a_solid_picture_has_no_mask(store: DatasetStore, paint: Callable) -> None:
    path, solid = paint("cut-out.png", mode="RGBA"), paint("solid.png", mode="RGBA")
    picture = Image.open(path)
    picture.putalpha(Image.linear_gradient("L").resize((64, 64)))
    picture.save(path)

    examples = store.create([path, solid, white_square(path.with_name("cut-out.mask.png"))]).examples
    cut_out, whole = sorted(examples, key=lambda example: example.source)

    assert share_of_white(cut_out) == pytest.approx(0.25)
    assert whole.mask is None


def test_a_mask_may_come_later_and_goes_with_its_picture(store: DatasetStore, paint: Callable) -> None:
    path = paint("fox.png")
    dataset = store.create([path])

    (example,) = store.add(dataset.id, [white_square(path.with_name("fox.mask.png"))]).examples

    assert share_of_white(example) == pytest.approx(0.25)
    store.remove(dataset.id, example.key)
    assert list(example.path.parent.iterdir()) == []


def test_a_larger_mask_is_brought_to_the_pictures_size(store: DatasetStore, paint: Callable) -> None:
    path = paint("fox.png", size=(96, 64))
    mask = white_square(path.with_name("fox.mask.png"), size=(960, 640), box=(0, 0, 479, 639))

    (example,) = store.create([path, mask]).examples

    assert example.mask is not None
    assert Image.open(example.mask).size == (96, 64)
    assert share_of_white(example) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: white_square(path, size=(64, 32)), "another shape"),
        (lambda path: Image.new("L", (64, 64)).save(path), "black all over"),
        (lambda path: path.write_bytes(b"no picture"), "not a JPEG, PNG or WebP"),
    ],
)
def test_an_unusable_mask_is_named_with_the_reason(store: DatasetStore, paint: Callable, make: Callable, says: str) -> None:
    path = paint("fox.png")
    make(path.with_name("fox.mask.png"))

    dataset = store.create([path.parent])

    assert dataset.examples[0].mask is None
    assert [skipped.name for skipped in dataset.skipped] == ["fox.mask.png"]
    assert says in dataset.skipped[0].reason


def test_a_mask_without_its_picture_is_named(store: DatasetStore, paint: Callable) -> None:
    path = paint("fox.png")
    white_square(path.with_name("wolf.mask.png"))

    assert "belongs to no picture" in store.create([path.parent]).skipped[0].reason


def test_the_view_leaves_what_is_learned_and_reddens_the_rest(store: DatasetStore, paint: Callable) -> None:
    grey = Image.new("RGB", (64, 64), (90, 90, 90))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))

    view = np.asarray(picture_with_mask(grey, mask)).astype(int)

    assert (view[:, :32] == 90).all()
    assert (view[:, 32:, 0] > view[:, 32:, 1] + 60).all()
    path = paint("fox.png")
    (example,) = store.create([path, white_square(path.with_name("fox.mask.png"))]).examples
    assert view_path(example.path).is_file()


@pytest.mark.trap(27)
def test_a_line_one_pixel_thin_is_not_lost_on_the_way_to_the_latents(tmp_path: Path) -> None:
    """Averaging 8 x 8 pixels, or taking every eighth, would leave an eighth of it, or nothing."""
    path = white_square(tmp_path / "mask.png", size=(512, 512), box=(101, 0, 101, 511))
    example = Example("0", path, "", 512, 512, "", (), path)

    area = latent_area(example, (512, 512), 8)

    assert area.shape == (1, 64, 64)
    assert area[0, :, 101 // 8].tolist() == [1.0] * 64
    assert area.sum() == 64


def test_the_mask_is_cropped_as_the_picture_is(tmp_path: Path) -> None:
    """128 x 64 cropped to the middle square: white from column 64 on is the right half."""
    path = white_square(tmp_path / "mask.png", size=(128, 64), box=(64, 0, 127, 63))

    area = latent_area(Example("0", path, "", 128, 64, "", (), path), (32, 32), 4)

    assert area[0].mean(dim=0).tolist() == [0] * 4 + [1] * 4


def test_what_is_outside_counts_its_share_and_an_empty_crop_is_refused() -> None:
    half = torch.zeros(1, 2, 2)
    half[:, 0] = 1

    areas = weighted_areas([half, torch.ones(1, 2, 2)], LoraConfig(unmasked_weight=0.25))

    assert areas[0, 0].tolist() == [[1, 1], [0.25, 0.25]]
    assert areas[1, 0].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match="Weight outside masks"):
        weighted_areas([torch.zeros(1, 2, 2)], LoraConfig(unmasked_weight=0))
