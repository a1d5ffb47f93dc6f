"""The Compare tab's form: chips, counting, and settings that come back from a picture."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from sdplay import png_settings
from sdplay.axes import axes
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.ui.access import Access
from sdplay.ui.tabs.compare import add_column, asked_values, columns_of, count_cells, fill_form, parse_seeds, take_file

NAMES = ("steps", "guidance_scale", "negative_prompt")
FORM = ("a fox\nan owl", "1..3", "mini", 20, 4.0, "")


def axis_texts(**given: str) -> list[str]:
    return [given.get(name, "") for name in axes()]


def test_the_form_becomes_a_comparison() -> None:
    values = asked_values(NAMES, '["my-run:0.5"]', *FORM, *axis_texts(strength="0.5, 1"))

    assert values["columns"] == ["base", "my-run:0.5"]
    assert values["seeds"] == [1, 2, 3]
    assert values["drawing"] == {"steps": 20, "guidance_scale": 4.0, "negative_prompt": ""}
    assert values["axes"] == {"strength": (0.5, 1.0)}


def test_how_many_pictures_there_will_be_is_said_while_one_types(engine: Engine) -> None:
    told, button = count_cells(engine, Access(), NAMES, '["my-run"]', *FORM, *axis_texts(steps="5, 10"))

    assert "24 pictures" in told
    assert button["interactive"]


@pytest.mark.parametrize(("axis", "says"), [("strength", "not a number"), ("checkpoint", "not a number"), ("steps", "not a number")])
def test_an_axis_that_cannot_be_read_is_a_sentence_and_nothing_is_drawn(engine: Engine, axis: str, says: str) -> None:
    told, button = count_cells(engine, Access(), NAMES, "[]", *FORM, *axis_texts(**{axis: "1, x"}))

    assert says in told
    assert not button["interactive"]


def test_too_many_pictures_are_counted_and_refused(engine: Engine) -> None:
    told, button = count_cells(engine, Access(), NAMES, "[]", *FORM, *axis_texts(steps="1..64", guidance_scale="1..8:0.2"))

    assert "13824 pictures; 400 are the most" in told  # 1 x 2 x 3 x 64 x 36
    assert not button["interactive"]


def test_a_chip_is_there_once_and_the_base_is_none() -> None:
    assert json.loads(add_column("[]", " my-run ")[0]) == ["my-run"]
    assert columns_of('["base", "my-run"]') == ["my-run"]
    for wanted in ("my-run", "base"):
        with pytest.raises(ConfigError, match="there already"):
            add_column('["my-run"]', wanted)


def test_a_picture_gives_its_settings_back(engine: Engine, tmp_path: Path) -> None:
    settings = {
        "prompt": "a fox", "seed": 7, "steps": 12, "guidance_scale": 3.5, "negative_prompt": "blur", "base_model": "mini",
        "column": "my-run@50:0.8", "adapter_strength": 0.5,
    }  # fmt: skip
    path = tmp_path / "cell.png"
    path.write_bytes(png_settings.write(Image.new("RGB", (8, 8)), settings))

    columns, prompt, seed, base, steps, guidance, negative, *more, upload = take_file(engine, NAMES, str(path), "[]")

    assert (json.loads(columns), prompt, seed, base) == (["my-run@50:0.8"], "a fox", "7", "mini")
    assert (steps, guidance, negative) == (12, 3.5, "blur")
    assert dict(zip(axes(), more, strict=True))["strength"] == "0.5"
    assert upload is None


def test_settings_that_cannot_be_used_leave_the_form_as_it_is() -> None:
    columns, prompt, _, base, steps, *_ = fill_form(NAMES, {"prompt": ["no text"], "steps": "many", "base_model": "sd15"})

    assert columns == prompt == base == steps == gr.skip()


def test_a_picture_without_settings_is_a_sentence(engine: Engine, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")

    with pytest.raises(ConfigError, match="says nothing"):
        take_file(engine, NAMES, str(tmp_path / "plain.png"), "[]")


def test_seeds_may_be_a_range() -> None:
    assert parse_seeds("1..4, 9") == [1, 2, 3, 4, 9]
