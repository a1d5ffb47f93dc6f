"""What differs between ways to train, one file each.

A method never imports another. Adding one is one file here whose module satisfies `Method`, found by its name, and its
config in sdplay/config/methods.py, which must be readable before torch is. What methods share is in sdplay/attach.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sdplay.config import DreamBoothConfig, LoraConfig, PivotalConfig, TextualInversionConfig, TrainConfig, parse
from sdplay.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from sdplay.families import Family, Parts
    from sdplay.formats import AdapterFile

CONFIGS: dict[str, type[TrainConfig]] = {
    "lora": LoraConfig,
    "dreambooth": DreamBoothConfig,
    "textual_inversion": TextualInversionConfig,
    "pivotal": PivotalConfig,
}
TITLES = {"lora": "LoRA", "dreambooth": "DreamBooth", "textual_inversion": "Textual inversion", "pivotal": "Pivotal tuning"}


FORMATS = {"lora": "diffusers LoRA", "dora": "diffusers DoRA", "rslora": "diffusers LoRA", "loha": "peft LoHa", "lokr": "peft LoKr"}
"""By kind, what an adapter's file is. Alpha is written so that an rsLoRA is a plain LoRA for those who read it."""


@dataclass(frozen=True)
class Group:
    """Weights that share an optimiser's settings, and the steps in which they learn."""

    parameters: Sequence[nn.Parameter]
    """float32, always in the same order."""
    rate: float = 1.0
    """Factor on the config's learning rate."""
    weight_decay: float | None = None
    """None: the config's."""
    first_step: int = 0
    end_step: int | None = None
    """The step before which they stop; None: the run's end. Outside their steps the loop leaves them bit for bit."""


class Trainable(Protocol):
    """What a run trains, attached to the loaded base."""

    changes_text: bool
    """Whether texts mean something else than to the base, so that the cache of the base's conditioning is of no use."""
    light: bool
    """Whether what was learned is small enough to be kept with every checkpoint."""

    def groups(self) -> list[Group]:
        """Everything that the optimiser changes, always in the same order."""

    def trains_text(self, step: int) -> bool:
        """Whether the conditioning of this step, counted from 0, needs gradients."""

    def after_step(self, step: int) -> None:
        """What has to be done to the weights when step number `step`, counted from 0, is done."""

    def load(self, path: Path) -> None:
        """Put back what `save` wrote. In place, so that the optimiser keeps its parameters."""

    def save(self, path: Path) -> None:
        """Write one file with all that a resumed run needs, which can be drawn with."""

    def export(self, path: Path) -> dict[Path, str]:
        """Write what the run leaves, `path` first. Returns each file's format, in words."""

    def detach(self) -> None:
        """Leave the base as it was."""


class Method(Protocol):
    """What a module in this package provides. See lora.py."""

    TITLE: str

    def prepare(self, parts: Parts, family: Family, config: TrainConfig) -> Trainable:
        """Attach fresh weights to the base. Same seed, same weights. When it raises, the base is as it was."""


def method(name: str) -> Method:
    """A method by its file's name."""
    return importlib.import_module(f"sdplay.methods.{name}")  # type: ignore[return-value]


def parse_train_config(values: Mapping[str, object]) -> TrainConfig:
    """The config of the method that `values` names (LoRA if none). Raises ConfigError."""
    name = values.get("method", "lora")
    if name not in CONFIGS:
        raise ConfigError(f"There is no training method {name!r}.", f"Choose one of: {', '.join(CONFIGS)}.")
    return parse(CONFIGS[str(name)], values)


def adapter_groups(parameters: Mapping[str, nn.Parameter], like: Group, ratio: float) -> list[Group]:
    """An adapter's tensors, by name, as groups like `like`: one, or with LoRA+ also one for B, `ratio` times as fast.

    Hayou et al. 2024, arXiv 2402.12354, sec. 4.
    """
    fast = [parameter for name, parameter in parameters.items() if ".lora_B." in name and ratio != 1]
    slow = [parameter for name, parameter in parameters.items() if ".lora_B." not in name or ratio == 1]
    groups = [replace(like, parameters=slow)]
    return [*groups, replace(like, parameters=fast, rate=like.rate * ratio)] if fast else groups


def write_both(path: Path, adapter: AdapterFile, title: str) -> dict[Path, str]:
    """Write diffusers' layout to `path`, kohya's beside it. Returns both with what they are; `title` is what the first is."""
    from sdplay.formats import write_adapter

    other = path.with_name(f"{path.stem}.kohya.safetensors")
    write_adapter(path, adapter, "diffusers")
    write_adapter(other, adapter, "kohya")
    return {path: title, other: "kohya, for A1111 and ComfyUI"}


def facts_of(config: TrainConfig, family: Family) -> dict[str, str]:
    """What a file says about how it was made."""
    return {
        "sdplay.family": family.NAME,
        "sdplay.base_model": config.base_model,
        "sdplay.method": config.method,
        "sdplay.token": config.token,
        "sdplay.steps": str(config.steps),
        "modelspec.trigger_phrase": config.token,
    }
