"""One adapter, many layouts: what is written can be read back, by us and by others, and means the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers, _maybe_map_sgm_blocks_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, Layer, attached, read_adapter, read_header, write_adapter
from sdplay.formats.attach import place
from sdplay.formats.diffusers_lora import HEADER_KEY, parse_key
from sdplay.formats.kohya import flat_name, read
from tests.formats.conftest import LINEAR, OUT, answers

Make = Callable[..., AdapterFile]
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def same(first: AdapterFile, second: AdapterFile) -> bool:
    if set(first.layers) != set(second.layers):
        return False
    for path, layer in first.layers.items():
        other = second.layers[path]
        if (layer.kind, layer.rank, layer.alpha, set(layer.tensors)) != (other.kind, other.rank, other.alpha, set(other.tensors)):
            return False
        if not all(torch.equal(tensor, other.tensors[name]) for name, tensor in layer.tensors.items()):
            return False
    return True


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_every_layout_brings_back_the_same_layers_ranks_and_alphas(make: Make, tmp_path: Path, dora: bool) -> None:
    adapter = make(dora=dora)
    for index, (first, second) in enumerate((("diffusers", "kohya"), ("kohya", "diffusers"))):
        write_adapter(tmp_path / f"a{index}.safetensors", adapter, first)
        write_adapter(tmp_path / f"b{index}.safetensors", read_adapter(tmp_path / f"a{index}.safetensors"), second)

        again = read_adapter(tmp_path / f"b{index}.safetensors")

        assert same(adapter, again)
        assert again.trigger == "sks-fox"


@torch.no_grad()
def plain_diffusers(base: Path, adapter: Path, strength: float) -> Tensor:
    """What diffusers alone computes with a file."""
    pipeline = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name, adapter_name="a")
    pipeline.set_adapters(["a"], [strength])
    ids = pipeline.tokenizer("a dog", padding="max_length", max_length=77, return_tensors="pt").input_ids
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    return pipeline.unet(noise, torch.tensor([500]), pipeline.text_encoder(ids).last_hidden_state).sample


@pytest.mark.trap(12, 16)
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_plain_diffusers_computes_the_same_from_either_layout(
    make: Make, parts: Parts, sd15: Family, tiny_base: Path, tmp_path: Path, layout: str, strength: float
) -> None:
    adapter = make(alpha=1.5 if layout == "kohya" else None)  # of kohya's layout diffusers 0.42 reads one alpha for all layers
    write_adapter(tmp_path / "a.safetensors", adapter, layout)
    with attached(parts, [(read_adapter(tmp_path / "a.safetensors"), strength)]):
        ours = answers(parts, sd15)

    theirs = plain_diffusers(tiny_base, tmp_path / "a.safetensors", strength)

    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - answers(parts, sd15)).abs().max() > 1e-3


def test_the_header_key_is_diffusers_own() -> None:
    assert HEADER_KEY == LORA_ADAPTER_METADATA_KEY


@pytest.mark.trap(12, 13)
def test_kohya_files_have_the_true_alpha_of_every_layer_and_dora_scale(make: Make, tmp_path: Path) -> None:
    """Traps 12 and 13 of the field: diffusers' own converter writes alpha = rank, and DoRA's magnitude under a wrong name."""
    adapter = make(dora=True)
    write_adapter(tmp_path / "a.safetensors", adapter, "kohya")

    written = load_file(tmp_path / "a.safetensors")

    for path, layer in adapter.layers.items():
        flat = flat_name(path, "sd15")
        assert written[f"{flat}.alpha"].item() == layer.alpha
        assert torch.equal(written[f"{flat}.dora_scale"], layer.tensors["dora_scale"])
    assert not any("magnitude" in key for key in written)


@pytest.mark.trap(14, 15)
@pytest.mark.parametrize(
    ("family", "component", "prefix"),
    [("sd15", "text_encoder", "lora_te_"), ("sd2", "text_encoder", "lora_te_"), ("sdxl", "text_encoder", "lora_te1_"),
     ("sdxl", "text_encoder_2", "lora_te2_"), ("sd3", "text_encoder", "lora_te1_")],
)  # fmt: skip
@pytest.mark.parametrize("named", ["text_model.encoder.layers.3.self_attn.q_proj", "encoder.layers.3.self_attn.q_proj"])
def test_text_encoder_keys_are_the_fields_whatever_transformers_calls_them(family: str, component: str, prefix: str, named: str) -> None:
    """Traps 14 and 15 of the field."""
    assert flat_name(f"{component}.{named}", family) == f"{prefix}text_model_encoder_layers_3_self_attn_q_proj"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (f"unet.{LINEAR}.lora_A.weight", f"unet.{LINEAR}"),
        (f"unet.{LINEAR}.lora_A.default.weight", f"unet.{LINEAR}"),
        (f"base_model.model.{LINEAR}.lora_B.weight", f"unet.{LINEAR}"),
        (f"unet.{LINEAR}.lora.up.weight", f"unet.{LINEAR}"),
        (f"unet.{LINEAR.replace('.to_q', '.processor.to_q_lora')}.down.weight", f"unet.{LINEAR}"),
        (f"{OUT.replace('.to_out.0', '.processor.to_out_lora')}.up.weight", f"unet.{OUT}"),
        ("text_encoder.text_model.encoder.layers.1.self_attn.to_v_lora.up.weight",
         "text_encoder.text_model.encoder.layers.1.self_attn.v_proj"),
        ("text_encoder.encoder.layers.1.self_attn.out_proj.lora_B.weight", "text_encoder.text_model.encoder.layers.1.self_attn.out_proj"),
        ("text_encoder_2.text_model.encoder.layers.1.mlp.fc1.lora_linear_layer.down.weight",
         "text_encoder_2.text_model.encoder.layers.1.mlp.fc1"),
        ("transformer.transformer_blocks.3.attn.add_q_proj.lora_A.weight", "transformer.transformer_blocks.3.attn.add_q_proj"),
    ],
)  # fmt: skip
def test_diffusers_names_of_every_year_mean_the_same_layer(key: str, path: str) -> None:
    parsed = parse_key(key)

    assert parsed is not None
    assert parsed[0] == path


def test_a_bias_beside_the_factors_is_not_taken_for_one() -> None:
    assert parse_key(f"unet.{LINEAR}.lora_B.bias") is None


def test_diffusers_own_converter_reads_our_sdxl_names_back_to_the_layers_we_meant() -> None:
    """The judge is diffusers' reader of original-layout files, over every attention, feed-forward and ResNet layer of SDXL."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    wanted = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and ("attentions" in name or "resnets" in name)
    }
    state, count = {}, len(wanted)
    for name in wanted:
        flat = flat_name(f"unet.{name}", "sdxl")
        state.update({f"{flat}.lora_down.weight": torch.zeros(1), f"{flat}.lora_up.weight": torch.zeros(1)})
        state[f"{flat}.alpha"] = torch.tensor(1.0)

    theirs, _ = _convert_non_diffusers_lora_to_diffusers(_maybe_map_sgm_blocks_to_diffusers(state, unet.config))

    understood = {parsed[0] for key in theirs if (parsed := parse_key(key))}
    assert count > 700
    assert understood == {f"unet.{name}" for name in wanted}


