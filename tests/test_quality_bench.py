"""The quality bench's own measures, where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from benchmarks import judge
from benchmarks.base_quality import ssim_of
from benchmarks.icons import Shelf, named_background, shelf_of
from benchmarks.learning import percent
from benchmarks.palette import in_colours_of
from benchmarks.quality import chosen_variants
from sdplay.mini import data
from sdplay.presets import training_preset


def icon(name: str, colour: str, shape: str) -> data.Icon:
    canvas = Image.new("RGBA", (data.ICON_PX, data.ICON_PX))
    getattr(ImageDraw.Draw(canvas), shape)((20, 20, 108, 108), fill=colour)
    return data.Icon(name, "drawn", np.asarray(canvas))


@pytest.fixture
def icons() -> list[data.Icon]:
    return [icon("ball", "red", "ellipse"), icon("box", "red", "rectangle"), icon("plum", "purple", "ellipse")]


@pytest.fixture
def shelf(icons: list[data.Icon]) -> Shelf:
    return shelf_of(icons)


@pytest.mark.parametrize("background", ["white", "green", "black"])
def test_a_composition_is_nearest_to_its_own_icon_on_any_background(shelf: Shelf, icons: list[data.Icon], background: str) -> None:
    rng = np.random.default_rng(0)

    ranks = [shelf.rank(data.compose(one, background, size_px=64, rng=rng), one.name) for one in icons]

    assert ranks == [0, 0, 0]


def test_a_wrong_name_ranks_behind_the_right_one(shelf: Shelf, icons: list[data.Icon]) -> None:
    picture = data.compose(icons[2], "white", size_px=64, rng=np.random.default_rng(0))

    assert shelf.rank(picture, "plum") == 0
    assert shelf.rank(picture, "box") == 2


@pytest.mark.parametrize("background", data.BACKGROUNDS)
def test_the_background_is_named_though_it_varies_a_little(icons: list[data.Icon], background: str) -> None:
    picture = data.compose(icons[0], background, size_px=64, rng=np.random.default_rng(1))

    assert named_background(picture) == background


def test_structural_similarity_is_one_for_equals_and_known_for_flat_pictures() -> None:
    """Between two flat pictures only the luminance term is left: (2ab + c1) / (a^2 + b^2 + c1)."""
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    flat = torch.full((1, 3, 32, 32), 0.5)
    c1 = (0.01 * 2) ** 2

    assert ssim_of(noise, noise) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert ssim_of(flat, flat * 0.5) == pytest.approx([(2 * 0.125 + c1) / (0.3125 + c1)], abs=1e-3)


def test_the_judge_looks_at_the_drawing_and_not_at_its_background(icons: list[data.Icon]) -> None:
    rng = np.random.default_rng(0)
    on_white, on_green = (data.compose(icons[2], colour, size_px=64, rng=rng) for colour in ("white", "green"))
    red = data.compose(icons[0], "white", size_px=64, rng=rng)

    white, green, other = judge.features(judge.to_tensor([on_white, on_green, red]))

    assert (white - green).abs().sum() < 0.4 * (white - other).abs().sum()


def test_a_palette_is_learned_and_nothing_else() -> None:
    shown = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    picture = Image.new("RGB", (8, 8), (200, 40, 40))
    picture.paste((30, 30, 180), (0, 0, 4, 8))

    (recoloured,) = in_colours_of(shown, [picture], 2)

    assert [recoloured.getpixel((x, 4)) for x in (0, 7)] == [(0, 0, 250), (250, 0, 0)]


def test_every_variant_names_a_preset_and_settings_that_exist() -> None:
    for variant in chosen_variants(["all"]):
        assert variant.task in ("style", "subject")
        assert training_preset(variant.preset)


def test_an_unknown_variant_is_said() -> None:
    with pytest.raises(SystemExit, match="no variant nonsense"):
        chosen_variants(["nonsense"])


def test_percent_of_hits() -> None:
    assert percent([True, False, True, True]) == "75 %"
