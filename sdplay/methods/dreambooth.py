"""Full fine-tuning: every weight of the denoiser learns. Ruiz et al. 2022, arXiv 2208.12242.

Its prior preservation is in sdplay/prior.py, because other methods use it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from sdplay.attach import attach, detach
from sdplay.attach.weights import Weights
from sdplay.config import DreamBoothConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats.weights import write_weights
from sdplay.methods import Group, facts_of

TITLE = "DreamBooth"


@dataclass
class DreamBoothTrainable:
    """All parameters of the denoiser, and of the text encoders for the first share of the steps."""

    parts: Parts
    config: DreamBoothConfig
    weights: Weights
    family: Family
    light = False

    @property
    def changes_text(self) -> bool:
        """Where the text encoders learn, also after they have stopped."""
        return self._text_stop > 0

    def groups(self) -> list[Group]:
        """The denoiser's weights, then the text encoders'."""
        text = [parameter for name, parameter in self.weights.parameters.items() if not self._of_denoiser(name)]
        groups = [Group([parameter for name, parameter in self.weights.parameters.items() if self._of_denoiser(name)])]
        return [*groups, Group(text, rate=self.config.text_encoder_rate, end_step=self._text_stop)] if text else groups

    def trains_text(self, step: int) -> bool:
        """Until the text encoders stop."""
        return step < self._text_stop

    def after_step(self, step: int) -> None:
        """Nothing."""

    def load(self, path: Path) -> None:
        """In place."""
        self.weights.load(load_file(path))

    def save(self, path: Path) -> None:
        """Everything in float32."""
        write_weights(path, self.weights.values, facts_of(self.config, self.family))

    def export(self, path: Path) -> dict[Path, str]:
        """The weights in the number format of the config."""
        dtype = getattr(torch, self.config.save_dtype)
        values = {name: tensor.to(dtype) for name, tensor in self.weights.values.items()}
        write_weights(path, values, facts_of(self.config, self.family))
        return {path: f"full fine-tune, {self.config.save_dtype}"}

    def detach(self) -> None:
        """The base's own weights are back, frozen."""
        detach(self.parts, self.weights)
        for parameter in self.weights.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None

    @property
    def _text_stop(self) -> int:
        return round(self.config.text_encoder_share * self.config.steps)

    def _of_denoiser(self, name: str) -> bool:
        return name.startswith(f"{self.family.DENOISER}.")


def prepare(parts: Parts, family: Family, config: TrainConfig) -> DreamBoothTrainable:
    """Start from the base's own weights."""
    assert isinstance(config, DreamBoothConfig)
    text = parts.clip_encoders if round(config.text_encoder_share * config.steps) else {}
    weights = Weights({family.DENOISER: parts.denoiser, **text})
    attach(parts, weights)
    return DreamBoothTrainable(parts, config, weights, family)
