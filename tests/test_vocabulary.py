"""Words that a base was never shown: which are told, and when nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdplay.engine import Engine
from sdplay.mini import data
from sdplay.mini.looks import looks
from sdplay.mini.ship import write_vocabulary
from sdplay.vocabulary import FILE, KnownWords, Stranger, words_in
from sdplay.workspace import PRESETS
from tests.test_train import trained, values


def told(engine: Engine, prompt: str, *, columns: tuple[str, ...] = ("base",), base: str = "mini") -> dict[str, str]:
    return {one.word: one.near for one in engine.known_words.strangers(base, columns, [prompt])}


def test_the_embedded_base_knows_the_words_of_its_captions(engine: Engine) -> None:
    for name in data.trained_names():
        for style in (*data.TRAINED_STYLES, *looks()):
            assert not told(engine, data.caption(name, style, "blue"))


def test_other_words_are_told_with_what_may_have_been_meant(engine: Engine) -> None:
    assert told(engine, "a fox in paris, skech style") == {"paris": "", "skech": "sketch"}
    assert told(engine, "over") == {"over": ""}, "not clover"
    assert told(engine, "aeroplane") == {"aeroplane": "airplane"}, "another name, from synonyms.txt"
    assert told(engine, "seven apples, noto style") == {"apples": "apple", "seven": ""}, "it was shown one thing at a time"


def test_signs_are_no_words(engine: Engine) -> None:
    assert not told(engine, "(red apple:1.3) BREAK {fox|cat}, __animal/*__ <lora:some:1> --n blurry hands")
    assert words_in(["A Red (apple:1.2), don't"]) == {"a", "red", "apple", "don't"}


def test_what_a_run_was_shown_is_known_and_what_a_file_knows_nobody_says(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, token="zwx", sample_prompts=[]))
    asked = "purple ball, zwx style, paris"

    assert set(told(engine, asked)) == {"paris", "zwx"}
    assert set(told(engine, asked, columns=("base", f"{run.id}@2:0.5"))) == {"paris"}
    assert not told(engine, asked, columns=("base", "some.safetensors"))
    assert not told(engine, asked, columns=("base", "no-such-run"))


def test_bases_that_do_not_say_are_not_spoken_of(engine: Engine, tiny_base: Path, tmp_path: Path) -> None:
    assert engine.known_words.vocabulary(str(tiny_base)) is None
    for no_folder in ("owner/name", "~nobody-here", "x" * 5000, "a\0b"):
        assert engine.known_words.vocabulary(no_folder) is None
    assert not told(engine, "paris", base=str(tiny_base))
    (tmp_path / FILE).write_text("words: of another program")
    assert engine.known_words.vocabulary(str(tmp_path)) is None


def test_the_file_is_what_the_recipe_writes(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / FILE)

    assert (tmp_path / FILE).read_text() == (PRESETS / "mini" / FILE).read_text()


@pytest.mark.parametrize("word", ["mushrom", "guitars", "Noto"])
def test_small_mistakes_find_their_word(engine: Engine, word: str) -> None:
    found: list[Stranger] = KnownWords(engine.workspace, engine.datasets).strangers("mini", ["base"], [word])

    assert not found if word == "Noto" else found[0].near
