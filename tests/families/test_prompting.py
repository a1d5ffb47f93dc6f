"""Weights, long prompts and BREAK, for every family; and that prompts without them are read as they always were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdplay.config import GenerateConfig
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import Conditioning, Reading, family
from sdplay.prompting import is_plain, parse_prompt, plain_text
from sdplay.sample import Shot, texts_of
from tests.families.test_contract import CASES, Case

WHOLE = Reading(whole=True)
LONG = "a red ball and a dog, " * 12


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name, fixture = request.param
    return Case(name, request.getfixturevalue(fixture))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red ball", [[("a red ball", 1.0)]]),
        ("a (red:1.5) ball", [[("a ", 1.0), ("red", 1.5), (" ball", 1.0)]]),
        ("((a:1.5) b:2) c", [[("a", 3.0), (" b", 2.0), (" c", 1.0)]]),
        ("a (ball) 16:9)", [[("a (ball) 16:9)", 1.0)]]),
        (r"fox \(animal\)", [[("fox (animal)", 1.0)]]),
        ("open (one :) (two", [[("open (one :) (two", 1.0)]]),
        ("sky BREAK (sea:.5)", [[("sky", 1.0)], [("sea", 0.5)]]),
        ("", [[("", 1.0)]]),
    ],
)
def test_signs_are_read(text: str, parts: list[list[tuple[str, float]]]) -> None:
    assert parse_prompt(text) == parts
    assert is_plain(text) == (parts == [[(text, 1.0)]])


def test_a_weight_nobody_can_mean_is_refused() -> None:
    with pytest.raises(ConfigError, match="the weight 120"):
        parse_prompt("a (ball:120)")


def read(case: Case, *prompts: str, negative: str = "", clip_skip: int = 1) -> list[tuple[Conditioning, Conditioning]]:
    parts = family(case.family).load(case.folder, best_device(), source="tiny")
    config = GenerateConfig(negative_prompt=negative, clip_skip=clip_skip)
    with torch.no_grad():
        texts = texts_of(parts, family(case.family), [Shot(prompt, 1) for prompt in prompts], config)
    return [(texts[prompt].conditioning, texts[prompt].negative) for prompt in prompts]


@torch.no_grad()
def test_short_prompts_without_weights_are_read_as_in_training_to_the_bit(case: Case) -> None:
    parts = case.load()
    expected = family(case.family).encode_prompts(parts, ["bad", "a dog", "a red ball"]).rows()

    found = read(case, "a dog", "a red ball", negative="bad")

    assert [torch.equal(conditioning.hidden, row.hidden) for (conditioning, _), row in zip(found, expected[1:], strict=True)] == [True] * 2
    assert torch.equal(found[0][1].hidden, expected[0].hidden)


@torch.no_grad()
def test_a_weight_of_1_changes_nothing_and_the_library_reads_a_text_as_we_do(case: Case) -> None:
    parts, chosen = case.load(), family(case.family)

    whole = chosen.encode_prompts(parts, ["a (red:1.0) ball"], WHOLE)
    plain = chosen.encode_prompts(parts, ["a red ball"])

    assert torch.allclose(whole.hidden, plain.hidden, atol=1e-5)
    assert whole.pooled is None or torch.equal(whole.pooled, plain.pooled)


@torch.no_grad()
def test_a_weight_moves_its_own_words_away_from_the_empty_text(case: Case) -> None:
    """compel: empty + weight x (word - empty), for the tokens of the word alone. `dog` is token 3 after the start, `a` and blanks."""
    parts, chosen = case.load(), family(case.family)
    plain, empty = chosen.encode_prompts(parts, ["a dog a"]).hidden, chosen.encode_prompts(parts, [""]).hidden
    place = parts.tokenizers["text_encoder"]("a dog a").input_ids.index(parts.tokenizers["text_encoder"]("dog").input_ids[1])

    weighted = chosen.encode_prompts(parts, ["a (dog:1.5) a"], WHOLE).hidden

    assert torch.allclose(weighted[:, place], empty[:, place] + 1.5 * (plain[:, place] - empty[:, place]), atol=1e-5)
    others = [index for index in range(plain.shape[1]) if index != place]
    assert torch.allclose(weighted[:, others], plain[:, others], atol=1e-5)


def test_a_long_prompt_is_read_to_its_end_in_chunks(case: Case) -> None:
    (one, negative), (other, _) = read(case, LONG + "dog", LONG + "do")
    more = 77 * (-(-len(LONG) // 77))  # the tiny tokenizer has a token for most letters

    assert one.hidden.shape == negative.hidden.shape
    assert one.hidden.shape[1] > 77 + (256 if case.family == "sd3" else 0)
    assert one.hidden.shape[1] <= more + 77 + 256
    assert not torch.equal(one.hidden, other.hidden), "the last word is heard"


@torch.no_grad()
def test_break_begins_a_part_of_its_own(case: Case) -> None:
    parts, chosen = case.load(), family(case.family)

    both = chosen.encode_prompts(parts, ["a dog BREAK a ball"], WHOLE).hidden
    alone = chosen.encode_prompts(parts, ["a ball"]).hidden

    assert torch.allclose(both[:, 77:154], alone[:, :77], atol=1e-5)


def test_pictures_of_long_and_weighted_prompts_do_not_depend_on_their_neighbours(engine: Engine, case: Case) -> None:
    from tests.test_train import pixels

    drawing = {"steps": 2, "negative_prompt": "a (dog:1.3)"}
    together = engine.draw(["a ball", LONG, "a (ball:0.5)"], [1], drawing, base_model=str(case.folder))

    for shot in together:
        alone = engine.draw([shot.prompt], [1], drawing, base_model=str(case.folder))[0]
        assert abs(pixels(alone.path) - pixels(shot.path)).max() <= 1


def test_the_embedded_base_reads_weights_and_long_prompts(engine: Engine, tmp_path: Path) -> None:
    from tests.test_train import pixels

    weighted = ["red apple, (noto style:0.2)", "red apple, noto style, " * 20]
    plain, *others = engine.draw(["red apple, noto style", *weighted], [1], {"steps": 2})

    assert all((pixels(other.path) != pixels(plain.path)).any() for other in others)
    assert plain_text("a (red:1.2) BREAK ball") == "a red ball"
