"""A config's fields become controls, and controls become a config's values."""

from __future__ import annotations

import gradio as gr
import pytest

from sdplay.config import GenerateConfig, LoraConfig, parse
from sdplay.errors import ConfigError, DataError
from sdplay.ui.access import Access
from sdplay.ui.errors import UNEXPECTED, friendly
from sdplay.ui.forms import Form, controls_of, defaults, explain, fields_of
from sdplay.ui.html import only_news


def test_every_field_that_is_not_hidden_has_a_control_with_its_title() -> None:
    controls = {**controls_of(LoraConfig, "basic", prefix="t"), **controls_of(LoraConfig, "expert", prefix="t")}

    hidden = fields_of(LoraConfig, "hidden")
    assert set(controls) | set(hidden) == set(LoraConfig.model_fields)
    assert all(control.label == LoraConfig.model_fields[name].title for name, control in controls.items())


def test_the_defaults_of_a_form_are_a_valid_config() -> None:
    form = Form({**controls_of(LoraConfig, "basic", prefix="t"), **controls_of(LoraConfig, "expert", prefix="t")})

    values = form.values(defaults(form, LoraConfig, {"steps": 7}))

    assert parse(LoraConfig, values) == LoraConfig(steps=7)


def test_an_explanation_says_what_is_typical_and_what_is_risky() -> None:
    text = explain(GenerateConfig.model_fields["guidance_scale"])

    assert "Typical: 3 for the embedded model, 7 for Stable Diffusion." in text
    assert "Risk: High: harsh colours." in text


def test_an_engine_error_becomes_its_two_sentences() -> None:
    def fails() -> None:
        raise DataError("No picture.", "Bring one.")

    with pytest.raises(gr.Error) as caught:
        friendly(fails)()
    assert caught.value.message == "No picture. Bring one."


def test_any_other_error_says_nothing_about_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("secret path")

    with pytest.raises(gr.Error) as caught:
        friendly(fails)()
    assert caught.value.message == UNEXPECTED
    assert "secret path" in caplog.text


def test_only_what_is_new_is_sent() -> None:
    first, *_, seen = only_news({}, {"a": 1}, {"a": lambda: "one"})
    again, *_, still = only_news(seen, {"a": 1}, {"a": lambda: "one"})

    assert first == "one"
    assert again == still == gr.skip()


@pytest.mark.parametrize("source", ["/etc", "relative/../../etc/passwd", "~/pictures"])
def test_a_public_server_reads_no_path_of_its_own(source: str) -> None:
    with pytest.raises(DataError):
        Access(local=False).sources([source])


def test_a_public_server_takes_hub_ids_and_a_local_one_takes_folders() -> None:
    assert Access(local=False).sources(["owner/name"]) == ["owner/name"]
    assert Access(local=True).sources(["/home/me/pictures"]) == ["/home/me/pictures"]


def test_seeds_are_read_as_people_write_them() -> None:
    from sdplay.ui.tabs.compare import parse_seeds

    assert parse_seeds("1, 2 3") == [1, 2, 3]
    with pytest.raises(ConfigError, match="one"):
        parse_seeds("one")
