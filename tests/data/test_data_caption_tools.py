"""Changing many captions at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdplay.data import Example, caption_tools
from sdplay.errors import DataError


def examples(*captions: str, sources: tuple[str, ...] = ()) -> list[Example]:
    names = sources or tuple(f"{index}.png" for index in range(len(captions)))
    return [Example(str(i), Path(f"{i}.png"), text, 64, 64, names[i], (), place=i) for i, text in enumerate(captions)]


def test_only_captions_that_change_are_given() -> None:
    assert caption_tools.replaced(examples("a dog", "a cat", ""), "dog", "fox") == {"0": "a fox"}


def test_a_pattern_may_use_groups() -> None:
    changed = caption_tools.replaced_by_pattern(examples("a dog on grass", "grass"), r"(\w+) on (\w+)", r"\2 under \1")

    assert changed == {"0": "a grass under dog"}


@pytest.mark.parametrize(
    ("pattern", "by", "says"), [("(dog", "x", "cannot be read"), ("dog", r"\3", "replacement|cannot be read"), ("", "x", "nothing to find")]
)
def test_a_bad_pattern_gets_a_sentence(pattern: str, by: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        caption_tools.replaced_by_pattern(examples("a dog"), pattern, by)


def test_a_pattern_that_would_take_for_ever_is_stopped() -> None:
    started = time.monotonic()

    with pytest.raises(DataError, match="too long"):
        caption_tools.replaced_by_pattern(examples("a" * 900 + "!"), r"(a|aa)+$", "x")

    assert time.monotonic() - started < 10


def test_words_are_put_in_front_and_behind_once() -> None:
    front = caption_tools.put_in_front(examples("a dog", "A photo of a dog", ""), "a photo of")
    behind = caption_tools.put_behind(examples("a dog", "a dog, film grain"), " film grain ,")

    assert front == {"0": "a photo of, a dog", "2": "a photo of"}
    assert behind == {"0": "a dog, film grain"}


def test_the_trigger_is_put_where_it_is_missing_as_a_word() -> None:
    changed = caption_tools.with_trigger(examples("a SKS dog", "sksbury", "a dog"), "sks")

    assert changed == {"1": "sks, sksbury", "2": "sks, a dog"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("red_apple-02.png", "red apple"), ("IMG_2041.jpg", ""), ("00.jpg", ""), ("birthdayCake.png", "birthday cake"),
        ("DSC01234.JPG", ""), ("pxl_20240101_120000.jpg", ""), ("sub/lady beetle (3).webp", "lady beetle"),
    ],
)  # fmt: skip
def test_a_file_name_says_what_a_person_wrote_into_it(source: str, words: str) -> None:
    assert caption_tools.words_of(source) == words


def test_names_caption_only_what_has_none() -> None:
    assert caption_tools.named_after_files(examples("kept", "", sources=("a.png", "red_apple.png"))) == {"1": "red apple"}


def test_names_that_say_nothing_get_a_sentence() -> None:
    with pytest.raises(DataError, match="only numbers"):
        caption_tools.named_after_files(examples("", "", sources=("01.png", "02.png")))


def test_a_template_is_filled_for_each_picture() -> None:
    changed = caption_tools.filled(examples("sitting", "", sources=("red_fox.png", "7.png")), "a {name}, {caption}, no {number}")

    assert changed == {"0": "a red fox, sitting, no 1", "1": "a , , no 2"}


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda given: caption_tools.filled(given, "a {thing}"), "{thing}"),
        (lambda given: caption_tools.filled(given, " "), "empty"),
        (lambda given: caption_tools.put_in_front(given, " , "), "nothing to add"),
        (lambda given: caption_tools.with_trigger(given, " "), "no trigger word"),
        (lambda given: caption_tools.replaced(given, "", "x"), "nothing to find"),
    ],
)
def test_a_tool_without_its_words_gets_a_sentence(do: Callable[[list[Example]], object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        do(examples("a dog"))
