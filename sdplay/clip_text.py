"""How CLIP reads texts: what every family with a CLIP text encoder shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import CLIPTokenizer

from sdplay.errors import ConfigError
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


def last_states(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:  # noqa: ANN401  transformers' own
    """(B, L, width) states of SD 1.x and 2.x: the last layer's, or an earlier one's, normed as if it were the last."""
    if clip_skip == 1:
        return encoder(ids).last_hidden_state
    states = encoder(ids, output_hidden_states=True).hidden_states
    return encoder.final_layer_norm(_layer(states, clip_skip))


def penultimate(parts: Parts, name: str, texts: Sequence[str], *, clip_skip: int = 1) -> tuple[Tensor, Tensor]:
    """(B, 77, width) states before the last layer, as SDXL and SD3 read them, and the encoder's first output: pooled if it projects."""
    encoded = parts.text_encoders[name](token_ids(parts, name, texts), output_hidden_states=True)
    return _layer(encoded.hidden_states, clip_skip + 1).float(), encoded[0].float()


def _layer(states: Sequence[Tensor], from_end: int) -> Tensor:
    """The output of a layer, counted from the last; states[0] is what the first layer reads."""
    if from_end > len(states) - 1:
        deepest = len(states) - 1
        raise ConfigError("Clip skip is larger than this base's text encoder is deep.", f"It has {deepest} layers; take a smaller one.")
    return states[-from_end]


def count_tokens(folder: Path, texts: Sequence[str]) -> list[TokenCount]:
    """Needs the tokenizer's files only."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    limit = tokenizer.model_max_length - 2
    counted = []
    for text in texts:
        tokens = tuple(token.replace("</w>", " ").strip() for token in tokenizer.tokenize(text))
        counted.append(TokenCount(tokens[:limit], tokens[limit:], limit))
    return counted


def ordinary_words(folder: Path) -> set[str]:
    """CLIP numbers its tokens by how common they are: the first four fifths of the whole words are ordinary."""
    vocabulary = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True).get_vocab()
    return {token.removesuffix("</w>") for token, index in vocabulary.items() if token.endswith("</w>") and index < 0.8 * len(vocabulary)}
