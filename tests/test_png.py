"""Settings inside pictures: ours, and those of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from sdplay.drawing import GenerateConfig
from sdplay.errors import ConfigError
from sdplay.png import as_asked, parameters_text, read_settings, write_png

A1111 = """a (red:1.2) ball, on grass
two lines
Negative prompt: blurry, low quality
Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234, Size: 512x768, Model hash: abc, Model: v1-5-pruned, \
Denoising strength: 0.55, Clip skip: 2, Lora hashes: "one: 12, two: 34", Version: v1.10.1"""


def with_parameters(folder: Path, text: str) -> Path:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(folder / "theirs.png", pnginfo=chunks)
    return folder / "theirs.png"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    drawing = GenerateConfig(
        steps=7, scheduler="Euler a", clip_skip=2, negative_prompt='with "quotes", commas\nand lines', size=64, height=96
    )
    settings = {**drawing.model_dump(), "prompt": "a (red:1.2) ball", "seed": 5, "base_model": "mini", "adapter": "RUN:0.8+a.safetensors"}

    write_png(tmp_path / "ours.png", Image.new("RGB", (64, 96)), {**settings, "strength": 0.5})
    asked = as_asked(read_settings(tmp_path / "ours.png"))

    assert asked.drawing == drawing
    assert (asked.prompts, asked.seeds, asked.base_model) == (("a (red:1.2) ball",), (5,), "mini")
    assert (asked.adapter, asked.strength) == ("RUN:0.8+a.safetensors", 0.5)


def test_a_picture_by_a1111_is_read(tmp_path: Path) -> None:
    asked = as_asked(read_settings(with_parameters(tmp_path, A1111)))

    assert (asked.prompts, asked.seeds, asked.strength) == (("a (red:1.2) ball, on grass\ntwo lines",), (1234,), 0.55)
    expected = {"steps": 25, "scheduler": "DPM++ 2M Karras", "guidance_scale": 6.5, "size": 512, "height": 768, "clip_skip": 2}
    assert asked.drawing == GenerateConfig(negative_prompt="blurry, low quality", **expected)
    assert asked.base_model == "mini", "what A1111 calls a model is no base of ours"


def test_our_text_is_what_a1111_reads(tmp_path: Path) -> None:
    settings = {"prompt": "a ball", "negative_prompt": "blue", "steps": 4, "seed": 1, "guidance_scale": 3.0, "scheduler": "Euler a"}

    text = parameters_text({**settings, "size": "64x64", "clip_skip": 2, "base_model": "mini"})

    lines = [
        "a ball",
        "Negative prompt: blue",
        "Steps: 4, Sampler: Euler a, CFG scale: 3.0, Seed: 1, Size: 64x64, Model: mini, Clip skip: 2",
    ]
    assert text.splitlines() == lines
    asked = as_asked(read_settings(with_parameters(tmp_path, text)))
    assert (asked.prompts, asked.drawing.scheduler, asked.drawing.clip_skip) == (("a ball",), "Euler a", 2)


def test_a_scheduler_nobody_has_here_is_left_open(tmp_path: Path) -> None:
    path = with_parameters(tmp_path, "a ball\nSteps: 20, Sampler: Restart, Seed: 3")

    assert as_asked(read_settings(path)).drawing.scheduler == "base"


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_gets_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)

    with pytest.raises(ConfigError, match="no picture that can be read"):
        read_settings(tmp_path / "x.png")


def test_a_picture_without_settings_gets_a_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")

    with pytest.raises(ConfigError, match="does not say how it was made"):
        read_settings(tmp_path / "x.png")


@pytest.mark.parametrize("own", ['{"steps": "many", "prompt": "a"}', '{"seed": -1}', '{"size": 31}', '{"adapter": "RUN", "prompt": 5}'])
def test_settings_nobody_can_have_asked_for_get_a_sentence(tmp_path: Path, own: str) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("sdplay", own)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=chunks)

    with pytest.raises(ConfigError):
        as_asked(read_settings(tmp_path / "x.png"))