def test_sdxl_files_in_the_original_names_are_read() -> None:
    flat = "lora_unet_output_blocks_0_1_transformer_blocks_9_attn2_to_out_0"
    layers = read("x", {f"{flat}.lora_down.weight": torch.ones(2, 8), f"{flat}.lora_up.weight": torch.ones(8, 2)})

    assert list(layers) == ["unet.up_blocks.0.attentions.0.transformer_blocks.9.attn2.to_out.0"]


@pytest.mark.trap(16)
def test_sd3_files_with_fused_projections_become_three_layers_each() -> None:
    """Trap 16 of the field: diffusers ignores such files without a word."""
    up = torch.arange(24.0).reshape(12, 2)
    flat = "lora_unet_joint_blocks_0_x_block_attn_qkv"

    layers = read("x", {f"{flat}.lora_down.weight": torch.ones(2, 4), f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(1.0)})

    names = [f"transformer.transformer_blocks.0.attn.to_{part}" for part in "qkv"]
    assert set(layers) == set(names)
    assert torch.equal(torch.cat([layers[name].tensors["up"] for name in names]), up)
    assert all(layer.alpha == 1.0 for layer in layers.values())


def test_a_kohya_file_says_what_it_is_in_its_metadata(make: Make, tmp_path: Path) -> None:
    write_adapter(tmp_path / "fox.safetensors", make(), "kohya")

    facts = read_header(tmp_path / "fox.safetensors").facts

    assert facts["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert facts["modelspec.trigger_phrase"] == "sks-fox"
    assert facts["modelspec.title"] == "fox"
    assert facts["ss_network_module"] == "networks.lora"
    assert facts["ss_base_model_version"] == "sd_v1"
    assert json.loads(facts["ss_tag_frequency"]) == {"sdplay": {"sks-fox": 1}}


@pytest.mark.trap(12)
def test_alpha_missing_everywhere_is_the_rank_and_rslora_is_understood(tmp_path: Path) -> None:
    weights = {f"unet.{LINEAR}.lora_A.weight": torch.ones(4, 16), f"unet.{LINEAR}.lora_B.weight": torch.ones(16, 4)}
    save_file(weights, tmp_path / "plain.safetensors")
    header = {HEADER_KEY: json.dumps({"unet.r": 4, "unet.lora_alpha": 3, "unet.use_rslora": True})}
    save_file(weights, tmp_path / "rslora.safetensors", metadata=header)

    assert read_adapter(tmp_path / "plain.safetensors").alpha == 4
    assert read_adapter(tmp_path / "rslora.safetensors").alpha / 4 == 3 / 2  # alpha / sqrt(rank), Kalajdzievski 2023


@pytest.mark.shared
def test_a_real_file_of_2022_fits_stable_diffusion_1_layer_by_layer(shared: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))

    adapter = read_adapter(shared / "analog_svd_rank4.safetensors")
    placed = place(adapter, {"unet": unet, "text_encoder": clip})

    assert (adapter.layout, adapter.family, adapter.rank) == ("flat 2022", "sd15", 4)
    assert {component: len(layers) for component, layers in placed.items()} == {"unet": 144, "text_encoder": 48}


