"""Named partial training configs: what to change from the defaults, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sdplay.config import TrainConfig
from sdplay.errors import ConfigError
from sdplay.prompt_sets import PromptSet
from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml

DEFAULT_METHOD = "lora"
AUTO = "auto"
"""Not a file: chosen from the data set and the machine, see advice.py."""
DEFAULT_TOKEN = "ohwx"
"""A trigger word that means nothing yet, for users who give none."""


class TrainingPreset(BaseModel):
    """One file of presets/training."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    why: str
    needs: str
    """What it takes: device and time."""
    place: int
    """Where it stands in the list: what a newcomer needs first comes first."""
    base_models: tuple[str, ...] = ()
    """Bases it was tuned on; empty: any."""
    prompt_sets: dict[str, str] = {}
    """The prompt set that goes with it, by base model; `default` for all others."""
    config: dict[str, Any]

    def prompt_set_for(self, base_model: str) -> str:
        """Name of the prompt set that goes with this preset on a base."""
        return self.prompt_sets.get(base_model) or self.prompt_sets.get("default", "object")


def load_training_presets(folder: Path = PRESETS / "training") -> dict[str, TrainingPreset]:
    """Every shipped preset by its file's name, in the order of their places."""
    presets = {path.stem: TrainingPreset.model_validate(parse_yaml(path.read_text())) for path in sorted(folder.glob("*.yaml"))}
    return dict(sorted(presets.items(), key=lambda entry: entry[1].place))


def training_preset(name: str) -> TrainingPreset:
    """A preset by name; `auto` is empty, to be filled by advice. Raises ConfigError that lists the names."""
    if name == AUTO:
        return TrainingPreset(title="Tell me", why="Looks at your pictures and this machine, and chooses.", needs="", place=0, config={})
    presets = load_training_presets()
    if name not in presets:
        raise ConfigError(f"There is no training preset {name!r}.", f"Choose one of: {', '.join([AUTO, *presets])}.")
    return presets[name]


def adapted(config: Mapping[str, object], method: str) -> dict[str, object]:
    """A preset's values as far as they hold for a method: all for its own, else what is about the run and not about the learning."""
    if config.get("method", DEFAULT_METHOD) == method:
        return {**config, "method": method}
    shared = TrainConfig.model_fields.keys() - {"learning_rate", "caption_dropout", "method"}
    return {"method": method, **{name: value for name, value in config.items() if name in shared}}


def compose_training(preset: TrainingPreset, prompt_set: PromptSet, changes: Mapping[str, object]) -> dict[str, object]:
    """A training config's values: the preset's, then the prompt set's, then the user's changes."""
    values: dict[str, object] = {
        **adapted(preset.config, str(changes.get("method") or preset.config.get("method", DEFAULT_METHOD))),
        "caption_templates": prompt_set.caption_templates,
        "template_weights": prompt_set.template_weights,
        "sample_prompts": prompt_set.prompts("sample"),
        "negative_prompt": prompt_set.negative,
        **changes,
    }
    if "caption_templates" in changes and "template_weights" not in changes:
        values["template_weights"] = []
    if not values.get("token"):
        values["token"] = DEFAULT_TOKEN
    return values
