"""Prompts as people write them for drawing: weights, parts, any length.

`(word:1.2)` makes what is inside count more, `(word:0.8)` less; groups may be nested, and their weights multiply. `BREAK` begins a
new part, which the text encoder reads by itself. A text longer than the encoder's context is read in chunks of 75 tokens, cut
between words, whose states stand one after the other. `\\(` and `\\)` are brackets and nothing else, as are brackets without a weight.

compel chunks and weighs: a token's state is moved away from the empty text's by its weight, and for weights below 1 it is blended
with the reading of the text without it. The signs are parsed here because compel's own are others (`word++`), and the layer that is
read is chosen by the family.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdplay.errors import ConfigError

if TYPE_CHECKING:
    from sdplay.families import Parts

Fragments = list[tuple[str, float]]
"""Texts, each with its weight; all of them together are the prompt."""
States = Callable[[Any, Tensor, Tensor | None], Tensor]
"""(encoder, ids (B, L), attention mask (B, L) or None) -> (B, L, width)."""
MAX_WEIGHT = 10.0
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_SIGN = re.compile(r"\\(?P<escaped>[()\\])|(?P<open>\()|:\s*(?P<weight>\d*\.?\d+)\s*\)|(?P<close>\))|(?P<text>[^\\():]+|.)", re.DOTALL)


def parse_prompt(text: str) -> list[Fragments]:
    """The parts between BREAKs, each as fragments; a text without signs is one part with one fragment. Raises ConfigError."""
    return [_fragments(part) for part in _BREAK.split(text)]


def plain_text(text: str) -> str:
    """The words without the signs, for encoders that do not weigh."""
    return " ".join("".join(fragment for fragment, _ in part) for part in parse_prompt(text))


def is_plain(text: str) -> bool:
    """Whether the text has no signs that mean something."""
    return parse_prompt(text) == [[(text, 1.0)]]


def fits(parts: Parts, text: str) -> bool:
    """Whether every CLIP encoder's context holds the whole text."""
    tokenizers = [parts.tokenizers[name] for name in parts.clip_encoders]
    return all(len(tokenizer(text).input_ids) <= tokenizer.model_max_length for tokenizer in tokenizers)


def whole_states(parts: Parts, name: str, text: str, states: States) -> Tensor:
    """(1, n L, width) of the whole text, weighted, as n chunks of the encoder's context L."""
    from compel.embeddings_provider import EmbeddingsProvider, SplitLongTextMode

    encoder = parts.text_encoders[name]
    reader = EmbeddingsProvider(
        parts.tokenizers[name], _Encoder(encoder, parts.device, states), truncate=False, device=str(parts.device),
        split_long_text_mode=SplitLongTextMode.WORDS,
    )  # fmt: skip
    read = partial(reader.get_embeddings_for_weighted_prompt_fragments, device=str(parts.device))
    sections = parse_prompt(text)
    return torch.cat([read([[f for f, _ in part]], [[weight for _, weight in part]]) for part in sections], dim=1)


class _Encoder:
    """What compel asks of a text encoder, answered with the layer that the family reads, in float32."""

    def __init__(self, encoder: Any, device: torch.device, states: States) -> None:  # noqa: ANN401  transformers' own
        self._encoder, self._states = encoder, states
        self.device, self.dtype = device, torch.float32

    def __call__(self, ids: Tensor, mask: Tensor | None = None, **settings: object) -> SimpleNamespace:
        whole = mask is None or bool(mask.all())
        return SimpleNamespace(last_hidden_state=self._states(self._encoder, ids, None if whole else mask).float())


def _fragments(text: str) -> Fragments:
    """An open bracket whose group ends in a weight weighs it; every other bracket is text."""
    stack: list[Fragments] = [[]]
    for sign in _SIGN.finditer(text):
        if sign["open"]:
            stack.append([])
        elif sign["weight"] and len(stack) > 1:
            weight = _checked(float(sign["weight"]))
            group = stack.pop()
            stack[-1] += [(inside, already * weight) for inside, already in group]
        elif sign["close"] and len(stack) > 1:
            group = stack.pop()
            stack[-1] += [("(", 1.0), *group, (")", 1.0)]
        else:
            stack[-1].append((sign["escaped"] or sign[0], 1.0))
    while len(stack) > 1:
        group = stack.pop()
        stack[-1] += [("(", 1.0), *group]
    return _merged(stack[0])


def _merged(fragments: Fragments) -> Fragments:
    merged: Fragments = []
    for text, weight in fragments:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged or [("", 1.0)]


def _checked(weight: float) -> float:
    if weight > MAX_WEIGHT:
        raise ConfigError(
            f"A word of the prompt has the weight {weight:g}.", f"Use 0 to {MAX_WEIGHT:g}, typically 0.5 to 1.5; \\( is a plain bracket."
        )
    return weight
