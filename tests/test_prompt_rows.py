from __future__ import annotations

import pytest

from sdplay.errors import ConfigError, TemplateError
from sdplay.presets import compose_training, training_preset
from sdplay.prompt_rows import PromptRow, parse_row, parse_rows, to_lines
from sdplay.prompt_sets import PromptSet

BOTH = ("sample", "compare")


def test_a_line_holds_a_template_and_its_flags() -> None:
    row = parse_row("{token} as a king --n blurry, dark --weight 2.5 --name The king", ("train",))

    assert row == PromptRow("{token} as a king", ("train",), "The king", "blurry, dark", 2.5)
    assert row.prompt == "{token} as a king --n blurry, dark"


def test_a_sample_prompt_may_be_for_comparisons_only() -> None:
    assert parse_row("{class} --only compare", BOTH).uses == ("compare",)
    assert parse_row("{class}", BOTH).uses == BOTH


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a --weigth 2", "no flag --weigth"),
        ("a --weight two", "not a number"),
        ("a --weight 0", "out of range"),
        ("a --weight 101", "out of range"),
        ("a --n", "Nothing stands behind --n"),
        ("a --only train", "--only train means nothing here"),
    ],
)
def test_a_wrong_flag_gets_a_sentence(line: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        parse_row(line, BOTH)


def test_a_line_in_both_lists_is_one_row_and_comes_out_as_it_went_in() -> None:
    train = ["a {token} --weight 3 --name Plain", "{caption}"]
    sample = ["a {token} --name Plain", "{class} --n red --only compare", "x --only sample"]

    rows = parse_rows(train, sample)

    assert [row.uses for row in rows] == [("train", "sample", "compare"), ("train",), ("compare",), ("sample",)]
    assert to_lines(rows) == (train, sample)


def test_words_with_dashes_are_words() -> None:
    assert parse_row("a close-up -- really, of 50--60 t-shirts", ("train",)).text == "a close-up -- really, of 50--60 t-shirts"


def test_a_set_tells_training_and_comparisons_what_is_theirs() -> None:
    words = PromptSet(
        name="a", title="A", train=("a {token} --weight 2", "{caption}"),
        sample=("x --n dark", "y --only compare", "z --only sample"),
    )  # fmt: skip

    assert words.caption_templates == ["a {token}", "{caption}"]
    assert words.template_weights == [2.0, 1.0]
    assert words.prompts("sample") == ["x --n dark", "z"]
    assert words.prompts("compare") == ["x --n dark", "y"]


def test_weights_reach_the_training_config_unless_the_templates_are_replaced() -> None:
    words = PromptSet(name="a", title="A", train=("a {token} --weight 2", "{caption}"), sample=("x",))
    preset = training_preset("quick")

    assert compose_training(preset, words, {})["template_weights"] == [2.0, 1.0]
    assert compose_training(preset, words, {"caption_templates": ["{token}"]})["template_weights"] == []


def test_a_flag_that_cannot_be_read_names_its_line() -> None:
    with pytest.raises(TemplateError, match=r"In 'x --wait 2': There is no flag --wait"):
        PromptSet(name="a", title="A", train=("x --wait 2",), sample=("x",))
    with pytest.raises(ConfigError, match="'train' has 0 entries"):
        PromptSet(name="a", title="A", train=(), sample=("x",))
