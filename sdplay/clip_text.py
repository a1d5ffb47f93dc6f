"""How CLIP reads texts: what every family with a CLIP text encoder shares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import CLIPTokenizer

from sdplay.families import TokenCount

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


def penultimate(parts: Parts, name: str, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(B, 77, width) states before the last layer, as SDXL and SD3 read them, and the encoder's first output: pooled if it projects."""
    encoded = parts.text_encoders[name](token_ids(parts, name, texts), output_hidden_states=True)
    return encoded.hidden_states[-2].float(), encoded[0].float()


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
