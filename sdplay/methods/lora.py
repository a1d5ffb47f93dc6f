"""Adapters: small matrices beside the frozen ones. Hu et al. 2021, arXiv 2106.09685, and relatives, see sdplay/attach/adapters.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdplay.attach import attach, detach
from sdplay.attach.adapters import Adapter, Host, Shape, denoiser_layers, text_layers
from sdplay.config import LoraConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, read_adapter, tensors_of, trained_layers, write_adapter
from sdplay.methods import FORMATS, Group, adapter_groups, facts_of, write_both

TITLE = "LoRA"


@dataclass
class LoraTrainable:
    """Adapters on the denoiser, and on the text encoders for the first share of the steps."""

    parts: Parts
    config: LoraConfig
    adapter: Adapter
    family: Family
    light = True

    @property
    def changes_text(self) -> bool:
        """Where text encoders have an adapter, also after it has stopped learning."""
        return self.adapter.hosts.keys() != {self.family.DENOISER}

    def groups(self) -> list[Group]:
        """The denoiser's, then the text encoders'; with LoRA+ B apart from A in each."""
        config = self.config
        groups = []
        for name, parameters in self.adapter.parameters.items():
            text = name != self.family.DENOISER
            like = Group((), rate=config.text_encoder_rate, end_step=_text_stop(config)) if text else Group(())
            groups += adapter_groups(parameters, like, config.lora_plus_ratio)
        return groups

    def trains_text(self, step: int) -> bool:
        """Until the text encoders stop."""
        return self.changes_text and step < _text_stop(self.config)

    def after_step(self, step: int) -> None:
        """Cap the norms."""
        if self.config.max_norm is not None:
            self.adapter.cap_norms(self.config.max_norm)

    def load(self, path: Path) -> None:
        """In place."""
        self.adapter.load_weights(tensors_of(read_adapter(path)))

    def save(self, path: Path) -> None:
        """One safetensors file in diffusers' layout, with the true alpha and the trigger word in its header."""
        write_adapter(path, self._file(path.name), "diffusers")

    def export(self, path: Path) -> dict[Path, str]:
        """The same, and in kohya's layout."""
        return write_both(path, self._file(path.name), FORMATS[self.config.kind])

    def detach(self) -> None:
        """Take the adapters off."""
        detach(self.parts, self.adapter)

    def _file(self, name: str) -> AdapterFile:
        layers = trained_layers(self.adapter.weights(), self.adapter.shape.true_alpha)
        return AdapterFile(name, layers, facts=facts_of(self.config, self.family), family=self.family.NAME)


def prepare(parts: Parts, family: Family, config: TrainConfig) -> LoraTrainable:
    """Attach adapters: A from a normal distribution seeded by the config, B zero, so step 0 draws what the base draws."""
    assert isinstance(config, LoraConfig)
    hosts = {family.DENOISER: Host(parts.denoiser, denoiser_layers(parts.denoiser, family.LORA_TARGETS, config.targets, config.blocks))}
    if _text_stop(config):
        hosts |= {name: Host(encoder, text_layers(encoder, config.targets)) for name, encoder in parts.clip_encoders.items()}
    adapter = Adapter(Shape(config.kind, config.rank, config.alpha), hosts, seed=config.seed)
    attach(parts, adapter)
    return LoraTrainable(parts, config, adapter, family)


def _text_stop(config: LoraConfig) -> int:
    return round(config.text_encoder_share * config.steps)
