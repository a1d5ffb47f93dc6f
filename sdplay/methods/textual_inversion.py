"""Textual inversion: a new word, and nothing else, learns. Gal et al. 2022, arXiv 2208.01618."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sdplay.attach import attach, detach
from sdplay.attach.files import encoders_of, write_words
from sdplay.attach.words import Words, initial_vectors
from sdplay.config import TextualInversionConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.methods import Group, facts_of

TITLE = "Textual inversion"


@dataclass
class TextualInversionTrainable:
    """Vectors for the trigger word in every text encoder of the base."""

    parts: Parts
    config: TextualInversionConfig
    words: Words
    changes_text = True
    light = True

    def groups(self) -> list[Group]:
        """The vectors, without weight decay, which would only shorten them."""
        return [Group(list(self.words.vectors.values()), weight_decay=0.0)]

    def trains_text(self, step: int) -> bool:
        """Always."""
        return True

    def after_step(self, step: int) -> None:
        """Keep the vectors' length."""
        self.words.keep_norm(self.config.norm)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """In place."""
        self.words.load(encoders_of(weights))

    def shown(self) -> AbstractContextManager[None]:
        """As it is."""
        return nullcontext()

    def save(self, path: Path) -> None:
        """An embedding that diffusers, A1111 and ComfyUI read."""
        write_words(path, self.words, facts_of(self.config))

    def export(self, path: Path) -> dict[Path, str]:
        """The same."""
        self.save(path)
        return {path: "embedding"}

    def detach(self) -> None:
        """The base does not know the word any more."""
        detach(self.parts, self.words)


def prepare(parts: Parts, family: Family, config: TrainConfig) -> TextualInversionTrainable:
    """Give the trigger word its first vectors: of the words it starts as, then of noise seeded by the config."""
    assert isinstance(config, TextualInversionConfig)
    vectors = initial_vectors(parts, config.initial or config.class_word, config.vectors, config.seed)
    words = Words(parts, config.token, vectors)
    attach(parts, words)
    return TextualInversionTrainable(parts, config, words)
