"""A picture knows how it was drawn, and can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from sdplay import png_settings
from sdplay.config import GenerateConfig
from sdplay.errors import ConfigError

SETTINGS = {
    "prompt": 'ein Fuchs, "rot", ümläut: 狐\nsecond line', "negative_prompt": "blur, text", "seed": 7, "steps": 20, "guidance_scale": 4.5,
    "size": None, "base_model": "C:\\models, mine", "adapter": "run@50 x 0.8 + other",
}  # fmt: skip
A1111 = (
    "masterpiece, (1girl:1.2), <lora:foo:0.8>\na second line\nNegative prompt: lowres, bad hands\nmore of it\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 123, Size: 512x768, Model hash: abc, Model: sd15, "
    'Clip skip: 2, Lora hashes: "foo: 1234, bar: 5678", Version: v1.9'
)


def saved(path: Path, *, size: tuple[int, int] = (8, 8), **chunks: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_itxt(name, text)
    Image.new("RGB", size).save(path, pnginfo=info)
    return path


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_settings.write(Image.new("RGB", (16, 16), "red"), SETTINGS))

    assert png_settings.read(path) == SETTINGS
    assert Image.open(path).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_the_text_for_other_programs_says_the_same(tmp_path: Path) -> None:
    text = png_settings.parameters_text(SETTINGS, (64, 48))

    read_back = png_settings.parse_parameters(text)

    assert read_back == {**{key: value for key, value in SETTINGS.items() if key != "size"}, "size": 64, "height": 48}


def test_a_picture_of_another_program_is_read(tmp_path: Path) -> None:
    assert png_settings.read(saved(tmp_path / "a.png", parameters=A1111)) == {
        "prompt": "masterpiece, (1girl:1.2), <lora:foo:0.8>\na second line", "negative_prompt": "lowres, bad hands\nmore of it",
        "steps": 28, "scheduler": "DPM++ 2M Karras", "guidance_scale": 7.5, "seed": 123, "size": 512,
        "height": 768, "base_model": "sd15", "clip_skip": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "chunks", [{}, {"sdplay": "{"}, {"sdplay": "[1]"}, {"sdplay": "{}"}, {"parameters": "just a prompt"}, {"parameters": ""},
               {"sdplay": "[" * 50_000}, {"parameters": "Steps: many"}]
)  # fmt: skip
def test_a_picture_that_says_nothing_usable_has_no_settings(tmp_path: Path, chunks: dict[str, str]) -> None:
    read = png_settings.read(saved(tmp_path / "a.png", **chunks))

    assert read is None or "steps" not in read


def test_what_is_no_picture_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (tmp_path / "b.png").write_text("text")

    assert png_settings.read(tmp_path / "a.png") is None
    assert png_settings.read(tmp_path / "b.png") is None
    assert png_settings.read(tmp_path / "missing.png") is None


def test_a_form_is_filled_as_the_picture_was_drawn(tmp_path: Path) -> None:
    drawing = GenerateConfig(steps=7, scheduler="Euler a", clip_skip=2, negative_prompt="blue", size=64, height=96)
    settings = {**drawing.model_dump(), "prompt": "a (red:1.2) ball", "seed": 5, "adapter": "RUN:0.8+a.safetensors", "image_strength": 0.5}
    (tmp_path / "a.png").write_bytes(png_settings.write(Image.new("RGB", (64, 96)), settings))

    asked = png_settings.as_asked(png_settings.read(tmp_path / "a.png") or {})

    assert asked.drawing == drawing
    assert (asked.prompts, asked.seeds, asked.base_model) == (("a (red:1.2) ball",), (5,), "mini")
    assert (asked.adapter, asked.strength) == ("RUN:0.8+a.safetensors", 0.5)


@pytest.mark.parametrize(
    ("named", "scheduler"),
    [("DPM++ 2M, Schedule type: Karras", "DPM++ 2M Karras"), ("Euler a, Schedule type: Automatic", "Euler a"), ("Restart", "base")],
)
def test_a_scheduler_is_known_however_a1111_names_it(named: str, scheduler: str) -> None:
    settings = png_settings.parse_parameters(f"a ball\nSteps: 20, Sampler: {named}, Seed: 3")

    assert png_settings.as_asked(settings).drawing.scheduler == scheduler


@pytest.mark.parametrize("settings", [{"steps": "many"}, {"seed": -1}, {"size": 31}, {"adapter": "RUN", "prompt": 5}])
def test_settings_nobody_can_have_asked_for_get_a_sentence(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        png_settings.as_asked(settings)
