"""How CLIP reads texts: what every family with a CLIP text encoder shares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from sdplay.errors import ConfigError
from sdplay.families import AS_TRAINED, Reading, TokenCount
from sdplay.prompting import plain_text, whole_states

if TYPE_CHECKING:
    from sdplay.families import Parts


def token_ids(parts: Parts, name: str, texts: Sequence[str], *, length: int | None = None) -> Tensor:
    """(B, length) on the base's device for the text encoder `name`, with start and end; longer texts are cut.

    length: the tokenizer's own when not given.
    """
    tokenizer = parts.tokenizers[name]
    ids = tokenizer(
        list(texts), padding="max_length", max_length=length or tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids.to(parts.device)


def last(parts: Parts, name: str, texts: Sequence[str], how: Reading) -> Tensor:
    """(B, L, width) states of SD 1.x and 2.x: the last layer's, or an earlier one's, normed as if it were the last."""

    def states(encoder: Any, ids: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ANN401  transformers' own
        if how.clip_skip == 1:
            return encoder(ids, attention_mask=mask).last_hidden_state
        encoded = encoder(ids, attention_mask=mask, output_hidden_states=True)
        return encoder.final_layer_norm(_layer(encoded.hidden_states, how.clip_skip))

    if how.whole:
        return whole_states(parts, name, texts[0], states)
    return states(parts.text_encoders[name], token_ids(parts, name, texts), None)


def penultimate(parts: Parts, name: str, texts: Sequence[str], how: Reading) -> tuple[Tensor, Tensor]:
    """(B, L, width) states before the last layer, as SDXL and SD3 read them, and the encoder's first output: pooled if it projects.

    Read whole, a text is pooled without its weights, as far as the context goes.
    """

    def states(encoder: Any, ids: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ANN401  transformers' own
        return _layer(encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states, how.clip_skip + 1)

    if how.whole:
        _, pooled = penultimate(parts, name, [plain_text(texts[0])], AS_TRAINED)
        return whole_states(parts, name, texts[0], states), pooled
    encoded = parts.text_encoders[name](token_ids(parts, name, texts), output_hidden_states=True)
    return _layer(encoded.hidden_states, how.clip_skip + 1).float(), encoded[0].float()


def side_by_side(first: Tensor, second: Tensor) -> Tensor:
    """(B, L, a), (B, M, b) -> (B, max(L, M), a + b). They differ only when a long text has a word that one of them alone knows."""
    longest = max(first.shape[1], second.shape[1])
    return torch.cat([functional.pad(states, (0, 0, 0, longest - states.shape[1])) for states in (first, second)], dim=-1)


def _layer(states: Sequence[Tensor], from_end: int) -> Tensor:
    """The output of a layer, counted from the last; states[0] is what the first layer reads."""
    if from_end > len(states) - 1:
        deepest = len(states) - 1
        raise ConfigError("Clip skip is larger than this base's text encoder is deep.", f"It has {deepest} layers; take a smaller one.")
    return states[-from_end]


def count_tokens(folder: Path, texts: Sequence[str]) -> list[TokenCount]:
    """Needs the tokenizer's files only."""
    tokenizer = _tokenizer(folder)
    limit = tokenizer.model_max_length - 2
    counted = []
    for text in texts:
        raw = tokenizer.tokenize(text)
        tokens = tuple(token.replace("</w>", " ").strip() for token in raw)
        counted.append(TokenCount(tokens[:limit], tokens[limit:], limit, tuple(token.endswith("</w>") for token in raw)))
    return counted


def ordinary_words(folder: Path) -> set[str]:
    """CLIP numbers its tokens by how common they are: the first four fifths of the whole words are ordinary."""
    vocabulary = _tokenizer(folder).get_vocab()
    return {token.removesuffix("</w>") for token, index in vocabulary.items() if token.endswith("</w>") and index < 0.8 * len(vocabulary)}


def vocabulary(folder: Path) -> dict[str, int]:
    """Every token with its number; `</w>` marks one that ends a word. Single signs come first, then what is common, then what is rare."""
    return dict(_tokenizer(folder).get_vocab())


def tokens_of(folder: Path, text: str) -> list[str]:
    """A text as tokens of `vocabulary`."""
    return [str(token) for token in _tokenizer(folder).tokenize(text)]


@lru_cache(maxsize=4)
def _tokenizer(folder: Path) -> CLIPTokenizer:
    """Reading 49,000 tokens takes a moment, and the page asks at every key."""
    return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
