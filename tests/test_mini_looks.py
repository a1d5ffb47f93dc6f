"""Styles that the embedded base learns beside those of the icon sets: what is done to an icon, and that its subject stays."""

from __future__ import annotations

import numpy as np
import pytest

from sdplay.mini import data
from sdplay.mini.looks import FLAT_COLOURS, PALETTES, RAMPS, looks

SIDE = 128


@pytest.fixture
def icon() -> np.ndarray:
    """A disc that shades from dark red to light yellow, with a soft rim."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    shade = np.clip((x / SIDE + 0.5), 0, 1)[..., None]
    rgb = (1 - shade) * (120, 10, 10) + shade * (255, 240, 160)
    alpha = 255 * np.clip(44 - np.hypot(x, y), 0, 1)
    return np.dstack([rgb, alpha]).round().astype(np.uint8)


def colours(icon: np.ndarray) -> set[tuple[int, int, int]]:
    """Those of its opaque pixels."""
    return {tuple(int(channel) for channel in colour) for colour in icon[icon[..., 3] > 127][:, :3]}


@pytest.mark.parametrize("word", sorted(looks()))
def test_the_subject_stays_where_it_was(word: str, icon: np.ndarray) -> None:
    before = icon[..., 3] > 127
    changed = looks()[word](icon)

    after = changed[..., 3] > 127
    assert (changed.shape, changed.dtype) == (icon.shape, icon.dtype)
    assert (before & after).sum() / (before | after).sum() > 0.85
    assert not np.array_equal(changed, icon)


def test_no_word_for_a_look_is_a_word_for_something_else() -> None:
    subjects = {word for name in data.trained_names() for word in data.words(name).split()}

    assert not set(looks()) & {*subjects, *data.BACKGROUNDS, *data.TRAINED_STYLES}


@pytest.mark.parametrize("word", sorted(PALETTES))
def test_a_palette_look_has_no_other_colour(word: str, icon: np.ndarray) -> None:
    assert colours(looks()[word](icon)) <= set(PALETTES[word])


@pytest.mark.parametrize("word", sorted(RAMPS))
def test_a_ramp_goes_from_black_to_white_through_its_colours(word: str) -> None:
    greys = np.full((1, 3, 4), 255, np.uint8)
    greys[0, :, :3] = np.array([0, 127.5, 255]).round()[:, None]

    shown = looks()[word](greys)[0, :, :3].astype(int)

    assert np.abs(shown - np.array(RAMPS[word])).max() <= 1


def test_flat_has_few_colours(icon: np.ndarray) -> None:
    assert 1 < len(colours(looks()["flat"](icon))) <= FLAT_COLOURS


def test_a_sticker_is_the_icon_smaller_inside_a_white_border(icon: np.ndarray) -> None:
    row = looks()["sticker"](icon)[SIDE // 2]

    opaque = np.flatnonzero(row[:, 3] > 127)
    rim, border, inside = (row[opaque[0] + offset] for offset in (1, 5, 12))
    assert abs(rim[:3].astype(int) - (120, 120, 128)).max() < 40
    assert border[:3].min() > 240
    assert inside[0] > inside[1] + 80


def test_a_sketch_is_dark_where_colours_end_and_paper_elsewhere(icon: np.ndarray) -> None:
    drawn = looks()["sketch"](icon)
    visible = drawn[..., 3] > 200
    grey = drawn[..., :3].mean(axis=2)

    assert grey[SIDE // 2, SIDE // 2] > 200
    assert grey[visible].min() < 90
    assert (grey[visible] < 90).mean() < 0.2


def test_an_empty_icon_stays_empty() -> None:
    for look in looks().values():
        assert not look(np.zeros((SIDE, SIDE, 4), np.uint8))[..., 3].any()
