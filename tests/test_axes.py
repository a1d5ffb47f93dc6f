"""Lists of values as people write them, and what they change."""

from __future__ import annotations

import pytest

from sdplay.axes import Spec, axis, check_axes, parse_axes, parse_numbers, parse_values, spec_of, value_label
from sdplay.comparisons import checked_config, effort_of
from sdplay.config import CompareConfig, GenerateConfig
from sdplay.drawing_plan import plan
from sdplay.errors import ConfigError


def asked(**changes: object) -> CompareConfig:
    return checked_config({"columns": ["base", "my-run", "file.safetensors:0.5"], "prompts": ["a", "b"], "seeds": [1, 2], **changes})


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1, 2, .., 10", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("1,2,..,5, 9", [1, 2, 3, 4, 5, 9]),
        ("2, 4, .., 9", [2, 4, 6, 8, 9]),
        ("10, .., 7", [10, 9, 8, 7]),
        ("1..4", [1, 2, 3, 4]),
        ("1 .. 10 : 4", [1, 5, 9]),
        ("5..1:2", [5, 3, 1]),
        ("7", [7]),
        ("3 1; 2", [3, 1, 2]),
        ("-2..2:2", [-2, 0, 2]),
    ],
)
def test_whole_numbers_and_ranges(text: str, numbers: list[int]) -> None:
    assert parse_numbers(text, "Steps", whole=True) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.2..1:0.2", [0.2, 0.4, 0.6, 0.8, 1.0]), ("0, 0.1, .., 0.4", [0, 0.1, 0.2, 0.3, 0.4]), ("1..0.2:0.4", [1, 0.6, 0.2]), (".5", [0.5])],
)
def test_fractions_have_no_rounding_tail(text: str, numbers: list[float]) -> None:
    assert parse_numbers(text, "Strength", whole=False) == numbers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1, x", "'x' is not a number"),
        (".., 3", "dots need a number before"),
        ("1, ..", "dots need a number before"),
        ("5, 4, .., 9", "9 cannot be reached from 4 in steps of -1"),
        ("1..5:0", "cannot be reached"),
        ("1..5000", "5000 values; 64 are the most"),
        ("1.5", "1.5 is not a whole number"),
        ("1e99", "out of range"),
        ("nan", "not a number"),
        ("2, 1..3", "2 is there twice"),
    ],
)
def test_a_list_that_cannot_be_read_is_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_values(text, axis("checkpoint"))


def test_texts_are_parted_by_bars_so_that_they_may_have_commas() -> None:
    assert parse_values("- | oil painting, thick | {prompt}, blue", axis("style")) == ["-", "oil painting, thick", "{prompt}, blue"]
    assert parse_values("oil, ink", axis("style")) == ["oil", "ink"]


def test_empty_axes_are_left_out() -> None:
    assert parse_axes({"strength": " ", "steps": "1,2"}) == {"steps": (1, 2)}


@pytest.mark.parametrize(
    ("axes", "says"),
    [({"colour": (1,)}, "no axis 'colour'"), ({"strength": (9,)}, "out of range"), ({"steps": (0,)}, "Denoising steps"),
     ({"steps": ()}, "no values"), ({"guidance_scale": (3, 3)}, "twice")],
)  # fmt: skip
def test_an_axis_that_cannot_be_drawn_is_refused(axes: dict[str, tuple[float, ...]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_axes(CompareConfig(prompts=("a",), axes=axes))


def test_axes_change_what_they_are_named_after() -> None:
    config = asked(axes={"style": ["-", "ink"], "checkpoint": [50, 100], "strength": [0.5], "steps": [5]})

    assert list(config.axes) == ["checkpoint", "strength", "steps", "style"], "the costliest to change stand first"
    assert spec_of(config, 1, 0, 7, (1, 0, 0, 1)) == Spec("my-run@100", "a, ink", 7, GenerateConfig(steps=5), 0.5)
    assert spec_of(config, 2, 1, 7, (1, 0, 0, 0)) == Spec("file.safetensors:0.5", "b", 7, GenerateConfig(steps=5), 0.5)
    assert spec_of(config, 0, 0, 7, (1, 0, 0, 0)) == Spec("base", "a", 7, GenerateConfig(steps=5)), "the base has neither"


def test_a_style_may_take_the_prompt_into_its_middle() -> None:
    config = asked(axes={"style": ["a mosaic of {prompt} in stone"]})

    assert spec_of(config, 0, 1, 1, (0,)).prompt == "a mosaic of b in stone"


def test_places_that_show_the_same_picture_are_drawn_once() -> None:
    config = asked(columns=["base", "my-run"], axes={"strength": [0.5, 1.0]})

    effort = effort_of(config)

    assert config.num_cells == 16
    assert effort.pictures == 4 + 8  # the base has no strength: 2 prompts x 2 seeds; the run 2 strengths more
    assert effort.loads == 3
    assert effort.steps == 12 * config.drawing.steps


def test_each_set_of_adapters_is_put_on_the_base_once() -> None:
    config = asked(axes={"strength": [0.2, 0.4], "steps": [5, 10], "style": ["-", "ink"]})
    specs = [
        spec_of(config, column, prompt, seed, (strength, steps, style))
        for seed in (1, 2) for prompt in (0, 1) for style in (0, 1) for steps in (0, 1) for strength in (0, 1) for column in (0, 1, 2)
    ]  # fmt: skip

    loads = plan(specs)

    assert [(load.column, load.strength) for load in loads] == list(dict.fromkeys((spec.column, spec.strength) for spec in specs))
    assert len({(load.column, load.strength) for load in loads}) == len(loads) == 5
    assert all(len(load.batches) == 2 for load in loads), "one call for each number of steps"
    assert {spec for load in loads for batch in load.batches for spec in batch.specs} == set(specs)


def test_labels_are_short_words() -> None:
    values = {"strength": 0.5, "checkpoint": 50, "style": "ink", "guidance_from": "base"}
    assert [value_label(name, value) for name, value in values.items()] == ["strength 0.5", "checkpoint 50", "ink", "away from base"]
