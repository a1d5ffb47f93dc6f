"""Words that an adapter file brings along: in use for as long as a block lasts.

Each vector becomes a token of its own that nobody types and that collides with nothing; where a prompt has the word, it
reads those tokens instead. The tokenizers and the tables of the text encoders are put back afterwards.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sdplay.errors import AdapterError
from sdplay.families import Parts
from sdplay.formats.adapter import AdapterFile


class WordyTokenizer:
    """A tokenizer that reads certain words as the tokens of their vectors; in all else the one it is made from."""

    def __init__(self, tokenizer: Any, words: Mapping[str, int], first: int) -> None:  # noqa: ANN401  transformers' classes differ
        self._inner = copy.deepcopy(tokenizer)
        self.tokens: list[str] = []
        self._texts: dict[str, str] = {}
        for number, (word, count) in enumerate(words.items()):
            tokens = [f"<|sdplay-{first + number}-{index}|>" for index in range(count)]
            self.tokens += tokens
            self._texts[word] = " ".join(tokens)
        self._inner.add_tokens(self.tokens)

    def __call__(self, text: str | Sequence[str], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as the tokenizer's
        """As the tokenizer, with the words replaced first."""
        replaced = self.replace(text) if isinstance(text, str) else [self.replace(entry) for entry in text]
        return self._inner(replaced, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  as the tokenizer's
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def tokenize(self, text: str) -> list[str]:
        """As the tokenizer, with the words replaced first."""
        return self._inner.tokenize(self.replace(text))

    def replace(self, text: str) -> str:
        """Whole words only: `<s1>` in `a <s1>, red`, but not `cat` in `cats`."""
        words = "|".join(re.escape(word) for word in sorted(self._texts, key=len, reverse=True))
        return re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda found: self._texts[found[0]], text)


@contextmanager
def words_attached(parts: Parts, adapters: Sequence[AdapterFile]) -> Iterator[None]:
    """The base reads the adapters' words as their vectors. Raises AdapterError when a vector's width is not the encoder's."""
    words = {word: vectors for adapter in adapters for word, vectors in adapter.embeddings.items()}
    if not words:
        yield
        return
    for adapter in adapters:
        _check(parts, adapter)
    tokenizers, undo = dict(parts.tokenizers), []
    try:
        for encoder, module in parts.text_encoders.items():
            mine = {word: vectors[encoder] for word, vectors in words.items() if encoder in vectors}
            if mine:
                undo.append(_teach(parts, encoder, module, mine))
        yield
    finally:
        parts.tokenizers.update(tokenizers)
        for table, weight, settings, eos in reversed(undo):
            table.weight, table.num_embeddings = weight, len(weight)
            if settings is not None:
                settings.eos_token_id = eos


def _teach(parts: Parts, encoder: str, module: nn.Module, words: Mapping[str, Tensor]) -> tuple[Any, nn.Parameter, Any, int | None]:
    """Add tokens and rows. Returns what to put back: the table, its weight, who holds the end token's number, that number."""
    tokenizer = WordyTokenizer(parts.tokenizers[encoder], {word: len(rows) for word, rows in words.items()}, len(parts.tokenizers))
    table: Any = module.get_input_embeddings()  # type: ignore[operator]
    weight = table.weight
    ids = tokenizer.convert_tokens_to_ids(tokenizer.tokens)
    grown = torch.zeros(max(max(ids) + 1, len(weight)), weight.shape[1], dtype=weight.dtype, device=weight.device)
    grown[: len(weight)] = weight.detach()
    grown[ids] = torch.cat(list(words.values())).to(weight)
    table.weight, table.num_embeddings = nn.Parameter(grown, requires_grad=False), len(grown)
    parts.tokenizers[encoder] = tokenizer
    return table, weight, *_find_end(module, tokenizer)


def _find_end(module: nn.Module, tokenizer: Any) -> tuple[Any, int | None]:  # noqa: ANN401  as the tokenizer's
    """CLIP models of before mid-2023 say that their end token is 2 and take the highest number in the text for the end.

    A new token is higher, so such a model, SDXL's second encoder among them, would take its pooled vector from the wrong
    place (transformers #24773). While words are attached they know the true number.
    """
    holder = next((part for part in module.modules() if getattr(part, "eos_token_id", None) == 2), None)
    if holder is None:
        return None, None
    holder.eos_token_id = tokenizer.eos_token_id
    return holder, 2


def _check(parts: Parts, adapter: AdapterFile) -> None:
    for word, vectors in adapter.embeddings.items():
        for encoder, tensor in vectors.items():
            module: Any = parts.text_encoders.get(encoder)
            width = module.get_input_embeddings().weight.shape[1] if module is not None else None
            if width != tensor.shape[1]:
                raise AdapterError(
                    f"{adapter.name} does not fit this base model: the word {word!r} has {tensor.shape[1]} numbers for the {encoder}, "
                    f"which {'has ' + str(width) if width else 'this base does not have'}.",
                    "It was made for another one: choose that as base.",
                )
