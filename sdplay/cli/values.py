"""What is typed -> the values of a training config."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sdplay.config import parse_assignment
from sdplay.errors import ConfigError
from sdplay.presets import AUTO
from sdplay.yaml_text import parse_yaml

if TYPE_CHECKING:
    from sdplay.engine import Engine


def train_values(arguments: argparse.Namespace, engine: Engine, dataset: str = "") -> dict[str, object]:
    """Preset, prompt set, file and --set, in this order; the later wins. `dataset`: what the preset `auto` looks at."""
    changes: dict[str, object] = {}
    if getattr(arguments, "like", None):
        changes.update(engine.history.settings(arguments.like))
    if arguments.config:
        changes.update(_read_config(arguments.config))
    named = {"dataset": arguments.dataset, "token": arguments.token, "class_word": arguments.class_word, "base_model": arguments.base}
    changes.update({key: value for key, value in named.items() if value is not None})
    changes.update(dict(parse_assignment(text) for text in arguments.settings))
    if arguments.preset != AUTO:
        return composed(arguments.preset, arguments.prompts, changes, engine)
    if not dataset:
        raise ConfigError("The preset auto needs pictures to look at.", "Give --images or --dataset, or another preset.")
    base_model = str(changes.get("base_model", "mini"))
    advice = engine.advise(dataset, base_model=base_model, class_word=str(changes.get("class_word") or ""))
    print("\n".join(f"{reason.about}: {reason.text}" for reason in advice.reasons), file=sys.stderr)
    prompts = arguments.prompts or (f"mini-{advice.prompt_set}" if base_model == "mini" else advice.prompt_set)
    return composed(AUTO, prompts, {**advice.values, **changes}, engine)


def composed(preset_name: str, prompt_set_name: str | None, changes: Mapping[str, object], engine: Engine) -> dict[str, object]:
    """A preset with its prompt set, or another one, and changes."""
    from sdplay.presets import compose_training, training_preset

    preset = training_preset(preset_name)
    chosen = prompt_set_name or preset.prompt_set_for(str(changes.get("base_model", "mini")))
    return compose_training(preset, engine.prompt_set(chosen), changes)


def axis_text(text: str) -> tuple[str, str]:
    """`strength=0.2..1:0.2` as name and values. Raises ConfigError."""
    name, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(f"--axis {text!r} is not NAME=VALUES.", "Write it like --axis strength=0.2..1:0.2.")
    return name.strip(), values


def _read_config(path: Path) -> dict[str, object]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "It must be a YAML file of settings.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings.", "Write one `key: value` per line.")
    settings = values.get("config", values)  # a run's config.yaml may be given as it is
    return {str(key): value for key, value in settings.items()}
