"""Files as the libraries themselves write them, and ours as they read them: the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, attached, read_adapter, write_adapter, write_embedding
from tests.formats.conftest import answers
from tests.formats.test_embedding import vectors

Make = Callable[..., AdapterFile]
NOISE = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj"]


@pytest.fixture
def pipeline(tiny_base: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)


@torch.no_grad()
def theirs(pipeline: StableDiffusionPipeline, prompt: str = "a dog", denoiser: nn.Module | None = None) -> Tensor:
    hidden = pipeline.encode_prompt(prompt, torch.device("cpu"), 1, do_classifier_free_guidance=False)[0]
    return (denoiser or pipeline.unet)(NOISE, torch.tensor([500]), hidden).sample


@torch.no_grad()
def shake(model: nn.Module, mark: str) -> None:
    """Random values for what starts as zero."""
    random = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if mark in name:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random))


@pytest.mark.trap(12, 16)
@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_what_diffusers_saves_is_read_with_its_alpha(
    pipeline: StableDiffusionPipeline, parts: Parts, sd15: Family, tmp_path: Path, dora: bool
) -> None:
    """Rank 4, alpha 6: `save_lora_weights` as the example scripts call it, text encoder included."""
    pipeline.unet.add_adapter(LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_dora=dora))
    pipeline.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=1, target_modules=["q_proj", "out_proj"], use_dora=dora))
    for model in (pipeline.unet, pipeline.text_encoder):
        shake(model, "lora_B")
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, get_peft_model_state_dict(pipeline.unet), get_peft_model_state_dict(pipeline.text_encoder),
        **_collate_lora_metadata({"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}),
    )  # fmt: skip

    with attached(parts, [(read_adapter(tmp_path / "pytorch_lora_weights.safetensors"), 1.0)]):
        ours = answers(parts, sd15)

    assert (ours - theirs(pipeline)).abs().max() < 1e-5
    assert (ours - answers(parts, sd15)).abs().max() > 1e-3


@pytest.mark.trap(12)
@pytest.mark.parametrize(
    "config",
    [LoraConfig(r=4, lora_alpha=6), LoraConfig(r=4, lora_alpha=6, use_rslora=True), LoraConfig(r=4, lora_alpha=6, use_dora=True),
     LoHaConfig(r=2, alpha=5), LoKrConfig(r=2, alpha=5)],
    ids=["LoRA", "rsLoRA", "DoRA", "LoHa", "LoKr"],
)  # fmt: skip
def test_what_peft_saves_is_read_with_the_alpha_of_the_file_beside_it(
    pipeline: StableDiffusionPipeline, parts: Parts, sd15: Family, tmp_path: Path, config: LoraConfig | LoHaConfig | LoKrConfig
) -> None:
    config.target_modules = set(TARGETS)
    wrapped = get_peft_model(pipeline.unet, config)
    shake(wrapped, "lora_B" if isinstance(config, LoraConfig) else "_w")
    wrapped.save_pretrained(tmp_path)

    with attached(parts, [(read_adapter(tmp_path / "adapter_model.safetensors"), 1.0)]):
        ours = answers(parts, sd15)

    assert (ours - theirs(pipeline, denoiser=wrapped)).abs().max() < 1e-4
    assert (ours - answers(parts, sd15)).abs().max() > 1e-3


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_what_we_write_peft_loads(
    pipeline: StableDiffusionPipeline, make: Make, parts: Parts, sd15: Family, tmp_path: Path, dora: bool
) -> None:
    """One alpha and rank, and the denoiser only: peft keeps neither several parts nor alphas in its file."""
    adapter = make(dora=dora, alpha=3.0)
    adapter = replace(
        adapter, layers={path: layer for path, layer in adapter.layers.items() if path.startswith("unet.") and layer.rank == 2}
    )
    write_adapter(tmp_path / "ours.safetensors", adapter, "diffusers")
    with attached(parts, [(read_adapter(tmp_path / "ours.safetensors"), 1.0)]):
        ours = answers(parts, sd15)
    written = {key.replace("unet.", "base_model.model.", 1): tensor for key, tensor in load_file(tmp_path / "ours.safetensors").items()}
    names = [path.removeprefix("unet.") for path in adapter.layers]
    LoraConfig(r=2, lora_alpha=3, target_modules=names, use_dora=dora).save_pretrained(str(tmp_path))
    save_file(written, tmp_path / "adapter_model.safetensors")

    loaded = PeftModel.from_pretrained(pipeline.unet, str(tmp_path))

    assert (ours - theirs(pipeline, denoiser=loaded)).abs().max() < 1e-5
    assert (ours - answers(parts, sd15)).abs().max() > 1e-3


def test_words_of_2022_and_of_today_are_used_at_once_with_an_adapter_at_its_strength(
    pipeline: StableDiffusionPipeline, make: Make, parts: Parts, sd15: Family, tmp_path: Path
) -> None:
    """Three files and strengths in one picture; the judge is diffusers with the same vectors."""
    marked = {"<s1>": "<embed>", "<s2>": "<embed>"}
    save_file({"<s1>": vectors(2)[0].clone(), "<s2>": 2 * vectors(2)[1]}, tmp_path / "old.safetensors", metadata=marked)
    write_embedding(tmp_path / "fox.safetensors", {"text_encoder": vectors(3)}, "<fox>", "kohya")
    write_adapter(tmp_path / "lora.safetensors", make(), "diffusers")
    prompt = "a <s1><s2>, red <fox>"

    files = [(read_adapter(tmp_path / f"{name}.safetensors"), strength) for name, strength in (("lora", 0.5), ("old", 1.0), ("fox", 0.7))]
    with attached(parts, files):
        ours = answers(parts, sd15, prompt)
    with attached(parts, files[::2]):
        without = answers(parts, sd15, prompt)

    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="a")
    pipeline.set_adapters(["a"], [0.5])
    for word, rows in {"<s1>": vectors(2)[:1], "<s2>": 2 * vectors(2)[1:], "<fox>": vectors(3)}.items():
        pipeline.load_textual_inversion({word: rows}, token=word)
    assert (ours - theirs(pipeline, prompt)).abs().max() < 1e-5
    assert (ours - without).abs().max() > 1e-3, "the words of 2022 are heard"
