"""Adapters on a base: every kind computes what its formula says, any mix adds up, and the base comes back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from sdplay.errors import AdapterError
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, Layer, attached, prove, read_adapter, write_adapter
from sdplay.formats.lycoris import delta_of
from tests.formats.conftest import CLIP, CONV, LINEAR, UNET_LAYERS, answers, lora, weight_of

Make = Callable[..., AdapterFile]


def bits(parts: Parts) -> dict[str, Tensor]:
    named = {f"unet.{name}": tensor for name, tensor in parts.denoiser.state_dict().items()}
    return named | {f"te.{name}": tensor for name, tensor in parts.text_encoders["text_encoder"].state_dict().items()}


def random_layer(kind: str, weight: Tensor, random: torch.Generator) -> Layer:
    """Factors for a weight (16, 16) or (16, 16, 3, 3)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * 0.4

    out, inside, kernel = weight.shape[0], weight.shape[1], weight.shape[2:]
    flat = weight[0].numel()
    if kind == "loha":
        return Layer("loha", {"w1_a": draw(out, 2), "w1_b": draw(2, flat), "w2_a": draw(out, 2), "w2_b": draw(2, flat)}, 2, 3.0)
    if kind == "loha tucker":
        factors = {f"{name}_{side}": draw(2, size) for name in ("w1", "w2") for side, size in (("a", out), ("b", inside))}
        return Layer("loha", {**factors, "t1": draw(2, 2, *kernel), "t2": draw(2, 2, *kernel)}, 2, 1.0)
    if kind == "lokr":
        return Layer("lokr", {"w1": draw(4, 4), "w2_a": draw(out // 4, 2), "w2_b": draw(2, flat // 4)}, 2, 1.0)
    if kind == "lokr full":
        return Layer("lokr", {"w1": draw(4, 4), "w2": draw(out // 4, inside // 4, *kernel)}, 1, 1.0)
    if kind == "lora tucker":
        ones = [1] * len(kernel)
        return Layer("lora", {"up": draw(out, 2, *ones), "down": draw(2, inside, *ones), "mid": draw(2, 2, *kernel)}, 2, 1.0)
    if kind == "old DoRA":
        layer = lora(weight, random)
        return replace(layer, tensors={**layer.tensors, "dora_scale": torch.full((1, inside, *[1] * len(kernel)), 2.0)})
    if kind == "loha with magnitude":
        layer = random_layer("loha", weight, random)
        return replace(layer, tensors={**layer.tensors, "dora_scale": torch.full((out, *[1] * (weight.dim() - 1)), 2.0)})
    return Layer("full", {"diff": draw(*weight.shape)}, 1, 1.0)


KINDS = ("loha", "lokr", "lokr full", "full", "old DoRA", "loha with magnitude")


@pytest.mark.parametrize(
    ("kind", "path"), [*((kind, path) for kind in KINDS for path in (LINEAR, CONV)), ("loha tucker", CONV), ("lora tucker", CONV)]
)
def test_a_kohya_file_of_every_kind_adds_its_formula_and_leaves_the_base_bit_for_bit(
    parts: Parts, random: torch.Generator, tmp_path: Path, kind: str, path: str
) -> None:
    weight = weight_of(parts, f"unet.{path}").detach()
    layer = random_layer(kind, weight, random)
    write_adapter(tmp_path / "a.safetensors", AdapterFile("a", {f"unet.{path}": layer}, family="sd15"), "kohya")
    before = {name: tensor.clone() for name, tensor in bits(parts).items()}

    with attached(parts, [(read_adapter(tmp_path / "a.safetensors"), 0.5)]):
        inside = parts.denoiser.get_submodule(path).weight.clone()

    assert torch.allclose(inside - weight, 0.5 * delta_of(layer, weight), atol=1e-6)
    assert (inside - weight).abs().max() > 1e-3
    after = bits(parts)
    assert set(before) == set(after)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_what_peft_computes_beside_the_weight_is_what_our_formula_adds_to_it(make: Make, parts: Parts, sd15: Family, dora: bool) -> None:
    """DoRA by its paper's eq. 5: m (W + s B A) / |W + s B A|, row by row."""
    adapter = make(dora=dora)
    full = {path: Layer("full", {"diff": delta_of(layer, weight_of(parts, path))}, 1, 1.0) for path, layer in adapter.layers.items()}
    with attached(parts, [(adapter, 1.0)]):
        beside = answers(parts, sd15)
    with attached(parts, [(replace(adapter, layers=full), 1.0)]):
        added = answers(parts, sd15)

    assert (beside - added).abs().max() < 1e-4
    assert (beside - answers(parts, sd15)).abs().max() > 1e-3


def test_adapters_of_different_kinds_and_strengths_add_up(parts: Parts, sd15: Family, random: torch.Generator) -> None:
    weight = weight_of(parts, f"unet.{LINEAR}")
    first, second, third = lora(weight, random), random_layer("loha", weight, random), lora(weight, random, rank=4, alpha=2.0)
    mix = [(first, 0.8), (second, -0.5), (third, 0.25)]
    total = sum(strength * delta_of(layer, weight) for layer, strength in mix)

    with attached(parts, [(AdapterFile("x", {f"unet.{LINEAR}": layer}), strength) for layer, strength in mix]):
        mixed = answers(parts, sd15)
    with attached(parts, [(AdapterFile("x", {f"unet.{LINEAR}": Layer("full", {"diff": total}, 1, 1.0)}), 1.0)]):  # type: ignore[dict-item]
        at_once = answers(parts, sd15)

    assert (mixed - at_once).abs().max() < 1e-5


def test_at_strength_zero_and_after_use_the_base_answers_exactly_as_before(make: Make, parts: Parts, sd15: Family) -> None:
    before = answers(parts, sd15)
    adapter = make(dora=True)

    with attached(parts, [(adapter, 0.0)]):
        zero = answers(parts, sd15)
    with attached(parts, [(adapter, 1.0)]):
        changed = answers(parts, sd15)

    assert torch.equal(before, zero)
    assert not torch.equal(before, changed)
    assert torch.equal(before, answers(parts, sd15))


@pytest.mark.trap(15)
def test_the_text_encoder_is_changed_under_either_of_transformers_names(make: Make, parts: Parts, sd15: Family) -> None:
    """Trap 15 of the field: transformers 5.6 dropped `text_model`, files keep it."""
    adapter = make()
    layer = adapter.layers[f"text_encoder.text_model.{CLIP}"]
    before = sd15.encode_prompts(parts, ["a dog"]).hidden

    for name in (f"text_encoder.text_model.{CLIP}", f"text_encoder.{CLIP}"):
        with attached(parts, [(AdapterFile("x", {name: layer}), 1.0)]):
            assert not torch.equal(sd15.encode_prompts(parts, ["a dog"]).hidden, before)
    assert torch.equal(sd15.encode_prompts(parts, ["a dog"]).hidden, before)


def test_an_adapter_that_trains_is_off_while_another_draws_and_is_still_there_afterwards(
    make: Make, parts: Parts, sd15: Family, tiny_base: Path
) -> None:
    from sdplay.config import LoraConfig
    from sdplay.methods import method

    adapter = make()
    with attached(parts, [(adapter, 1.0)]):
        alone = answers(parts, sd15)
    trainable = method("lora").prepare(parts, sd15, LoraConfig())
    try:
        parameters = [parameter for group in trainable.groups() for parameter in group.parameters]
        for parameter in parameters:
            parameter.data = torch.ones_like(parameter)
        trained = answers(parts, sd15)

        with attached(parts, [(adapter, 1.0)]):
            beside = answers(parts, sd15)

        assert torch.equal(alone, beside)
        assert torch.equal(trained, answers(parts, sd15))
        assert all(parameter.requires_grad for parameter in parameters)
    finally:
        trainable.detach()


def test_an_adapter_of_another_base_is_refused_with_the_family_it_is_for(parts: Parts) -> None:
    path = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    layers = {path: Layer("lora", {"down": torch.ones(2, 2048), "up": torch.ones(16, 2)}, 2, 2.0)}

    with pytest.raises(AdapterError, match="Stable Diffusion XL"), attached(parts, [(AdapterFile("x", layers, family="sdxl"), 1.0)]):
        pass


def test_a_refused_adapter_leaves_nothing_of_those_before_it(make: Make, parts: Parts, sd15: Family) -> None:
    before = answers(parts, sd15)
    stranger = AdapterFile("x", {"unet.nowhere": Layer("full", {"diff": torch.ones(1)}, 1, 1.0)})

    with pytest.raises(AdapterError, match="nowhere"), attached(parts, [(make(), 1.0), (stranger, 1.0)]):
        pass

    assert torch.equal(before, answers(parts, sd15))


def test_a_file_made_from_one_by_one_convolutions_serves_linear_layers(parts: Parts, sd15: Family, random: torch.Generator) -> None:
    weight = weight_of(parts, f"unet.{LINEAR}")
    layer = lora(weight, random)
    as_convolution = {name: tensor[..., None, None] for name, tensor in layer.tensors.items()}
    with attached(parts, [(AdapterFile("x", {f"unet.{LINEAR}": layer}), 1.0)]):
        linear = answers(parts, sd15)

    with attached(parts, [(AdapterFile("x", {f"unet.{LINEAR}": replace(layer, tensors=as_convolution)}), 1.0)]):
        assert torch.equal(answers(parts, sd15), linear)


@pytest.mark.parametrize("config", [LoHaConfig, LoKrConfig])
@pytest.mark.parametrize("conv", [False, True])
def test_files_of_peft_compute_what_peft_computes(tmp_path: Path, config: type, conv: bool) -> None:
    torch.manual_seed(0)
    kernel = {"kernel_size": 3} if conv else {}
    layer: nn.Module = nn.Conv2d(16, 24, **kernel) if conv else nn.Linear(16, 24)
    weight = layer.weight.detach().clone()  # type: ignore[operator]
    model = nn.ModuleDict({"to_q": layer})
    settings = {"use_effective_conv2d": True} if conv else {}
    inject_adapter_in_model(config(r=2, alpha=6, target_modules=["to_q"], init_weights=False, **settings), model)
    state = get_peft_model_state_dict(model, adapter_name="default")
    header = {"lora_adapter_metadata": '{"unet.lora_alpha": 6}'}
    save_file({f"unet.{name}": tensor.contiguous() for name, tensor in state.items()}, tmp_path / "a.safetensors", metadata=header)

    read = read_adapter(tmp_path / "a.safetensors").layers["unet.to_q"]

    assert torch.allclose(delta_of(read, weight), model["to_q"].get_delta_weight("default"), atol=1e-5)  # type: ignore[operator]


@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr", "full"])
@pytest.mark.parametrize("settings", [{}, {"dora_wd": True}, {"use_tucker": True}, {"full_matrix": True}], ids=str)
@pytest.mark.parametrize("conv", [False, True], ids=["linear", "conv"])
def test_files_of_lycoris_compute_what_lycoris_computes(tmp_path: Path, algorithm: str, settings: dict[str, bool], conv: bool) -> None:
    """Judged by its forward pass; its `get_merged_weight` scales LoHa and LoKr twice (4.1.3)."""
    lycoris = pytest.importorskip("lycoris")
    torch.manual_seed(0)
    layer: nn.Module = nn.Conv2d(16, 24, 3) if conv else nn.Linear(16, 24)
    weight, bias = (parameter.detach().clone() for parameter in (layer.weight, layer.bias))  # type: ignore[operator]
    lycoris.LycorisNetwork.apply_preset({"target_module": [], "target_name": ["to_q"]})
    sizes = {"linear_dim": 2, "linear_alpha": 1.0, "conv_dim": 2, "conv_alpha": 1.0, "factor": 4}
    made = lycoris.create_lycoris(nn.ModuleDict({"to_q": layer}), 1.0, algo=algorithm, **sizes, **settings)
    made.apply_to()
    for parameter in made.parameters():
        parameter.data = parameter.data + 0.3 * torch.randn_like(parameter)
    state = {name.replace("lycoris_", "lora_unet_"): tensor.detach().clone().contiguous() for name, tensor in made.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    noise = torch.randn((2, 16, 5, 5) if conv else (2, 16))

    (read,) = read_adapter(tmp_path / "a.safetensors").layers.values()

    function = nn.functional.conv2d if conv else nn.functional.linear
    ours = function(noise, weight + delta_of(read, weight), bias + read.tensors.get("diff_b", torch.zeros(24)))
    assert (ours - layer(noise)).abs().max() < 1e-4
    assert (function(noise, weight, bias) - ours).abs().max() > 1e-2


def test_a_good_file_is_proved(make: Make, parts: Parts, sd15: Family, tmp_path: Path) -> None:
    for layout in ("diffusers", "kohya"):
        write_adapter(tmp_path / f"{layout}.safetensors", make(dora=True), layout)

        assert len(prove(tmp_path / f"{layout}.safetensors", parts, sd15).layers) == len(UNET_LAYERS) + 3


@pytest.mark.trap(16)
def test_a_file_that_changes_nothing_is_named_with_its_zero_layers(make: Make, parts: Parts, sd15: Family, tmp_path: Path) -> None:
    """Trap 16 of the field: such files load everywhere without a word."""
    adapter = make()
    for layer in adapter.layers.values():
        layer.tensors["up"].zero_()
    write_adapter(tmp_path / "a.safetensors", adapter, "kohya")

    with pytest.raises(AdapterError, match=r"changes nothing.*attn1\.to_q"):
        prove(tmp_path / "a.safetensors", parts, sd15)
