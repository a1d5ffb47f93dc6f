"""A trigger word with vectors of its own: what textual inversion learns. Gal et al. 2022, arXiv 2208.01618.

The vectors are parameters outside the encoders' tables, so nothing else can move. In a prompt the whole word, in any case,
becomes the tokens `<word-0><word-1>...`, which no text contains by chance. Before an encoder sees their ids they are
exchanged for an ordinary token's, because CLIP finds the end of a text by the largest id; its embedding is then replaced.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sdplay.errors import ConfigError
from sdplay.families import Parts

Norm = Literal["none", "std", "median"]
PULL = 0.1
"""Share of the way, on a logarithmic scale, that `std` pulls the vectors back in each step (diffusers' advanced scripts)."""


class WordTokenizer:
    """A tokenizer that reads the trigger word as its tokens. Everything else is the base's."""

    def __init__(self, tokenizer: Any, word: str, tokens: list[str]) -> None:  # noqa: ANN401  transformers' tokenizers share no type
        self._tokenizer = copy.deepcopy(tokenizer)
        self._tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
        self._word = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE)
        self._tokens = "".join(tokens)
        self.ids: list[int] = self._tokenizer.convert_tokens_to_ids(tokens)

    def __call__(self, text: str | list[str], **settings: Any) -> Any:  # noqa: ANN401  as transformers says
        """As the base's tokenizer, for one text or several."""
        replaced = self.replace(text) if isinstance(text, str) else [self.replace(entry) for entry in text]
        return self._tokenizer(replaced, **settings)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever a tokenizer has
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def replace(self, text: str) -> str:
        """The text with the whole trigger word, and no part of another, exchanged for its tokens."""
        return self._word.sub(lambda found: self._tokens, text)


class Words:
    """An attachment: a trigger word with V vectors in each text encoder, by the encoders' names."""

    def __init__(self, parts: Parts, word: str, vectors: Mapping[str, Tensor]) -> None:
        """vectors: (V, width) of each encoder. Raises ConfigError when the base knows a token of that name."""
        self.word = word
        self.parts = parts
        self.vectors: dict[str, nn.Parameter] = {
            name: nn.Parameter(tensor.detach().float().clone().to(parts.device)) for name, tensor in vectors.items()
        }
        count = len(next(iter(self.vectors.values())))
        stem = re.sub(r"[<>\s]+", "-", word.strip().lower())
        self._tokens = [f"<{stem}-{index}>" for index in range(count)]
        for name in self.vectors:
            taken = parts.tokenizers[name].get_vocab().keys() & set(self._tokens)
            if taken:
                raise ConfigError(f"The base model has a token {min(taken)} already.", "Choose another trigger word.")
        self._own: dict[str, WordTokenizer] = {}
        self._before: dict[str, Any] = {}
        self._hooks: list[RemovableHandle] = []

    def put_on(self) -> None:
        """Prompts may use the word."""
        for name, vectors in self.vectors.items():
            there = self.parts.tokenizers[name]
            if self._before.get(name) is not there:
                self._before[name], self._own[name] = there, WordTokenizer(there, self.word, self._tokens)
            self.parts.tokenizers[name] = self._own[name]
            encoder = self.parts.text_encoders[name]
            before, after = _exchange(self._own[name].ids, stand_in(self._before[name]), vectors)
            self._hooks.append(encoder.register_forward_pre_hook(before, with_kwargs=True))
            for table in _tables(encoder):
                self._hooks.append(table.register_forward_hook(after))

    def take_off(self) -> None:
        """Tokenizers and encoders are the base's own again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.parts.tokenizers.update(self._before)

    def learned(self) -> dict[str, dict[str, Tensor]]:
        """The word and a copy of its vectors, as an adapter file holds them."""
        return {self.word: {name: vectors.detach().cpu().clone() for name, vectors in self.vectors.items()}}

    @property
    def layout(self) -> str:
        """In which one file holds all its vectors: diffusers' has one encoder."""
        return "diffusers" if len(self.vectors) == 1 else "kohya"

    @torch.no_grad()
    def load(self, vectors: Mapping[str, Tensor]) -> None:
        """In place, so that an optimiser keeps its parameters."""
        assert vectors.keys() == self.vectors.keys(), "the checkpoint is of another word"
        for name, own in self.vectors.items():
            own.copy_(vectors[name])

    @torch.no_grad()
    def keep_norm(self, norm: Norm) -> None:
        """Bring the vectors' length near to that of the base's own.

        std: all vectors of an encoder x (std of the table / std of the vectors)^0.1, as diffusers' advanced scripts do.
        median: each vector to the median length of the table's rows, as OneTrainer does.
        """
        for name, vectors in self.vectors.items():
            table = table_of(self.parts.text_encoders[name]).weight
            if norm == "std":
                vectors.mul_((table.float().std() / vectors.std()) ** PULL)
            elif norm == "median":
                vectors.mul_(table.float().norm(dim=1).median() / vectors.norm(dim=1, keepdim=True))


def initial_vectors(parts: Parts, phrase: str, count: int, seed: int) -> dict[str, Tensor]:
    """`count` vectors for each CLIP encoder: a row of its table for each token of the phrase, then noise of the table's std.

    Raises ConfigError when the phrase has more tokens than there are vectors.
    """
    made = {}
    for name, encoder in parts.clip_encoders.items():
        table = table_of(encoder).weight.detach().float().cpu()
        ids = parts.tokenizers[name](phrase, add_special_tokens=False).input_ids if phrase.strip() else []
        if len(ids) > count:
            raise ConfigError(
                f"{phrase!r} has {len(ids)} tokens, but the word has {count} vectors.", f"Set Vectors to {len(ids)}, or shorten it."
            )
        noise = torch.randn((count, table.shape[1]), generator=torch.Generator().manual_seed(seed)) * table.std()
        made[name] = torch.cat([table[ids], noise[len(ids) :]])
    return made


def table_of(encoder: nn.Module) -> nn.Embedding:
    """The encoder's token embeddings, (vocabulary, width)."""
    return encoder.get_input_embeddings()  # type: ignore[operator]  # every transformers model has it


def _tables(encoder: nn.Module) -> list[nn.Module]:
    """Every module that looks its tokens up in the encoder's table: T5 has two."""
    weight = table_of(encoder).weight
    return [module for module in encoder.modules() if isinstance(module, nn.Embedding) and module.weight is weight]


def stand_in(tokenizer: Any) -> int:  # noqa: ANN401  transformers' tokenizers share no type
    """The id of an ordinary token."""
    return int(tokenizer("a", add_special_tokens=False).input_ids[0])


def _exchange(ids: list[int], ordinary: int, vectors: nn.Parameter) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Hooks for an encoder and its table that hand the vectors in at the word's places."""
    places: dict[str, Tensor] = {}

    def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = given[0] if given else named["input_ids"]
        places["which"] = torch.full_like(tokens, -1)
        for index, token in enumerate(ids):
            places["which"][tokens == token] = index
        plain = torch.where(places["which"] >= 0, ordinary, tokens)
        return ((plain, *given[1:]), named) if given else (given, {**named, "input_ids": plain})

    def after(module: nn.Module, given: tuple[Any, ...], rows: Tensor) -> Tensor:
        which = places["which"]
        if not (which >= 0).any():
            return rows
        replaced = rows.clone()
        replaced[which >= 0] = vectors[which[which >= 0]].to(rows.dtype)
        return replaced

    return before, after
