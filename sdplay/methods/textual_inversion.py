"""Textual inversion: a new word, and nothing else, learns. Gal et al. 2022, arXiv 2208.01618."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdplay.attach import attach, detach
from sdplay.attach.words import Words, initial_vectors
from sdplay.config import TextualInversionConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, read_adapter, write_adapter
from sdplay.methods import Group, facts_of, write_both

TITLE = "Textual inversion"


@dataclass
class TextualInversionTrainable:
    """Vectors for the trigger word in every CLIP text encoder of the base."""

    parts: Parts
    config: TextualInversionConfig
    words: Words
    family: Family
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

    def load(self, path: Path) -> None:
        """In place."""
        self.words.load(read_adapter(path).embeddings[self.words.word])

    def save(self, path: Path) -> None:
        """An embedding that diffusers, A1111 and ComfyUI read."""
        write_adapter(path, self._file(path.name), self.words.layout)

    def export(self, path: Path) -> dict[Path, str]:
        """The same; where diffusers' file is not A1111's, both."""
        if self.words.layout == "diffusers":
            return write_both(path, self._file(path.name), "embedding")
        self.save(path)
        return {path: "embedding"}

    def detach(self) -> None:
        """The base does not know the word any more."""
        detach(self.parts, self.words)

    def _file(self, name: str) -> AdapterFile:
        return AdapterFile(name, {}, self.words.learned(), facts=facts_of(self.config, self.family), family=self.family.NAME)


def prepare(parts: Parts, family: Family, config: TrainConfig) -> TextualInversionTrainable:
    """Give the trigger word its first vectors: of the words it starts as, then of noise seeded by the config."""
    assert isinstance(config, TextualInversionConfig)
    vectors = initial_vectors(parts, config.initial or config.class_word, config.vectors, config.seed)
    words = Words(parts, config.token, vectors)
    attach(parts, words)
    return TextualInversionTrainable(parts, config, words, family)
