"""The Train tab shows each method its own settings."""

from __future__ import annotations

import gradio as gr

from sdplay.methods import CONFIGS, parse_train_config
from sdplay.presets import adapted, load_training_presets
from sdplay.ui.forms import controls_of_any
from sdplay.ui.tabs.train import apply_method, apply_preset, effective_rate, show_fields

FORM = (
    "method",
    *controls_of_any(list(CONFIGS.values()), "basic", prefix="t"),
    *controls_of_any(list(CONFIGS.values()), "expert", prefix="t"),
)


def test_every_visible_setting_of_every_method_has_one_control() -> None:
    wanted = {
        name
        for config in CONFIGS.values()
        for name, field in config.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra["level"] != "hidden"
    }

    assert set(FORM) == wanted | {"method"}
    assert len(FORM) == len(set(FORM))


def test_a_method_shows_its_own_settings_only() -> None:
    shown = {name for name, update in zip(FORM, show_fields(FORM, "textual_inversion"), strict=True) if update["visible"] is True}

    assert {"method", "vectors", "initial", "steps", "ema_decay"} <= shown
    assert not {"rank", "alpha", "pivot", "save_dtype"} & shown


def test_choosing_a_preset_or_a_method_fills_in_a_valid_config_of_it() -> None:
    for values in (
        *(apply_preset(FORM, name) for name in load_training_presets()),
        *(apply_method(FORM, "style", name) for name in CONFIGS),
    ):
        filled = {name: value for name, value in zip(FORM, values, strict=True) if value != gr.skip()}

        assert parse_train_config(filled).method == filled["method"]


def test_a_lora_presets_rate_is_not_taken_over_by_another_method() -> None:
    style = load_training_presets()["style"].config
    config = adapted(style, "dreambooth")

    assert "learning_rate" not in config
    assert "rank" not in config
    assert config["steps"] == style["steps"]


def test_the_effective_rate_is_said_where_there_is_a_rank() -> None:
    assert "0.0005" in effective_rate("lora", "lora", 1e-3, 8, 16)
    assert "0.002" in effective_rate("pivotal", "rslora", 1e-3, 8, 16)
    assert effective_rate("dreambooth", "lora", 1e-3, 8, 16) == ""
