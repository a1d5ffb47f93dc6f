"""Pivotal tuning: first a word, as textual inversion does, then, with the word frozen, an adapter.

For pictures of GANs: Roich et al. 2021, arXiv 2106.05744; for Stable Diffusion: cloneofsimo/lora, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sdplay.attach import attach, detach
from sdplay.attach.adapters import Adapter, Host, Shape, denoiser_layers
from sdplay.attach.words import Words, initial_vectors
from sdplay.config import PivotalConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, read_adapter, tensors_of, trained_layers, write_adapter
from sdplay.methods import FORMATS, Group, adapter_groups, facts_of, write_both

TITLE = "Pivotal tuning"


@dataclass
class PivotalTrainable:
    """Vectors for the trigger word until the pivot; from then on adapters on the denoiser."""

    parts: Parts
    config: PivotalConfig
    words: Words
    adapter: Adapter
    family: Family
    changes_text = True
    light = True

    @property
    def pivot_step(self) -> int:
        """The first step of the adapter; at least one step is the word's."""
        return max(1, round(self.config.pivot * self.config.steps))

    def groups(self) -> list[Group]:
        """The vectors, then the adapter; never both in one step."""
        vectors = Group(list(self.words.vectors.values()), rate=self.config.words_rate, weight_decay=0.0, end_step=self.pivot_step)
        like = Group((), first_step=self.pivot_step)
        return [vectors, *adapter_groups(self.adapter.parameters[self.family.DENOISER], like, self.config.lora_plus_ratio)]

    def trains_text(self, step: int) -> bool:
        """Before the pivot."""
        return step < self.pivot_step

    def after_step(self, step: int) -> None:
        """Keep the length of what has just learned, and only of that."""
        if self.trains_text(step):
            self.words.keep_norm(self.config.norm)
        elif self.config.max_norm is not None:
            self.adapter.cap_norms(self.config.max_norm)

    def load(self, path: Path) -> None:
        """In place."""
        read = read_adapter(path)
        self.words.load(read.embeddings[self.words.word])
        self.adapter.load_weights(tensors_of(read))

    def save(self, path: Path) -> None:
        """Adapter and vectors in one file, of which diffusers reads the adapter."""
        write_adapter(path, self._file(path.name), "diffusers")

    def export(self, path: Path) -> dict[Path, str]:
        """The same, in kohya's layout too, and the word as an embedding, for programs that want them apart."""
        file, beside = self._file(path.name), path.with_suffix(".embedding.safetensors")
        write_adapter(beside, replace(file, layers={}), self.words.layout)
        return {**write_both(path, file, f"{FORMATS[self.config.kind]} with its word"), beside: "embedding"}

    def detach(self) -> None:
        """Take the adapter off; the base does not know the word any more."""
        detach(self.parts, self.adapter)
        detach(self.parts, self.words)

    def _file(self, name: str) -> AdapterFile:
        layers = trained_layers(self.adapter.weights(), self.adapter.shape.true_alpha)
        return AdapterFile(name, layers, self.words.learned(), facts=facts_of(self.config, self.family), family=self.family.NAME)


def prepare(parts: Parts, family: Family, config: TrainConfig) -> PivotalTrainable:
    """Give the trigger word its first vectors, and the denoiser adapters that change nothing yet."""
    assert isinstance(config, PivotalConfig)
    vectors = initial_vectors(parts, config.initial or config.class_word, config.vectors, config.seed)
    words = Words(parts, config.token, vectors)
    layers = denoiser_layers(parts.denoiser, family.LORA_TARGETS, config.targets, config.blocks)
    adapter = Adapter(Shape(config.kind, config.rank, config.alpha), {family.DENOISER: Host(parts.denoiser, layers)}, seed=config.seed)
    attach(parts, words)
    attach(parts, adapter)
    return PivotalTrainable(parts, config, words, adapter, family)
