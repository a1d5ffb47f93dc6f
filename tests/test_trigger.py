from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pytest

from sdplay.engine import Engine
from sdplay.hub import MINI
from sdplay.trigger import MOST_CANDIDATES, PROPOSED, candidates, judge
from sdplay.workspace import PRESETS


@cache
def clip() -> tuple[dict[str, int], "CLIPTokenizer"]:  # noqa: F821, UP037
    """The vocabulary that all Stable Diffusion bases have: bytes, bytes that end a word, then 48,894 merges."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    lines = gzip.decompress((PRESETS / "layouts" / "clip_merges.txt.gz").read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    visible = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*visible, *(sign + "</w>" for sign in visible), *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return vocabulary, CLIPTokenizer(vocab=vocabulary, merges=merges)


def report(word: str):  # noqa: ANN201
    vocabulary, tokenizer = clip()
    return judge(word, vocabulary, tokenizer.tokenize)


def test_the_vocabulary_is_clips() -> None:
    assert len(clip()[0]) == 49408


@pytest.mark.parametrize("word", ["dog", "red fox", "Rocket"])
def test_a_word_the_base_knows_is_warned_about_with_its_place(word: str) -> None:
    told = report(word)

    assert told.level == "warning"
    assert "The base knows" in told.text
    assert "of 49,408" in told.text
    assert all(piece.known for piece in told.pieces)


def test_a_rare_word_is_fine_and_one_with_a_known_word_inside_is_noted() -> None:
    assert report("ohwx").level == "good"
    assert report("sksfox").level == "note"
    assert "“fox”" in report("sksfox").text


def test_a_common_word_has_a_lower_place_than_a_rarer_one() -> None:
    assert report("the").pieces[0].place < report("dog").pieces[0].place


def test_a_long_word_and_no_word_are_warned_about() -> None:
    assert "tokens of every prompt" in report("supercalifragilisticexpialidocious").text
    assert report(" ").text == "There is no trigger word."


def test_candidates_are_single_rare_tokens_of_the_bases_own_vocabulary() -> None:
    vocabulary, tokenizer = clip()

    found = candidates(vocabulary, tokenizer.tokenize)

    assert len(found) == MOST_CANDIDATES
    assert [tokenizer.tokenize(word) for word in found] == [[f"{word}</w>"] for word in found]
    assert all(vocabulary[f"{word}</w>"] > 0.9 * len(vocabulary) for word in found)
    assert found == candidates(vocabulary, tokenizer.tokenize)


def test_what_is_typed_already_is_not_proposed() -> None:
    vocabulary, tokenizer = clip()
    first = candidates(vocabulary, tokenizer.tokenize)[0]

    assert first not in judge(first.upper(), vocabulary, tokenizer.tokenize).candidates


def test_every_candidate_of_the_embedded_base_is_judged_well_by_it(engine: Engine) -> None:
    told = engine.judge_trigger(MINI, "fox")

    assert told.level == "warning"
    assert len(told.candidates) == MOST_CANDIDATES
    assert {engine.judge_trigger(MINI, word).level for word in told.candidates} == {"good"}
    assert set(told.candidates) <= set(PROPOSED)


def test_any_base_can_be_asked(engine: Engine, tiny_base: Path) -> None:
    assert engine.judge_trigger(str(tiny_base), "dog").pieces[0].text == "dog"
