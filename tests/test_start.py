"""The start picture and its mask, as files that people bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sdplay.config import DrawConfig, parse
from sdplay.errors import ConfigError
from sdplay.start import open_start, size_like


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.new("RGB", (48, 32), "teal").save(tmp_path / "start.png")
    return str(tmp_path / "start.png")


def painted(folder: Path, size: tuple[int, int], colour: str, mode: str = "L") -> str:
    made = Image.new(mode, size, 0)
    ImageDraw.Draw(made).rectangle((8, 8, 15, 15), fill=colour)
    made.save(folder / "mask.png")
    return str(folder / "mask.png")


def test_no_picture_is_no_start() -> None:
    assert open_start("", "", 0.5) is None


def test_a_mask_is_cut_in_the_middle_of_its_brightness(picture: str, tmp_path: Path) -> None:
    for colour, kept in (("white", True), ("#909090", True)):
        start = open_start(picture, painted(tmp_path, (48, 32), colour), 0.5)
        assert start is not None
        assert start.mask is not None
        assert (np.asarray(start.mask).max() == 255) == kept
        assert set(np.unique(np.asarray(start.mask))) == {0, 255}


@pytest.mark.parametrize(
    ("size", "colour", "says"), [((32, 32), "white", "The mask has 32 x 32 px"), ((48, 32), "#303030", "nothing would be drawn")]
)
def test_a_mask_that_cannot_be_meant_gets_a_sentence(picture: str, tmp_path: Path, size: tuple[int, int], colour: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_start(picture, painted(tmp_path, size, colour), 0.5)


def test_a_file_that_is_no_picture_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no")

    for path in ("x.png", "missing.png"):
        with pytest.raises(ConfigError, match="cannot be read"):
            open_start(str(tmp_path / path), "", 0.5)


def test_a_mask_without_a_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="a mask, but no start picture"):
        parse(DrawConfig, {"prompts": ["a"], "mask": "mask.png"})


def test_a_transparent_picture_stands_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "clear.png")

    start = open_start(str(tmp_path / "clear.png"), "", 0.5)

    assert start is not None
    assert start.picture.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("size", "expected"), [((1000, 1000), (512, 512)), ((1600, 900), (680, 384)), ((900, 1600), (384, 680))])
def test_a_size_keeps_the_shape_at_the_bases_area(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """512 x sqrt(16 / 9) = 682.7 and 512 / sqrt(16 / 9) = 384, in whole multiples of 8: 85.3 -> 85 and 48."""
    assert size_like(Image.new("RGB", size), side=512, multiple=8) == expected
