"""What we write others read; what others send us is checked before it is used."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from sdplay.engine import Engine
from sdplay.errors import AdapterError, SdplayError
from sdplay.export import read_lora, write_lora
from sdplay.runs import Run
from tests.test_train import pixels, trained, values

LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def run(engine: Engine, tiny_base: Path, pictures: Path) -> Run:
    return trained(engine, values(engine, tiny_base, pictures, sample_prompts=[], rank=4, alpha=2, learning_rate=5e-2))


def plain_diffusers(base: Path, adapter: Path | None, weight: float = 1.0) -> np.ndarray:
    """The picture that diffusers alone draws."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    if adapter:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name, adapter_name="a")
        pipeline.set_adapters(["a"], [weight])
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    picture = pipeline(
        "a red ball", latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np"
    ).images[0]
    return (picture * 255).round().astype(int)


def test_the_exported_file_draws_the_same_picture_in_plain_diffusers(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    path = engine.export(run.id, tmp_path / "mine.safetensors")

    ours = engine.draw(["a red ball"], [7], {"steps": 4}, adapter=str(path), base_model=str(tiny_base))[0].path

    assert abs(pixels(ours) - plain_diffusers(tiny_base, path)).max() < 2
    assert (plain_diffusers(tiny_base, path) != plain_diffusers(tiny_base, None)).any()


def test_at_strength_zero_the_picture_is_exactly_the_bases(engine: Engine, run: Run, tiny_base: Path) -> None:
    drawing = {"steps": 4}
    base = engine.draw(["a red ball"], [7], drawing, base_model=str(tiny_base))[0].path
    zero = engine.draw(["a red ball"], [7], drawing, adapter=f"{run.id}:0", base_model=str(tiny_base))[0].path

    assert (pixels(base) == pixels(zero)).all()


def test_strength_is_passed_on_to_the_adapter(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    path = engine.export(run.id, tmp_path / "mine.safetensors")

    half = engine.draw(["a red ball"], [7], {"steps": 4}, adapter=f"{path}:0.5", base_model=str(tiny_base))[0].path

    assert abs(pixels(half) - plain_diffusers(tiny_base, path, 0.5)).max() < 2


def test_alpha_and_trigger_word_are_kept(engine: Engine, run: Run, tmp_path: Path) -> None:
    lora = read_lora(engine.export(run.id, tmp_path))

    assert (lora.rank, lora.alpha) == (4, 2.0)
    assert "modelspec.trigger_phrase" in lora.facts


def test_export_wants_a_safetensors_name(engine: Engine, run: Run, tmp_path: Path) -> None:
    with pytest.raises(SdplayError, match=r"does not end in \.safetensors"):
        engine.export(run.id, tmp_path / "lora.ckpt")


def _file(path: Path, header: object, body: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("text", b"I am not an adapter, I am a text file of some length."),
        ("pickle", pickle.dumps({"unet.a.lora_A.weight": [1]})),
        ("zip", b"PK\x03\x04" + b"\0" * 60),
        ("length beyond the file", struct.pack("<Q", 2**60) + b"{}"),
        ("header of 90 MB said", struct.pack("<Q", 90_000_000) + b"{}"),
        ("header is a list", struct.pack("<Q", 2) + b"[]"),
    ],
)
def test_files_that_are_no_adapters_are_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)

    with pytest.raises(AdapterError, match=r"file\.safetensors"):
        read_lora(path)


def test_hostile_names_are_refused_before_any_tensor_is_read(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

    with pytest.raises(AdapterError, match="strange name"):
        read_lora(_file(tmp_path / "a.safetensors", {"unet.__class__.lora_A.weight": entry}, b"\0" * 4))


def test_a_file_with_too_many_tensors_is_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}

    with pytest.raises(AdapterError, match="header"):
        read_lora(_file(tmp_path / "a.safetensors", {f"t{i}": entry for i in range(20_001)}))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = {f"{LAYER}.lora_A.weight": torch.full((4, 16), torch.nan), f"{LAYER}.lora_B.weight": torch.zeros(16, 4)}
    write_lora(tmp_path / "a.safetensors", weights, rank=4, alpha=4, facts={})

    with pytest.raises(AdapterError, match="not finite"):
        read_lora(tmp_path / "a.safetensors")


def test_an_absurd_rank_is_refused(tmp_path: Path) -> None:
    weights = {f"{LAYER}.lora_A.weight": torch.zeros(300, 16), f"{LAYER}.lora_B.weight": torch.zeros(16, 300)}
    write_lora(tmp_path / "a.safetensors", weights, rank=300, alpha=4, facts={})

    with pytest.raises(AdapterError, match="rank 300"):
        read_lora(tmp_path / "a.safetensors")


def test_an_adapter_of_another_base_is_refused_and_the_base_stays_clean(engine: Engine, tiny_base: Path, tmp_path: Path) -> None:
    before = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path
    weights = {f"{LAYER}.lora_A.weight": torch.ones(4, 320), f"{LAYER}.lora_B.weight": torch.ones(320, 4)}
    write_lora(tmp_path / "big.safetensors", weights, rank=4, alpha=4, facts={})

    with pytest.raises(AdapterError, match="does not fit"):
        engine.draw(["dog"], [1], {"steps": 2}, adapter=str(tmp_path / "big.safetensors"), base_model=str(tiny_base))

    after = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path
    assert (pixels(before) == pixels(after)).all()


def test_a_lora_in_another_layout_is_named_as_such(tmp_path: Path) -> None:
    save_file({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(1, 1)}, tmp_path / "kohya.safetensors")

    with pytest.raises(AdapterError, match="another layout"):
        read_lora(tmp_path / "kohya.safetensors")


@pytest.mark.shared
def test_a_real_lora_of_2022_is_named_as_another_layout(shared: Path) -> None:
    with pytest.raises(AdapterError, match="layout"):
        read_lora(shared / "analog_svd_rank4.safetensors")


def test_a_brought_adapter_is_kept_under_its_name(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    brought = engine.export(run.id, tmp_path / "My LoRA (final).safetensors")

    name = engine.add_adapter(brought)
    brought.unlink()

    assert name == "my-lora-final.safetensors"
    assert engine.draw(["dog"], [1], {"steps": 2}, adapter=f"{name}:0.8", base_model=str(tiny_base))


def test_a_brought_file_that_is_no_adapter_is_refused_and_not_kept(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"hello, I am text")

    with pytest.raises(AdapterError, match="not a safetensors file"):
        engine.add_adapter(tmp_path / "x.safetensors")
    assert not engine.workspace.adapters.exists()
