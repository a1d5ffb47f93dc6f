"""A past run's settings in the form again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.errors import DataError
from sdplay.methods import CONFIGS
from sdplay.presets import DEFAULT_METHOD
from sdplay.ui.tabs.dataset import dataset_picker
from sdplay.ui.tabs.live import chosen_run
from sdplay.ui.views.run import short_name


def clone_settings(engine: Engine, names: Sequence[str], run_id: str | None) -> list[Any]:
    """Tabs, data set, base, the five words of a prompt set, name, then the form's values; ready to be changed and started."""
    chosen = chosen_run(run_id)
    settings = engine.history.settings(chosen)
    dataset = str(settings.get("dataset") or "")
    try:
        engine.dataset(dataset)
    except DataError:
        gr.Warning("The run's data set is gone; choose another one.")
        dataset = ""
    fields = CONFIGS[str(settings.get("method", DEFAULT_METHOD))].model_fields
    values = [settings.get(name, fields[name].default) if name in fields else gr.skip() for name in names]
    lines = ["\n".join(map(str, _listed(settings.get(name)))) for name in ("caption_templates", "sample_prompts")]
    words = [str(settings.get("token") or ""), str(settings.get("class_word") or ""), *lines, str(settings.get("negative_prompt") or "")]
    gr.Info(f"The settings of {short_name(chosen)} are in the form. Change what you like, then press Start training.", duration=6)
    picker = dataset_picker(engine, dataset) if dataset else gr.skip()
    return [gr.Tabs(selected="train"), picker, str(settings["base_model"]), *words, f"{short_name(chosen)} again"[:40], *values]


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else []
