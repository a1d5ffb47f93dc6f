"""Named partial training configs: what to change from the defaults, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from sdplay.errors import ConfigError
from sdplay.workspace import PRESETS


class TrainingPreset(BaseModel):
    """One file of presets/training."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    why: str
    needs: str
    """What it takes: device and time."""
    base_models: tuple[str, ...] = ()
    """Bases it was tuned on; empty: any."""
    config: dict[str, Any]


def load_training_presets(folder: Path = PRESETS / "training") -> dict[str, TrainingPreset]:
    """Every shipped preset by its file's name, in the files' order."""
    return {path.stem: TrainingPreset.model_validate(yaml.safe_load(path.read_text())) for path in sorted(folder.glob("*.yaml"))}


def training_preset(name: str) -> TrainingPreset:
    """A preset by name. Raises ConfigError that lists the names."""
    presets = load_training_presets()
    if name not in presets:
        raise ConfigError(f"There is no training preset {name!r}.", f"Choose one of: {', '.join(presets)}.")
    return presets[name]
