"""What differs between ways to train, one file each.

A method never imports another. Adding one is one file here whose module satisfies `Method`, found by its name, and its
config in sdplay/config.py, which must be readable before torch is.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sdplay.config import LoraConfig, TrainConfig, parse
from sdplay.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sdplay.families import Family, Parts

CONFIGS: dict[str, type[TrainConfig]] = {"lora": LoraConfig}


class Trainable(Protocol):
    """What a run trains, attached to the loaded base."""

    def parameters(self) -> list[nn.Parameter]:
        """The float32 weights that the optimiser changes, always in the same order."""

    def weights(self) -> dict[str, Tensor]:
        """Everything learned, under the names other programs read; a copy on the CPU."""

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what `weights` gave."""

    def activate(self) -> None:
        """Make this the adapter that the denoiser uses and that learns, after others were in use."""

    def save(self, path: Path) -> None:
        """Write one file that other programs read."""

    def detach(self) -> None:
        """Leave the base as it was."""


class Method(Protocol):
    """What a module in this package provides. See lora.py."""

    TITLE: str

    def prepare(self, parts: Parts, family: Family, config: TrainConfig) -> Trainable:
        """Attach fresh weights to the base. Same seed, same weights."""


def method(name: str) -> Method:
    """A method by its file's name."""
    return importlib.import_module(f"sdplay.methods.{name}")  # type: ignore[return-value]


def parse_train_config(values: Mapping[str, object]) -> TrainConfig:
    """The config of the method that `values` names (LoRA if none). Raises ConfigError."""
    name = values.get("method", "lora")
    if name not in CONFIGS:
        raise ConfigError(f"There is no training method {name!r}.", f"Choose one of: {', '.join(CONFIGS)}.")
    return parse(CONFIGS[str(name)], values)
