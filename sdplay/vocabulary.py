"""The words that a base was shown when it was made, where its folder says so: the embedded one's does.

A small base knows few words. It passes over what else a prompt says, and nothing in the picture tells why. Bases without such a list,
and words that an adapter may have taught, are not spoken of.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from yaml import YAMLError

from sdplay.columns import split_adapters
from sdplay.data import DatasetStore
from sdplay.errors import SdplayError
from sdplay.hub import MINI
from sdplay.runs import open_run
from sdplay.templates import split_negative
from sdplay.workspace import PRESETS, Workspace
from sdplay.yaml_text import parse_yaml

FILE = "vocabulary.yaml"
LITTLE = frozenset({"a", "an", "and", "at", "break", "by", "for", "from", "in", "is", "it", "its", "of", "on", "or", "the", "to", "with"})
"""Nobody expects to see these."""
ALIKE = 0.75
"""From which share of common letters, as difflib counts it, a word is proposed for another; both begin with the same letter."""
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_HOLE = re.compile(r"__[\w/*-]+__|<[^>]*>")
"""Wildcards, and signs of other programs."""


class Vocabulary(BaseModel):
    """What `vocabulary.yaml` in a base's folder says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    """What stands before "style"."""
    backgrounds: tuple[str, ...]
    """What stands before "background"."""
    other_names: dict[str, str] = {}
    """Words that it was not shown, and the subjects that people mean by them."""

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """All of them, one by one."""
        return words_in((*self.subjects, *self.styles, *self.backgrounds)) | {"style", "background"}


@dataclass(frozen=True)
class Stranger:
    """A word that a base was never shown."""

    word: str
    near: str = ""
    """What it knows by another name, or what is written nearly so; empty when there is none."""


class KnownWords:
    """What bases know, and what the runs of a workspace have taught them."""

    def __init__(self, workspace: Workspace, datasets: DatasetStore) -> None:
        self._workspace, self._datasets = workspace, datasets

    def vocabulary(self, base_model: str) -> Vocabulary | None:
        """What a base was shown; None where its folder does not say, or is not on this disk."""
        try:
            path = (PRESETS / MINI if base_model == MINI else Path(base_model).expanduser()) / FILE
            return _read(path) if path.is_file() else None
        except (OSError, RuntimeError):  # a text that can be no path
            return None

    def strangers(self, base_model: str, columns: Sequence[str], prompts: Iterable[str]) -> list[Stranger]:
        """The prompts' words that neither the base nor what is on it was shown, each once; none where that is not known.

        columns: what is drawn with, as columns.py reads it. Of adapter files nobody knows what they were taught.
        """
        vocabulary, taught = self.vocabulary(base_model), self._taught(columns)
        if vocabulary is None or taught is None:
            return []
        asked = words_in(split_negative(prompt)[0] for prompt in prompts)
        known = vocabulary.words | taught
        return [Stranger(word, vocabulary.other_names.get(word) or _nearest(word, known)) for word in sorted(asked - known - LITTLE)]

    def _taught(self, columns: Sequence[str]) -> frozenset[str] | None:
        """Words that runs were trained with; None when a file, or what cannot be found, is among the columns."""
        words: frozenset[str] = frozenset()
        try:
            for what, _ in (pair for column in columns for pair in split_adapters(column)):
                if what.endswith(".safetensors"):
                    return None
                words |= self._taught_by(what)
        except SdplayError:
            return None
        return words

    def _taught_by(self, run: str) -> frozenset[str]:
        settings = open_run(self._workspace.runs, run.partition("@")[0]).settings
        captions = [example.caption for example in self._datasets.open(str(settings["dataset"])).examples]
        return words_in([str(settings["token"]), str(settings["class_word"]), *captions])


def words_in(texts: Iterable[str]) -> frozenset[str]:
    """`a Red (apple:1.2)` -> a, red, apple"""
    return frozenset(word for text in texts for word in _WORD.findall(_HOLE.sub(" ", text).lower()))


def _nearest(word: str, known: frozenset[str]) -> str:
    candidates = sorted(other for other in known if other[0] == word[0])
    return next(iter(difflib.get_close_matches(word, candidates, 1, ALIKE)), "")


@functools.lru_cache(maxsize=8)
def _read(path: Path) -> Vocabulary | None:
    """None for a file of another program, which may have the same name."""
    try:
        return Vocabulary.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except (ValueError, YAMLError):
        return None
