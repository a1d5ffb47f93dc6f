"""What we write others read; what others send us is checked before it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sdplay.engine import Engine
from sdplay.errors import AdapterError, SdplayError
from sdplay.formats import AdapterFile, read_adapter, trained_layers, write_adapter
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
    lora = read_adapter(engine.export(run.id, tmp_path))

    assert (lora.rank, lora.alpha) == (4, 2.0)
    assert "modelspec.trigger_phrase" in lora.facts


def test_export_wants_a_safetensors_name(engine: Engine, run: Run, tmp_path: Path) -> None:
    with pytest.raises(SdplayError, match=r"does not end in \.safetensors"):
        engine.export(run.id, tmp_path / "lora.ckpt")


def test_an_adapter_of_another_base_is_refused_and_the_base_stays_clean(engine: Engine, tiny_base: Path, tmp_path: Path) -> None:
    before = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path
    weights = {f"{LAYER}.lora_A.weight": torch.ones(4, 320), f"{LAYER}.lora_B.weight": torch.ones(320, 4)}
    write_adapter(tmp_path / "big.safetensors", AdapterFile("big", trained_layers(weights, 4.0)), "diffusers")

    with pytest.raises(AdapterError, match="does not fit"):
        engine.draw(["dog"], [1], {"steps": 2}, adapter=str(tmp_path / "big.safetensors"), base_model=str(tiny_base))

    after = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path
    assert (pixels(before) == pixels(after)).all()


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


def test_a_finished_run_has_a_proved_file_for_each_kind_of_program(run: Run) -> None:
    state = run.state()

    assert [artifact.format for artifact in state.artifacts] == ["diffusers LoRA", "kohya, for A1111 and ComfyUI"]
    assert state.message == ""
    first, second = (read_adapter(run.folder / artifact.file) for artifact in state.artifacts)
    assert (first.layout, second.layout) == ("diffusers", "kohya")
    assert all((first.layers[path].tensors["up"] == layer.tensors["up"]).all() for path, layer in second.layers.items())


def test_a_run_exported_for_other_programs_draws_the_same_picture(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    path = engine.export(run.id, tmp_path / "mine.safetensors", layout="kohya")

    ours = engine.draw(["a red ball"], [7], {"steps": 4}, adapter=str(path), base_model=str(tiny_base))[0].path

    assert read_adapter(path).layout == "kohya"
    assert abs(pixels(ours) - plain_diffusers(tiny_base, path)).max() < 2


def test_two_adapters_in_one_column_add_up(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    """0.5 + 0.5 of one adapter is that adapter."""
    path = engine.export(run.id, tmp_path / "mine.safetensors")
    drawing = {"steps": 4}

    whole = engine.draw(["a red ball"], [7], drawing, adapter=run.id, base_model=str(tiny_base))[0].path
    halves = engine.draw(["a red ball"], [7], drawing, adapter=f"{run.id}:0.5+{path}:0.5", base_model=str(tiny_base))[0].path

    assert abs(pixels(whole) - pixels(halves)).max() < 2
    with pytest.raises(SdplayError, match="mixes 9"):
        engine.draw(["a red ball"], [7], drawing, adapter="+".join([run.id] * 9), base_model=str(tiny_base))


def test_a_plus_in_a_files_name_is_no_mix(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    path = engine.export(run.id, tmp_path / "cat+dog.safetensors")

    assert engine.draw(["dog"], [1], {"steps": 2}, adapter=f"{path}:0.5", base_model=str(tiny_base))


def test_a_merged_run_is_a_base_model(engine: Engine, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    with_it = engine.draw(["a red ball"], [7], {"steps": 4}, adapter=run.id, base_model=str(tiny_base))[0].path

    folder = engine.export_merged(run.id, tmp_path / "model")

    merged = engine.draw(["a red ball"], [7], {"steps": 4}, base_model=str(folder))[0].path
    assert abs(pixels(merged) - pixels(with_it)).max() < 2


def test_kohya_files_have_a_preview_of_the_runs_last_sample(engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures))

    facts = read_adapter(engine.export(run.id, tmp_path / "a.safetensors", layout="kohya")).facts

    assert facts["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