def test_the_numbers_of_2022_files_go_by_the_order_of_that_year(tmp_path: Path) -> None:
    """Self-attention, feed-forward, cross-attention; a file in another order is refused, not loaded wrongly."""
    from sdplay.formats import flat2022

    order = flat2022._order("x", "unet", {"unet": '["CrossAttention", "Attention", "GEGLU"]'})
    assert order[3:6] == [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q",
    ]
    assert order[-1] == "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    assert len(order) == 144


def test_what_a_layout_has_no_names_for_is_refused(tmp_path: Path) -> None:
    adapter = AdapterFile("x", {f"unet.{LINEAR}": Layer("full", {"diff": torch.ones(16, 16)}, 1, 1.0)})

    with pytest.raises(Exception, match="kohya"):
        write_adapter(tmp_path / "a.safetensors", adapter, "diffusers")


def test_a_rank_4_lora_of_stable_diffusion_1_has_three_megabytes_in_either_layout(tmp_path: Path) -> None:
    """sum of (in + out) over the 128 attention layers, times 4, in float32: 3.04 MB, and the names."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    layers = {
        f"unet.{name}": Layer("lora", {"down": torch.zeros(4, module.in_features), "up": torch.zeros(module.out_features, 4)}, 4, 4.0)
        for name, module in unet.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }

    for layout in ("diffusers", "kohya"):
        write_adapter(tmp_path / "a.safetensors", AdapterFile("a", layers, family="sd15"), layout)

        assert len(layers) == 128
        assert 3.0 < (tmp_path / "a.safetensors").stat().st_size / 2**20 < 3.2
