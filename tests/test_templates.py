from __future__ import annotations

import pytest

from sdplay.errors import TemplateError
from sdplay.templates import Values, check, count, expand_all, expand_one, shuffled_tags, split_negative, token_warning, uses

GNOME = Values(token="sks", class_word="gnome", caption="in a garden", style="watercolour")


@pytest.mark.parametrize(
    ("template", "prompts"),
    [
        ("plain words", ["plain words"]),
        ("{token} {class}, {caption}, {style}", ["sks gnome, in a garden, watercolour"]),
        ("{ token }", ["sks"]),
        ("{red|blue} {class}", ["red gnome", "blue gnome"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{a|{b|c} d}", ["a", "b d", "c d"]),
        ("{a|{b|c}}", ["a", "b", "c"]),
        ("{a|{token}}", ["a", "sks"]),
        ("{ {token}|a}", ["sks", "a"]),
        ("{big |}{class}", ["big gnome", "gnome"]),
        ("{|}", [""]),
        ("", [""]),
        ("one | two", ["one | two"]),
        ("{token|class}", ["token", "class"]),
    ],
)
def test_a_template_stands_for_these_prompts_in_reading_order(template: str, prompts: list[str]) -> None:
    assert expand_all(template, GNOME) == prompts


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{token}}", "{token}"),
        ("{{{token}}}", "{sks}"),
        ("a }} b {{ c", "a } b { c"),
        ("{{a|b}}", "{a|b}"),
    ],
)
def test_doubled_braces_stay_in_the_prompt_as_braces(template: str, prompt: str) -> None:
    assert expand_all(template, GNOME) == [prompt]


def test_doubled_braces_work_inside_a_branch() -> None:
    assert expand_all("{a|{{b}}|c}", GNOME) == ["a", "{b}", "c"]
    assert expand_all("{a|{{b}}}", GNOME) == ["a", "{b}"]
    assert expand_all("{a|b}}}", GNOME) == ["a}", "b}"]


def test_braces_in_a_caption_are_not_read_as_a_template() -> None:
    caption = "{red|blue} {token} }{"

    assert expand_all("{class}: {caption}", Values(class_word="cat", caption=caption)) == [f"cat: {caption}"]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("a photo of {token} {class}, {caption}", "a photo of"),
        ("{caption}, {token} style", "style"),
        ("cat, {caption}, {style}, blue", "cat, blue"),
        ("cat , dog", "cat, dog"),
        (", , cat,, dog ,", "cat, dog"),
        ("a   cat\n on  a mat", "a cat on a mat"),
        ("1,000 cats", "1,000 cats"),
    ],
)
def test_empty_variables_leave_no_gaps_and_no_commas(template: str, prompt: str) -> None:
    assert expand_all(template, Values()) == [prompt]


def test_prompts_that_come_out_equal_appear_once() -> None:
    assert expand_all("{a|b|a}", Values()) == ["a", "b"]
    assert expand_all("{ {token}|{style}|x}", Values()) == ["", "x"]


def test_expand_one_goes_round_the_prompts() -> None:
    assert [expand_one("{a|b|c}", Values(), choice) for choice in (0, 1, 2, 3, -1)] == ["a", "b", "c", "a", "c"]


@pytest.mark.parametrize(("template", "combinations"), [("x", 1), ("{a|b}", 2), ("{a|b}{c|d|e}", 6), ("{a|{b|c}{d|e}}", 5), ("{a|a}", 2)])
def test_count_multiplies_neighbours_and_adds_branches(template: str, combinations: int) -> None:
    assert count(template) == combinations


def test_uses_finds_variables_in_every_branch() -> None:
    assert uses("{token}, {a|{style} {b|{caption}}}") == {"token", "style", "caption"}
    assert uses("{{token}}") == set()


@pytest.mark.parametrize(("written", "meant"), [("tokn", "token"), ("Class", "class"), ("captions", "caption"), ("styl", "style")])
def test_a_misspelt_variable_is_answered_with_the_near_one(written: str, meant: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check(f"a {{{written}}}")

    assert f"{{{written}}}" in caught.value.message
    assert f"{{{meant}}}" in caught.value.hint


def test_a_strange_variable_is_answered_with_the_list() -> None:
    with pytest.raises(TemplateError, match=r"Known are \{token\}, \{class\}, \{caption\}, \{style\}"):
        check("{weather}")


@pytest.mark.parametrize(
    ("template", "character"),
    [
        ("a {token", 3),
        ("a token}", 8),
        ("{a|b", 1),
        ("{a|{b|c}", 1),
        ("{{token}|a}", 8),
        ("{a}}|b}", 1),
        ("x {}", 3),
        ("{a {b|c}}", 1),
    ],
)
def test_a_wrong_brace_is_named_by_its_character(template: str, character: int) -> None:
    with pytest.raises(TemplateError, match=rf"at character {character}\b"):
        check(template)


def test_length_is_limited_to_four_thousand_characters() -> None:
    check("x" * 4000)

    with pytest.raises(TemplateError, match="4001 characters"):
        check("x" * 4001)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat --n blurry, dark", ("a cat", "blurry, dark")),
        ("a cat", ("a cat", "")),
        ("a cat --night", ("a cat --night", "")),
        ("--n dog", ("", "dog")),
    ],
)
def test_a_prompt_may_bring_its_own_negative(prompt: str, parts: tuple[str, str]) -> None:
    assert split_negative(prompt) == parts


def test_combinations_are_limited_to_sixty_four() -> None:
    check("{a|b}" * 6)  # 2^6 = 64

    for template in ("{a|b}" * 7, "{" + "|" * 64 + "}", "{a|b}" * 200, "{|" * 330 + "}" * 330):
        with pytest.raises(TemplateError, match="64 combinations"):
            check(template)


@pytest.mark.parametrize("token", ["", "   "])
def test_an_empty_token_is_warned_about(token: str) -> None:
    assert "empty" in str(token_warning(token, set()))


@pytest.mark.parametrize("token", ["dog", "Dog", " dog "])
def test_an_ordinary_word_as_token_gets_a_rarer_one_suggested(token: str) -> None:
    warning = token_warning(token, {"dog"})

    assert warning is not None
    assert "ordinary word" in warning
    assert "dog-sks" in warning
    assert "'sksdog'" in warning


def test_a_made_up_token_is_fine() -> None:
    assert token_warning("sksdog", {"dog"}) is None
    assert token_warning("sks dog", {"dog"}) is None


def test_shuffled_tags_keep_the_first_and_lose_none() -> None:
    backwards = lambda count: range(count - 1, -1, -1)  # noqa: E731

    assert shuffled_tags("a fox, red, sitting ,snow", 1, backwards) == "a fox, snow, sitting, red"
    assert shuffled_tags("a fox", 0, backwards) == "a fox"
    assert shuffled_tags("", 1, backwards) == ""
    assert shuffled_tags("a, b", 5, backwards) == "a, b"
