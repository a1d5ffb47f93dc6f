"""A prompt is read once while the text encoders are the base's own, and anew while anything is on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdplay.attach import worn
from sdplay.attach.adapters import Adapter, Host, Shape, text_layers
from sdplay.attach.weights import Weights
from sdplay.attach.words import Words, initial_vectors
from sdplay.device import best_device
from sdplay.families import Parts, sd15
from sdplay.remembered_texts import read_texts, text_mark
from sdplay.sample import even_batch, most_at_once


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return sd15.load(tiny_base, best_device(), source="tiny")


def is_own(parts: Parts) -> bool:
    return parts.text_mark == text_mark(parts.text_encoders, parts.tokenizers)


def test_a_text_is_read_once(parts: Parts) -> None:
    first = read_texts(parts, sd15, ["a dog", ""])
    again = read_texts(parts, sd15, ["", "a dog", "a dog"])

    assert again["a dog"].hidden is first["a dog"].hidden
    assert torch.equal(first["a dog"].hidden, sd15.encode_prompts(parts, ["a dog"]).hidden)


def test_what_is_on_the_text_encoders_is_heard_and_not_remembered(parts: Parts) -> None:
    plain = read_texts(parts, sd15, ["a dog"])["a dog"].hidden
    encoder = parts.text_encoders["text_encoder"]
    weights = Weights({"text_encoder": encoder})
    for value in weights.values.values():
        value.mul_(1.5)

    with worn(parts, weights):
        changed = read_texts(parts, sd15, ["a dog"])["a dog"].hidden
        assert not is_own(parts)

    assert not torch.equal(changed, plain)
    assert is_own(parts)
    assert read_texts(parts, sd15, ["a dog"])["a dog"].hidden is plain


def test_adapters_and_words_are_noticed(parts: Parts) -> None:
    encoder = parts.text_encoders["text_encoder"]
    adapter = Adapter(Shape("lora", 2, 2), {"text_encoder": Host(encoder, text_layers(encoder, "attention"))}, seed=0)

    with worn(parts, adapter):
        assert not is_own(parts)
    with worn(parts, Words(parts, "sks", initial_vectors(parts, "", 2, 0))):
        assert not is_own(parts)

    assert is_own(parts)


def test_batches_are_even_and_no_larger_than_they_may_be(parts: Parts) -> None:
    assert [even_batch(count, 8) for count in (1, 8, 9, 16, 17, 24)] == [1, 8, 5, 8, 6, 8]
    assert most_at_once(parts, 64 * 64) == 8
    assert most_at_once(parts, 1024 * 1024) == 2
