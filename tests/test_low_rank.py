"""LoRA and DoRA layers in fewer operations are peft's layers, to rounding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from sdplay.attach.low_rank import is_plain, merge, quicken

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(24, 40),
    "linear without bias": lambda: nn.Linear(24, 40, bias=False),
    "3x3": lambda: nn.Conv2d(24, 40, 3, padding=1),
    "3x3 with stride": lambda: nn.Conv2d(24, 40, 3, stride=2, padding=1),
    "1x1": lambda: nn.Conv2d(24, 40, 1),
    "3x3 in groups": lambda: nn.Conv2d(24, 40, 3, padding=1, groups=8),
}
ROUNDING = 2e-5
"""Of the largest value: a sum of some hundred float32 products in another order errs by about 100 x 2^-24 = 6e-6."""


def wrapped(kind: str, *, dora: bool = False) -> nn.Module:
    """peft's layer around a frozen one, with an adapter that does something."""
    torch.manual_seed(0)
    host = nn.Sequential(LAYERS[kind]()).requires_grad_(False).to(memory_format=torch.channels_last)
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=4, target_modules=["0"], use_dora=dora), host, adapter_name="t")
    layer = host[0]
    nn.init.normal_(layer.lora_B["t"].weight)  # type: ignore[index, union-attr]
    if dora:
        magnitude = layer.lora_magnitude_vector["t"].weight  # type: ignore[index, union-attr]
        magnitude.data.mul_(torch.rand_like(magnitude) + 0.5)
    return layer


def given(kind: str) -> Tensor:
    shape = (2, 16, 24) if "linear" in kind else (2, 24, 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def answer_and_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    answer = layer(x)
    learning = [parameter for name, parameter in layer.named_parameters() if "lora" in name]
    weight = torch.randn(answer.shape, generator=torch.Generator().manual_seed(2))
    return [answer.detach(), *torch.autograd.grad((answer * weight).sum(), [x, *learning])]


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_quickened_layer_answers_and_learns_as_pefts(kind: str, dora: bool) -> None:
    layer = wrapped(kind, dora=dora)
    usual = answer_and_gradients(layer, given(kind))

    quicken(layer, "t")
    quick = answer_and_gradients(layer, given(kind))

    for ours, peft in zip(quick, usual, strict=True):
        assert float((ours - peft).abs().max()) <= ROUNDING * float(peft.abs().max())


@pytest.mark.parametrize("kind", ["linear", "3x3", "1x1"])
def test_it_takes_another_way_than_peft(kind: str) -> None:
    layer = wrapped(kind)
    usual = type(layer(given(kind).requires_grad_()).grad_fn).__name__

    quicken(layer, "t")
    quick = layer(given(kind).requires_grad_()).grad_fn

    names = {type(quick).__name__, *(type(before).__name__ for before, _ in quick.next_functions)}
    assert usual not in names
    assert names & {"_LinearBackward", "_ConvolutionBackward"}


@pytest.mark.parametrize("kind", ["linear", "3x3"])
def test_gradients_are_the_functions_slopes(kind: str) -> None:
    """By differences of values, in the arithmetic that the layer uses: 1e-2 is what float32 leaves of them."""
    layer = wrapped(kind)
    quicken(layer, "t")
    x, weight = given(kind), layer.lora_A["t"].weight  # type: ignore[index, union-attr]
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    slope = float((torch.autograd.grad(layer(x).sum(), weight)[0] * direction).sum())

    with torch.no_grad():
        weight.add_(1e-2 * direction)
        up = layer(x).double().sum()
        weight.sub_(2e-2 * direction)
        down = layer(x).double().sum()

    assert float(up - down) / 2e-2 == pytest.approx(slope, rel=1e-2)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_merged_layer_answers_as_pefts(kind: str, dora: bool) -> None:
    layer = wrapped(kind, dora=dora)
    usual = layer(given(kind)).detach()

    merge(layer)
    merged = layer(given(kind)).detach()

    assert float((merged - usual).abs().max()) <= ROUNDING * float(usual.abs().max())


@pytest.mark.parametrize("kind", ["linear", "3x3"])
@pytest.mark.parametrize("second_is_dora", [False, True])
def test_two_merged_adapters_answer_as_pefts(kind: str, second_is_dora: bool) -> None:
    layer = wrapped(kind, dora=not second_is_dora)
    host = nn.Sequential(layer)
    inject_adapter_in_model(LoraConfig(r=4, target_modules=["0"], use_dora=second_is_dora), host, adapter_name="u")
    nn.init.normal_(layer.lora_B["u"].weight)  # type: ignore[index, union-attr]
    layer.set_adapter(["t", "u"])  # type: ignore[operator]
    usual = layer(given(kind)).detach()

    merge(layer)

    assert float((layer(given(kind)).detach() - usual).abs().max()) <= ROUNDING * float(usual.abs().max())


def test_dora_of_an_embedding_and_a_bias_that_learns_stay_pefts() -> None:
    host = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 4))
    config = LoraConfig(r=2, target_modules=["0", "1"], use_dora=True, lora_bias=False)
    inject_adapter_in_model(config, host, adapter_name="t")
    biased = nn.Sequential(nn.Linear(4, 4))
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"], lora_bias=True), biased, adapter_name="t")

    assert not is_plain(host[0], "t")
    assert is_plain(host[1], "t")
    assert not is_plain(biased[0], "t")


def test_autocast_stays_pefts() -> None:
    layer = wrapped("linear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        usual = layer(given("linear"))
        quicken(layer, "t")

        assert torch.equal(layer(given("linear")), usual)
