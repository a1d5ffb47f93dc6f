"""What the Draw tab's handlers do with what the controls hold."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sdplay import png_settings
from sdplay.config import GenerateConfig
from sdplay.engine import Engine
from sdplay.errors import AdapterError, ConfigError
from sdplay.ui.access import Access
from sdplay.ui.tabs.draw import (
    MOST_ADAPTERS,
    Drawings,
    counted_seeds,
    draw_asked,
    fill_from_file,
    kept_start,
    show_strengths,
    tell_before,
    tell_vocabulary,
)
from sdplay.workspace import PRESETS

NAMES = ("negative_prompt", "steps", "guidance_scale", "scheduler")


def test_every_seed_counts_up() -> None:
    assert counted_seeds("3, 9", 2) == [3, 4, 9, 10]
    assert counted_seeds("1 2", 2) == [1, 2, 3]


@pytest.mark.parametrize(("seeds", "count"), [("", 1), ("1", 17), ("1, 100", 9)])
def test_no_pictures_and_too_many_get_a_sentence(seeds: str, count: int) -> None:
    with pytest.raises(ConfigError, match="Ask for 1 to 16"):
        counted_seeds(seeds, count)


def test_an_empty_editor_is_no_start_picture(tmp_path: Path) -> None:
    blank = Image.new("RGBA", (8, 8))

    for editor in (None, {"background": None, "layers": [], "composite": None}, {"background": blank, "layers": [blank]}):
        assert kept_start(editor, tmp_path) == {}


def test_what_is_painted_becomes_the_mask_whatever_its_colour(tmp_path: Path) -> None:
    layer = Image.new("RGBA", (8, 8))
    layer.paste((99, 102, 241, 178), (0, 0, 4, 8))
    layer.paste((0, 0, 0, 20), (4, 0, 8, 8))  # the soft edge of the brush

    kept = kept_start({"background": Image.new("RGB", (8, 8), "teal"), "layers": [layer]}, tmp_path)

    mask = np.asarray(Image.open(kept["mask"]))
    assert (mask[:, :4] == 255).all()
    assert (mask[:, 4:] == 0).all()
    assert set(kept_start({"background": Image.new("RGB", (8, 8)), "layers": []}, tmp_path)) == {"image"}


def test_every_chosen_adapter_has_its_strength() -> None:
    shown = show_strengths(["RUN", "a.safetensors"], 1, 1, 1, 1)

    assert [update["visible"] for update in shown] == [True, True, False, False]
    assert shown[1]["label"] == "Strength of a.safetensors"


def test_the_form_draws_and_the_picture_fills_the_form_again(engine: Engine, tiny_base: Path) -> None:
    weights = [1] * MOST_ADAPTERS
    settings = ["blue", 3, 2.5, "Euler a"]
    access = Access(base_model=str(tiny_base))

    visitor = SimpleNamespace(session_hash="me")
    *_, (html, cancel) = draw_asked(
        engine, access, Drawings(), NAMES, visitor, "a red ball", "5", 2, str(tiny_base), [], *weights, None, 0.6, *settings
    )
    path = next(engine.workspace.pictures.glob("*-s5.png"))
    filled = fill_from_file(NAMES, str(path))

    assert html.count("<img") == 2
    assert "Drew 2 pictures." in html
    assert not cancel["interactive"]
    assert (png_settings.read(path) or {})["scheduler"] == "Euler a"
    assert filled[:5] == ["a red ball", "5", 1, str(tiny_base), []]
    assert filled[5 : 5 + MOST_ADAPTERS] == [gr.skip()] * MOST_ADAPTERS
    assert filled[5 + MOST_ADAPTERS + 1 : -2] == settings


def test_an_empty_prompt_gets_a_sentence(engine: Engine) -> None:
    given = [" ", "1", 1, "mini", [], *[1] * MOST_ADAPTERS, None, 0.6, *[GenerateConfig().model_dump()[name] for name in NAMES]]

    with pytest.raises(ConfigError, match="There is no prompt"):
        next(draw_asked(engine, Access(), Drawings(), NAMES, SimpleNamespace(session_hash="me"), *given))


def test_a_drawing_is_cancelled_while_it_waits_and_draws_nothing(engine: Engine, tiny_base: Path) -> None:
    """Something else has the accelerator; the visitor is told at once, and what was asked for is not drawn later either."""
    visitor, other, drawings, held = SimpleNamespace(session_hash="me"), SimpleNamespace(session_hash="you"), Drawings(), Event()
    settings = [GenerateConfig().model_dump()[name] for name in NAMES]
    blocking = engine.in_worker(str(tiny_base), lambda _parts, _family: held.wait(60))
    asked = draw_asked(
        engine, Access(base_model=str(tiny_base)), drawings, NAMES, visitor, "a ball", "1", 4, str(tiny_base), [],
        *[1] * MOST_ADAPTERS, None, 0.6, *settings,
    )  # fmt: skip

    html, cancel = next(asked)
    drawings.cancel(other)
    assert "0 of 4 pictures" in html
    assert cancel["interactive"]
    drawings.cancel(visitor)
    told, cancel = next(asked)
    assert "Cancelled. Drew 0 pictures." in told
    assert not cancel["interactive"]
    assert list(asked) == []

    held.set()
    blocking.result()
    engine.in_worker(str(tiny_base), lambda _parts, _family: None).result()
    assert not list(engine.workspace.pictures.glob("*.png"))


def test_on_a_public_server_no_adapter_of_a_mix_is_a_path() -> None:
    with pytest.raises(AdapterError, match="was not uploaded"):
        Access(local=False).columns(["base+/etc/secret.safetensors:0.5+RUN"])


def test_words_that_the_base_was_never_shown_are_told_before(engine: Engine, tiny_base: Path) -> None:
    assert "mini was never shown: paris, skech (sketch?)." in tell_before(
        engine, Access(), "a fox in paris, skech style", "mini", [], 4, "adapter", 1.0
    )
    assert not tell_before(engine, Access(), "a fox, sketch style", "mini", [], 4, "adapter", 1.0)
    assert not tell_before(engine, Access(), "a fox in paris", str(tiny_base), [], 4, "adapter", 1.0), "it does not say what it was shown"
    assert "alarm clock" in tell_vocabulary(engine, Access(), "mini")
    assert tell_vocabulary(engine, Access(), str(tiny_base)) == ""


def test_a_setting_that_changes_nothing_says_so(engine: Engine) -> None:
    told = "Guidance reference base changes nothing here."

    assert told in tell_before(engine, Access(), "fox", "mini", [], 4, "base", 1.0)
    assert told in tell_before(engine, Access(), "fox", "mini", ["a.safetensors"], 1, "base", 1.0)
    assert not tell_before(engine, Access(), "fox", "mini", ["a.safetensors"], 4, "base", 1.0)
    assert not tell_before(engine, Access(), "fox", "mini", [], 4, "adapter", 1.0)
    assert "Guidance until changes nothing here." in tell_before(engine, Access(), "fox", "mini", [], 1, "adapter", 0.5)
    assert not tell_before(engine, Access(), "fox", "mini", [], 4, "adapter", 0.5)


def test_on_a_public_server_nothing_is_told_of_a_folder(engine: Engine) -> None:
    folder, public = str(PRESETS / "mini"), Access(local=False)

    assert "alarm clock" in tell_vocabulary(engine, Access(), folder)
    assert tell_vocabulary(engine, public, folder) == ""
    assert tell_vocabulary(engine, public, None) == "", "the box of the base is empty"
    assert "paris" in tell_before(engine, Access(), "paris", folder, [], 4, "adapter", 1.0)
    assert tell_before(engine, public, "paris", folder, [], 4, "adapter", 1.0) == ""
