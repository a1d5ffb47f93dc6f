"""Full fine-tuning: every weight of the denoiser learns. Ruiz et al. 2022, arXiv 2208.12242.

Its prior preservation is in sdplay/prior.py, because other methods use it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sdplay.attach import attach, detach
from sdplay.attach.weights import Weights
from sdplay.config import DreamBoothConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats.weights import EMA, write_weights
from sdplay.methods import Group, facts_of

TITLE = "DreamBooth"


@dataclass
class DreamBoothTrainable:
    """All parameters of the denoiser, and of the text encoders for the first share of the steps."""

    parts: Parts
    config: DreamBoothConfig
    weights: Weights
    family: Family
    averages: dict[str, Tensor] | None
    """A running mean of every weight, where the config wants one."""
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

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the averages towards the weights; nearly all the way in the first steps, when there is little to average."""
        if self.averages is not None and self.config.ema_decay is not None:
            decay = min(self.config.ema_decay, (1 + step) / (10 + step))
            for name, average in self.averages.items():
                average.lerp_(self.weights.values[name], 1 - decay)

    def load(self, path: Path) -> None:
        """In place, the averages too."""
        weights = load_file(path)
        self.weights.load({name: tensor for name, tensor in weights.items() if not name.startswith(EMA)})
        for name, average in (self.averages or {}).items():
            average.copy_(weights[f"{EMA}{name}"])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """With the averages, where there are any."""
        if self.averages is None:
            yield
            return
        learning, self.weights.values = self.weights.values, self.averages
        self.weights.put_on()
        try:
            yield
        finally:
            self.weights.values = learning
            self.weights.put_on()

    def save(self, path: Path) -> None:
        """Everything in float32, the averages under names that begin with `ema.`."""
        averages = {f"{EMA}{name}": tensor for name, tensor in (self.averages or {}).items()}
        write_weights(path, {**self.weights.values, **averages}, facts_of(self.config, self.family))

    def export(self, path: Path) -> dict[Path, str]:
        """The weights, or their averages, in the number format of the config."""
        dtype = getattr(torch, self.config.save_dtype)
        values = self.weights.values if self.averages is None else self.averages
        write_weights(path, {name: tensor.to(dtype) for name, tensor in values.items()}, facts_of(self.config, self.family))
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
    averages = {name: tensor.clone() for name, tensor in weights.values.items()} if config.ema_decay is not None else None
    attach(parts, weights)
    return DreamBoothTrainable(parts, config, weights, family, averages)
