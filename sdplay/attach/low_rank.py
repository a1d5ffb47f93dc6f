"""LoRA and DoRA in fewer operations, on the CPU in float32: the same function as peft's layers, and the same gradients, to rounding.

peft adds a low-rank branch to every layer: two thin matrix products, a scaling and a sum, and twice as many in the backward pass.
On small machines these cost as much as the layer itself. Here a linear layer multiplies once, by W + s B A, which is small beside
the activations; a convolution adds its branch in place. DoRA is that, each output channel times m / ||W + s B A||, where peft goes
through the base layer, the branch and the identity matrix. Devices other than the CPU, autocast and other kinds of adapter are
left to peft: a bfloat16 weight would lose the small change that is added to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Conv2d, Linear
from peft.tuners.lora.variants import DoraConv2dVariant, DoraLinearVariant
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sdplay.quantized import QuantizedConv2d, QuantizedLinear

Pair = tuple[int, int]


class _Linear(torch.autograd.Function):
    """x (..., i), weight (o, i), A (r, i), B (o, r) -> x (W + s B A)^T + bias, (..., o)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:  # noqa: ANN401, PLR0913  torch's own
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return functional.linear(x, torch.addmm(weight, b, a, alpha=scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  torch's own
        x, weight, a, b = ctx.saved_tensors
        rows, given = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        to_a = torch.mm(rows, b).t().mm(given).mul_(ctx.scale)
        to_b = torch.mm(rows.t(), torch.mm(given, a.t())).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:  # W + s B A again: made sooner than it would be kept
            to_x = torch.mm(rows, torch.addmm(weight, b, a, alpha=ctx.scale)).view(x.shape)
        return to_x, None, None, to_a, to_b, None


class _Convolution(torch.autograd.Function):
    """x (B, i, h, w), weight (o, i, k, k), A (r, i, k, k), B (o, r, 1, 1) -> the convolution by W plus s times that by A, then B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Conv2d, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:  # noqa: ANN401, PLR0913  torch's own
        x = x.contiguous(memory_format=torch.channels_last)
        wide = functional.conv2d(x, layer.weight, bias, layer.stride, layer.padding)
        thin = functional.conv2d(x, a, None, layer.stride, layer.padding)
        wide = wide.contiguous(memory_format=torch.channels_last)
        _pixels(wide).addmm_(_pixels(thin), b.flatten(1).t(), alpha=scale)
        ctx.save_for_backward(x, layer.weight, a, b, thin)
        ctx.scale, ctx.stride, ctx.padding = scale, layer.stride, layer.padding
        return wide

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  torch's own
        x, weight, a, b, thin = ctx.saved_tensors
        back = partial(_backward, x=x, stride=ctx.stride, padding=ctx.padding)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        rows = _pixels(gradient)
        to_b = torch.mm(rows.t(), _pixels(thin)).mul_(ctx.scale).view(b.shape)
        narrow = torch.mm(rows, b.flatten(1)).mul_(ctx.scale)
        batch, _, height, width = gradient.shape
        narrow = narrow.view(batch, height, width, -1).permute(0, 3, 1, 2)
        through_a, to_a = back(narrow, weight=a, wanted=(ctx.needs_input_grad[0], True))
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = back(gradient, weight=weight, wanted=(True, False))[0].add_(through_a)
        return to_x, None, None, to_a, to_b, None


def quicken(layer: nn.Module, name: str) -> None:
    """Let a peft layer with the one adapter `name` compute in fewer operations where it can. Other kinds of layer stay as they are."""
    if not is_plain(layer, name):
        return
    base: Any = layer.get_base_layer()  # type: ignore[operator]
    if isinstance(layer, Linear):
        layer.forward = partial(_linear, layer.forward, layer, base, name)  # type: ignore[method-assign]
    else:
        layer.forward = partial(_convolution, layer.forward, layer, base, name)  # type: ignore[method-assign]


def merge(layer: nn.Module) -> None:
    """Let a frozen peft layer on the CPU compute with one weight, its adapters added to it. For drawing; ends with the layer."""
    base: Any = layer.get_base_layer()  # type: ignore[operator]
    names = list(layer.lora_A)  # type: ignore[arg-type]
    if not all(is_plain(layer, name) for name in names) or not _is_ours(base.weight):
        return
    weight = _weight_with(layer, base, names)
    if isinstance(layer, Linear):
        layer.forward = partial(functional.linear, weight=weight, bias=base.bias)  # type: ignore[method-assign]
    else:
        weight = weight.contiguous(memory_format=torch.channels_last)
        layer.forward = partial(functional.conv2d, weight=weight, bias=base.bias, stride=base.stride, padding=base.padding)  # type: ignore[method-assign]


def is_plain(layer: nn.Module, name: str) -> bool:
    """Whether an adapter of a peft layer is LoRA or DoRA as published, without dropout or bias, on a linear layer or common convolution."""
    wrapper: Any = layer
    base: Any = wrapper.get_base_layer() if isinstance(layer, Linear | Conv2d) else None
    common = isinstance(base, nn.Linear) or (
        isinstance(base, nn.Conv2d)
        and (base.groups, base.dilation, base.padding_mode) == (1, (1, 1), "zeros")
        and not isinstance(base.padding, str)
    )
    return (
        common
        and not isinstance(base, QuantizedLinear | QuantizedConv2d)
        and type(layer) in (Linear, Conv2d)
        and name in wrapper.lora_A
        and isinstance(wrapper.lora_variant.get(name), DoraLinearVariant | DoraConv2dVariant | None)
        and not wrapper.lora_bias.get(name, False)
        and isinstance(wrapper.lora_dropout[name] if name in wrapper.lora_dropout else nn.Identity(), nn.Identity)
    )


def _linear(usual: Callable[..., Tensor], layer: Any, base: nn.Linear, name: str, x: Tensor, *more: Any, **named: Any) -> Tensor:  # noqa: ANN401
    if more or named or not _is_ours(x):
        return usual(x, *more, **named)
    return _product(layer, base, name, x)


def _convolution(usual: Callable[..., Tensor], layer: Any, base: nn.Conv2d, name: str, x: Tensor, *more: Any, **named: Any) -> Tensor:  # noqa: ANN401
    if more or named or not _is_ours(x):
        return usual(x, *more, **named)
    if base.kernel_size == (1, 1) and base.stride == (1, 1) and base.padding == (0, 0):
        return _product(layer, base, name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    factors = (layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])
    if name not in layer.lora_magnitude_vector:
        return _Convolution.apply(x, base, base.bias, *factors)
    return _stretched(_Convolution.apply(x, base, None, *factors), _strength(layer, base, name).view(-1, 1, 1), base.bias)


def _product(layer: Any, base: Any, name: str, x: Tensor) -> Tensor:  # noqa: ANN401
    """(..., i) -> (..., o) by a linear layer, or a convolution that looks at one pixel."""
    a, b = layer.lora_A[name].weight.flatten(1), layer.lora_B[name].weight.flatten(1)
    weight = base.weight.flatten(1)
    if name not in layer.lora_magnitude_vector:
        return _Linear.apply(x, weight, base.bias, a, b, layer.scaling[name])
    return _stretched(_Linear.apply(x, weight, None, a, b, layer.scaling[name]), _strength(layer, base, name), base.bias)


def _strength(layer: Any, base: Any, name: str) -> Tensor:  # noqa: ANN401
    """(o,) DoRA's m / ||W + s B A||; no gradient goes through the norm. Liu et al. 2024, arXiv 2402.09353, section 4.3."""
    a, b = layer.lora_A[name].weight.detach().flatten(1), layer.lora_B[name].weight.detach().flatten(1)
    norm = torch.addmm(base.weight.detach().flatten(1), b, a, alpha=layer.scaling[name]).norm(dim=1)
    return layer.lora_magnitude_vector[name].weight.flatten() / norm


def _stretched(x: Tensor, strength: Tensor, bias: Tensor | None) -> Tensor:
    return x * strength if bias is None else torch.addcmul(bias.view_as(strength), x, strength)


def _weight_with(layer: Any, base: Any, names: Sequence[str]) -> Tensor:  # noqa: ANN401
    """The layer's weight, changed by one adapter after another as peft does it: DoRA stretches what those before it came to."""
    weight, changes = base.weight, 0
    for name in names:
        changes = changes + layer.get_delta_weight(name)
        if name in layer.lora_magnitude_vector:
            strength = _strength(layer, base, name).view(-1, *[1] * (weight.dim() - 1))
            weight, changes = strength * (weight + changes), 0
    return weight + changes


def _is_ours(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _pixels(pictures: Tensor) -> Tensor:
    """(B, C, h, w), channels last -> (B h w, C), the same memory."""
    return pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])


def _backward(
    gradient: Tensor, *, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Gradients of a convolution's input and weight, those that are wanted."""
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )
    return to_x, to_weight
