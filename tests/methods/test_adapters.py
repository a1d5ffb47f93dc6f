"""Adapters: which layers, which weights, what diffusers reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from sdplay.attach import attach, base_alone, detach
from sdplay.attach.adapters import Adapter, Host, Shape, denoiser_layers, matching_layers
from sdplay.config import LoraConfig
from sdplay.device import Device
from sdplay.engine import Engine
from sdplay.errors import AdapterError, ConfigError
from sdplay.families import Parts, family
from sdplay.formats import attached, inspect_adapter, read_adapter, trained_layers
from sdplay.formats.lycoris import delta_of
from sdplay.methods import lora
from tests.methods.test_contract import settings
from tests.test_train import pixels, trained

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family("sd15").load(tiny_base, Device("cpu", "CPU"), source="tiny")


def said(parts: Parts) -> torch.Tensor:
    """What the denoiser says to fixed inputs."""
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        conditioning = family("sd15").encode_prompts(parts, ["a red ball, ohwx dog"])
        return family("sd15").predict(parts, noise, torch.tensor([500]), conditioning, torch.zeros(1, 6))


def test_layers_are_chosen_by_what_they_are(parts: Parts) -> None:
    attention = denoiser_layers(parts.denoiser, ATTENTION, "attention", "")
    mlp = set(denoiser_layers(parts.denoiser, ATTENTION, "attention+mlp", "")) - set(attention)
    conv = set(denoiser_layers(parts.denoiser, ATTENTION, "attention+mlp+conv", "")) - set(attention) - mlp

    assert {name.split(".attn")[-1].split(".", 1)[1] for name in attention} == set(ATTENTION)
    assert any(name.endswith("ff.net.0.proj") for name in mlp)
    assert any(name.endswith("resnets.0.conv1") for name in conv)
    assert not any("conv_in" in name or "conv_out" in name for name in conv)


def test_blocks_are_chosen_by_a_part_of_their_name(parts: Parts) -> None:
    layers = denoiser_layers(parts.denoiser, ATTENTION, "attention", "mid_block, up_blocks.1")

    assert {name.split(".")[0] for name in layers} == {"mid_block", "up_blocks"}


def test_b_loras_presets_are_the_two_blocks_of_sdxl() -> None:
    unet = nn.Module()
    unet.up_blocks = nn.ModuleList()
    for _ in range(2):
        block = nn.Module()
        block.attentions = nn.ModuleList([nn.ModuleDict({"to_q": nn.Linear(2, 2)}) for _ in range(3)])
        unet.up_blocks.append(block)

    assert matching_layers(unet, ATTENTION, "content") == ("up_blocks.0.attentions.0.to_q",)
    assert matching_layers(unet, ATTENTION, "style") == ("up_blocks.0.attentions.1.to_q",)


def test_blocks_that_do_not_exist_are_refused_with_advice(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="No layer"):
        denoiser_layers(parts.denoiser, ATTENTION, "attention", "up_blocks.77")


def test_lora_plus_lets_b_learn_faster_and_nothing_is_lost(parts: Parts) -> None:
    one = lora.prepare(parts, family("sd15"), LoraConfig())
    plain = one.groups()
    one.detach()
    plus = lora.prepare(parts, family("sd15"), LoraConfig(lora_plus_ratio=16.0)).groups()

    assert [group.rate for group in plain] == [1.0]
    assert [group.rate for group in plus] == [1.0, 16.0]
    assert all((parameter == 0).all() for parameter in plus[1].parameters), "B starts at zero"
    assert sum(len(group.parameters) for group in plus) == len(plain[0].parameters)


def test_lora_plus_needs_a_b(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="second matrix"):
        LoraConfig(kind="loha", lora_plus_ratio=4.0).check()


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_capped_layers_change_by_the_cap_and_the_others_as_before(parts: Parts, kind: str) -> None:
    layers = denoiser_layers(parts.denoiser, ATTENTION, "attention", "")
    adapter = Adapter(Shape(kind, 2, 2), {"unet": Host(parts.denoiser, layers)}, seed=0)  # type: ignore[arg-type]
    with torch.no_grad():
        for index, parameter in enumerate(adapter.parameters["unet"].values()):
            parameter.normal_(generator=torch.Generator().manual_seed(index))
    attach(parts, adapter)

    def norms() -> list[float]:
        return [float(place.layer.get_delta_weight("trainee").detach().norm()) for place in adapter._places["unet"]]

    before = norms()
    cap = sorted(before)[len(before) // 2] * 1.0001
    adapter.cap_norms(cap)

    assert norms() == pytest.approx([min(norm, cap) for norm in before], rel=1e-4)
    assert min(before) < cap < max(before)


def test_the_base_alone_is_the_base_and_afterwards_the_adapter_is_back(parts: Parts) -> None:
    base = said(parts)
    layers = denoiser_layers(parts.denoiser, ATTENTION, "attention", "")
    adapter = Adapter(Shape("lora", 2, 2), {"unet": Host(parts.denoiser, layers)}, seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters["unet"].values():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    attach(parts, adapter)
    changed = said(parts)

    with base_alone(parts):
        alone = said(parts)

    assert torch.equal(alone, base)
    assert torch.equal(said(parts), changed)
    assert not torch.equal(changed, base)
    detach(parts, adapter)
    assert torch.equal(said(parts), base)


@pytest.mark.parametrize("name", ["lora", "dora", "rslora", "lora with text encoder", "pivotal"])
def test_plain_diffusers_reads_the_file_and_draws_the_same_picture(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path, name: str
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, name, sample_prompts=[], alpha=2, learning_rate=5e-2))
    path = engine.export(run.id, tmp_path / "mine.safetensors")
    prompt = "a red ball"  # a word has no place in it: diffusers reads only the adapter
    ours = engine.draw([prompt], [7], {"steps": 4}, adapter=str(path), base_model=str(tiny_base))[0].path

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="a")
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    drawn = pipeline(prompt, latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np").images[0]

    assert abs(pixels(ours) - (drawn * 255).round().astype(int)).max() < 2


@pytest.mark.trap(12)
@pytest.mark.parametrize(("kind", "rank", "alpha"), [("lokr", 2, 6.0), ("lokr", 16, 6.0), ("loha", 2, 6.0), ("rslora", 4, 3.0)])
def test_the_files_scale_is_the_trained_one(parts: Parts, kind: str, rank: int, alpha: float) -> None:
    """At rank 16 LoKr's factors are whole; then LyCORIS and its readers ignore alpha, and so must training."""
    layers = denoiser_layers(parts.denoiser, ATTENTION, "attention", "")
    adapter = Adapter(Shape(kind, rank, alpha), {"unet": Host(parts.denoiser, layers)}, seed=0)  # type: ignore[arg-type]
    with torch.no_grad():
        for index, parameter in enumerate(adapter.parameters["unet"].values()):
            parameter.normal_(generator=torch.Generator().manual_seed(index))

    written = trained_layers(adapter.weights(), adapter.shape.true_alpha)

    for place in adapter._places["unet"]:
        base = place.layer.get_base_layer().weight
        expected = place.layer.get_delta_weight("trainee").detach()
        torch.testing.assert_close(delta_of(written[f"unet.{place.path}"], base), expected)


def test_a_file_says_its_kind_and_true_alpha(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "loha", sample_prompts=[], alpha=3))

    for artifact, layout in zip(run.state().artifacts, ("diffusers", "kohya (A1111, ComfyUI)"), strict=True):
        report = inspect_adapter(run.folder / artifact.file)
        assert (report.methods, report.ranks, report.alphas, report.layout) == (("LoHa",), (2,), (3.0,), layout)
        assert (report.trigger, report.family, report.training["steps"]) == ("ohwx", "sd15", "6")
    assert [artifact.format for artifact in run.state().artifacts] == ["peft LoHa", "kohya, for A1111 and ComfyUI"]


def test_an_adapter_of_another_base_is_refused_and_the_base_stays_clean(
    engine: Engine, tiny_base: Path, pictures: Path, parts: Parts
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dora", sample_prompts=[], targets="attention+mlp"))
    learned = read_adapter(run.folder / run.state().artifacts[0].file)
    parts.denoiser.mid_block.attentions[0].proj_in = nn.Identity()

    with pytest.raises(AdapterError, match="does not fit"), attached(parts, [(learned, 1.0)]):
        pass

    assert parts.attached == []
    assert not any("lora" in name for name, _ in parts.denoiser.named_modules())
