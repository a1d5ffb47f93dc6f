"""Frozen weights in 8 and 4 bits: near to the whole ones, as many bytes as they should be, and adapters learn beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sdplay.attach import base_alone
from sdplay.config import GenerateConfig
from sdplay.device import Device, best_device, keeping
from sdplay.errors import AdapterError, ConfigError, DeviceError
from sdplay.families import NAMES, Family, Parts, family
from sdplay.footprint import weight_bytes, without_numbers
from sdplay.formats import attached, read_adapter
from sdplay.formats.attach import merged
from sdplay.hub import find_base
from sdplay.methods import method, parse_train_config
from sdplay.quantized import BLOCK, KEPT_WHOLE, Bits, QuantizedLinear, decode, encode, quantize_layers, quantized_layers
from sdplay.results import write_results
from sdplay.sample import Shot, draw

BASES = {"sd15": "tiny_base", "sd2": "tiny_sd2", "sdxl": "tiny_sdxl", "sd3": "tiny_sd3"}
KINDS = ("lora", "dora", "loha", "lokr")


def load(name: str, weights: Bits | str, request: pytest.FixtureRequest) -> tuple[Family, Parts]:
    base = find_base(str(request.getfixturevalue(BASES[name])))
    chosen = family(base.family)
    return chosen, chosen.load(base.folder, keeping(best_device(), weights), source="tiny")  # type: ignore[arg-type]


def answer(chosen: Family, parts: Parts) -> torch.Tensor:
    conditioning = chosen.encode_prompts(parts, ["a dog"])
    x = torch.randn(1, parts.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return chosen.predict(parts, x, torch.tensor([500]), conditioning, torch.tensor([[32.0, 32, 0, 0, 32, 32]]))


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(7, 50, generator=torch.Generator().manual_seed(1))

    codes, scales = encode(weight, "int8")

    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert codes.dtype == torch.int8
    assert ((decode(codes, scales, weight.shape, torch.float32) - weight).abs() <= step / 2 + 1e-6).all()


def test_nf4_takes_the_nearest_of_the_papers_values() -> None:
    """The largest of a block is exact, zero is exact, 0.1 lies nearest to 0.0796 and -0.6 to -0.5251; 9 values make an odd length."""
    weight = torch.tensor([[2.0, 0.0, 0.2], [-1.2, -2.0, 1.0], [0.0, 0.5, 2.0]])

    codes, scales = encode(weight, "nf4")

    expected = torch.tensor([[2.0, 0.0, 0.15916], [-1.05015, -2.0, 0.88142], [0.0, 0.49222, 2.0]])
    assert (codes.numel(), scales.numel()) == (BLOCK // 2, 1)
    assert torch.allclose(decode(codes, scales, weight.shape, torch.float32), expected, atol=1e-4)


def test_nf4_loses_about_a_tenth_of_normal_weights_and_int8_a_hundredth() -> None:
    """For weights from a normal distribution the relative error of NF4 in blocks of 64 is near 9 %."""
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(2))

    lost = {
        bits: float((decode(*encode(weight, bits), weight.shape, torch.float32) - weight).norm() / weight.norm())
        for bits in ("int8", "nf4")
    }

    assert 0.08 < lost["nf4"] < 0.1
    assert 0.004 < lost["int8"] < 0.01


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_a_quantised_layer_computes_with_its_whole_weight_forward_and_backward(bits: Bits) -> None:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, stride=2, padding=1), torch.nn.Flatten(), torch.nn.Linear(32, 5))
    quantize_layers(made.requires_grad_(False), bits)
    plain = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, stride=2, padding=1), torch.nn.Flatten(), torch.nn.Linear(32, 5))
    for one, other in zip((plain[0], plain[2]), (made[0], made[2]), strict=True):
        one.weight.data, one.bias.data = other.weight.clone(), other.bias.data
    x = torch.randn(2, 4, 4, 4, requires_grad=True)
    y = x.detach().clone().requires_grad_()

    made(x).square().sum().backward()
    plain(y).square().sum().backward()

    assert torch.equal(made(x), plain(x))
    assert torch.allclose(x.grad, y.grad, atol=1e-6)  # type: ignore[arg-type]
    assert isinstance(made[2], QuantizedLinear)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_every_familys_denoiser_answers_nearly_as_before(name: str, bits: Bits, request: pytest.FixtureRequest) -> None:
    plain, few = answer(*load(name, "float32", request)), answer(*load(name, bits, request))

    lost = float((few - plain).norm() / plain.norm())
    assert 0 < lost < (0.02 if bits == "int8" else 0.3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_the_plan_knows_the_bytes(name: str, bits: Bits, request: pytest.FixtureRequest) -> None:
    chosen, parts = load(name, bits, request)
    base = find_base(str(request.getfixturevalue(BASES[name])))

    planned = weight_bytes(without_numbers(base, chosen, "float32", weights=bits))

    denoiser = (*parts.denoiser.parameters(), *parts.denoiser.buffers())
    assert planned["denoiser"] == sum(tensor.numel() * tensor.element_size() for tensor in denoiser)
    assert planned["denoiser"] < weight_bytes(without_numbers(base, chosen, "float32"))["denoiser"]


@pytest.mark.parametrize("bits", ["int8", "nf4"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_learns_is_written_and_proved_beside_few_bits(
    kind: str, bits: Bits, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """And afterwards the base answers as it did, bit for bit, keeping nothing whole."""
    chosen, parts = load("sd15", bits, request)
    before = answer(chosen, parts)
    trainable = method("lora").prepare(parts, chosen, parse_train_config({"kind": kind, "rank": 2, "targets": "attention+mlp+conv"}))
    learning = [parameter for group in trainable.groups() for parameter in group.parameters]
    optimizer = torch.optim.SGD(learning, lr=1.0)
    for _ in range(3):
        answer(chosen, parts).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    learned = answer(chosen, parts).detach()

    events = list(write_results(tmp_path, "adapter.safetensors", trainable, parts, chosen))
    with attached(parts, [(read_adapter(tmp_path / "adapter.safetensors"), 1.0)]), torch.no_grad():
        drawn = answer(chosen, parts)
    trainable.detach()

    assert [event.event for event in events] == ["artifact", "artifact"]
    assert torch.allclose(drawn, learned, atol=1e-5)
    assert torch.equal(answer(chosen, parts), before)
    assert all(layer.whole._instead is None for layer in quantized_layers(parts.denoiser))  # type: ignore[union-attr]


def test_first_and_last_layers_stay_whole(request: pytest.FixtureRequest) -> None:
    _, parts = load("sdxl", "nf4", request)

    names = {name.split(".")[0] for name, layer in parts.denoiser.named_modules() if layer in set(quantized_layers(parts.denoiser))}

    assert {"down_blocks", "mid_block", "up_blocks"} <= names
    assert not names & set(KEPT_WHOLE)


def test_t5_is_kept_in_few_bits_too_and_clip_is_not(tiny_sd3: Path) -> None:
    base = find_base(str(tiny_sd3))
    parts = family("sd3").load(base.folder, keeping(best_device(), "int8"), source="tiny")

    assert any(True for _ in quantized_layers(parts.text_encoders["text_encoder_3"]))
    assert not any(True for encoder in parts.clip_encoders.values() for _ in quantized_layers(encoder))
    picture = next(draw(parts, family("sd3"), [Shot("a dog", 1)], GenerateConfig(steps=1)))
    assert picture.size == (32, 32)


def test_where_every_weight_learns_few_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="Every weight learns"):
        parse_train_config({"method": "dreambooth", "base_precision": "nf4"}).check()


def test_a_cpu_refuses_bfloat16_and_keeps_float32_by_itself() -> None:
    with pytest.raises(DeviceError, match="bfloat16"):
        keeping(Device("cpu", "CPU"), "bfloat16")
    assert keeping(Device("cpu", "CPU"), "auto").weights == "float32"


def test_a_base_in_few_bits_is_not_written_as_a_model(request: pytest.FixtureRequest) -> None:
    _, parts = load("sd15", "int8", request)

    with base_alone(parts), pytest.raises(AdapterError, match="few bits"), merged(parts, []):
        pass
