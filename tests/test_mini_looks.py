"""Styles that the embedded base learns beside those of the icon sets: what is done to an icon, and that its subject stays."""

from __future__ import annotations

import numpy as np
import pytest

from sdplay.mini import data
from sdplay.mini.looks import FLAT_COLOURS, INVENTED, PALETTES, PIXELS, RAMPS, SQUASHED, inked, invented, looks, placed, simple

SIDE = 128
MOVED = {"puffy", "tall", "leaning", "wide"}
"""Looks that leave less of the subject where it was."""


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


@pytest.mark.parametrize("word", [*sorted(looks()), *invented()])
def test_the_subject_stays_where_it_was(word: str, icon: np.ndarray) -> None:
    before = icon[..., 3] > 127
    changed = {**looks(), **invented()}[word](icon)

    after = changed[..., 3] > 127
    assert (changed.shape, changed.dtype) == (icon.shape, icon.dtype)
    assert (before & after).sum() / (before | after).sum() > (0.6 if word in MOVED | set(invented()) else 0.85)
    assert np.abs(np.argwhere(after).mean(axis=0) - (SIDE - 1) / 2).max() < 2, "it is still in the middle"
    assert not np.array_equal(changed, icon)


def test_no_word_for_a_look_is_a_word_for_something_else() -> None:
    subjects = {word for name in data.trained_names() for word in data.words(name).split()}

    assert not set(looks()) & {*subjects, *data.BACKGROUNDS, *data.TRAINED_STYLES}
    assert len(set(invented()) - set(looks()) - subjects) == INVENTED


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


def test_squeezed_shapes_have_their_sides(icon: np.ndarray) -> None:
    whole, wide, tall = (np.argwhere(made[..., 3] > 127) for made in (icon, looks()["wide"](icon), looks()["tall"](icon)))

    for made, axis in ((wide, 0), (tall, 1)):
        assert np.ptp(made[:, axis]) == pytest.approx(SQUASHED * np.ptp(whole[:, axis]), abs=2)
        assert np.ptp(made[:, 1 - axis]) == pytest.approx(np.ptp(whole[:, 1 - axis]), abs=2)


def test_leaning_is_turned_to_the_left() -> None:
    bar = np.zeros((SIDE, SIDE, 4), np.uint8)
    bar[SIDE // 2 - 8 : SIDE // 2 + 8, 16:-16] = 255

    row, column = np.argwhere(looks()["leaning"](bar)[..., 3] > 127).T

    assert row[column > SIDE // 2].mean() < SIDE / 2 - 8, "its right end has gone up"


def test_pixels_are_squares_of_one_colour(icon: np.ndarray) -> None:
    drawn = looks()["pixel"](icon)

    blocks = drawn.reshape(PIXELS, SIDE // PIXELS, PIXELS, SIDE // PIXELS, 4)
    assert (np.ptp(blocks, axis=(1, 3)) == 0).all()
    assert set(np.unique(drawn[..., 3])) == {0, 255}


def test_rows_of_wavy_are_moved_and_nothing_else(icon: np.ndarray) -> None:
    drawn, inner = looks()["wavy"](icon), placed(icon, wide=1 - 10 / SIDE)

    assert all(sorted(map(tuple, one.tolist())) == sorted(map(tuple, other.tolist())) for one, other in zip(drawn, inner, strict=True))


def test_simple_drops_what_is_thin_and_keeps_edges_sharp(icon: np.ndarray) -> None:
    icon[60:62, 40:90, :3] = 0
    drawn = simple(icon, 9)

    assert drawn[60:62, 50:80, 0].min() > 100
    assert simple(icon, 1) is icon


def test_ink_is_all_around_and_nowhere_else(icon: np.ndarray) -> None:
    drawn = inked(icon, (10, 20, 30), 3)
    row = drawn[SIDE // 2]
    first = np.flatnonzero(row[:, 3] > 200)[0]

    assert np.abs(row[first, :3].astype(int) - (10, 20, 30)).max() < 30
    assert np.array_equal(row[first + 8, :3] > 100, icon[SIDE // 2, first + 8, :3] > 100)


def test_an_invented_style_is_the_same_every_time_and_unlike_the_others(icon: np.ndarray) -> None:
    once, again = ({word: look(icon) for word, look in invented().items()} for _ in range(2))

    assert all(np.array_equal(once[word], again[word]) for word in once)
    assert len({drawn.tobytes() for drawn in once.values()}) == INVENTED


def test_an_empty_icon_stays_empty() -> None:
    for look in (*looks().values(), *invented().values()):
        assert not look(np.zeros((SIDE, SIDE, 4), np.uint8))[..., 3].any()
