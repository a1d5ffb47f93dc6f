"""Frozen layers that keep their weights in 8 or 4 bits and make them whole for each use, on any device and without other packages.

int8: a whole number from -127 to 127 for every weight and a float32 scale for every output channel. nf4: the nearest of 16
values for every weight and a float32 scale for every 64 of them, Dettmers et al. 2023, arXiv 2305.14314, sec. 3. Nothing
that is trained goes through them: adapters beside such layers are float32, and their files do not know of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

Bits = Literal["int8", "nf4"]

KEPT_WHOLE = ("conv_in", "conv_out", "proj_out", "norm_out", "pos_embed", "time_embedding", "add_embedding", "time_text_embed")
"""Parts of a denoiser that stay: they are small and everything passes through them."""
BLOCK = 64
"""Weights that share a scale in nf4."""
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of the normal distribution, with an exact zero: the paper's appendix E."""


def quantize_layers(model: nn.Module, bits: Bits, *, device: torch.device | None = None) -> None:
    """Change every frozen linear and convolution layer of a model in place, on `device` if given, but for KEPT_WHOLE."""
    for name, layer in list(model.named_modules()):
        if type(layer) in _CLASSES and name.split(".")[0] not in KEPT_WHOLE:
            _quantize(layer, bits, device)


def quantized_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that `quantize_layers` has changed."""
    return (layer for layer in model.modules() if isinstance(layer, QuantizedLinear | QuantizedConv2d))


def weight_of(layer: nn.Module) -> nn.Parameter | WholeWeight:
    """What has the layer's weight as `.data`, which may be exchanged for a while."""
    return layer.whole if isinstance(layer, QuantizedLinear | QuantizedConv2d) else layer.weight  # type: ignore[return-value]


def encode(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """A weight (out, ...) as codes and scales. int8: (out, ...) and (out, 1, ...); nf4: two codes a byte (n / 2,) and (n / 64, 1)."""
    values = weight.detach().float()
    if bits == "int8":
        scales = _not_zero(values.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (values.dim() - 1)) / 127)
        return (values / scales).round().to(torch.int8), scales
    flat = functional.pad(values.flatten(), (0, -values.numel() % BLOCK)).reshape(-1, BLOCK)
    scales = _not_zero(flat.abs().amax(dim=1, keepdim=True))
    table = torch.tensor(NF4, device=values.device)
    codes = torch.bucketize(flat / scales, (table[1:] + table[:-1]) / 2).flatten()
    return (codes[0::2] * 16 + codes[1::2]).to(torch.uint8), scales


def decode(codes: Tensor, scales: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The weight again, to half a code's width."""
    if codes.dtype == torch.int8:
        return (codes.to(dtype) * scales.to(dtype)).to(dtype)
    table = torch.tensor(NF4, device=codes.device, dtype=dtype)
    pairs = torch.stack([table.repeat_interleave(16), table.repeat(16)], dim=1)  # (256, 2): both values of a byte
    whole = functional.embedding(codes.int(), pairs).reshape(-1, BLOCK) * scales.to(dtype)
    return whole.flatten()[: shape.numel()].reshape(shape)


class WholeWeight:
    """A quantised layer's weight as others know one: `.data` is the whole weight, and may be exchanged and put back."""

    def __init__(self, layer: nn.Module, shape: torch.Size, dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype
        self._layer = weakref.ref(layer)
        self._instead: Tensor | None = None
        self._made: weakref.ref[Tensor] | None = None

    @property
    def data(self) -> Tensor:
        """Made anew whenever it is asked for, unless something else was put in its place."""
        if self._instead is not None:
            return self._instead
        made = self.in_type(self.dtype)
        self._made = weakref.ref(made)
        return made

    @data.setter
    def data(self, value: Tensor) -> None:
        own = self._made is not None and self._made() is value
        self._instead = None if own else value

    def in_type(self, dtype: torch.dtype) -> Tensor:
        """For arithmetic in a type."""
        if self._instead is not None:
            return self._instead.to(dtype)
        layer: Any = self._layer()
        return decode(layer.codes, layer.scales, self.shape, dtype)

    def float(self) -> Tensor:
        """In float32."""
        return self.data.float()


class _Frozen(torch.autograd.Function):
    """A layer whose whole weight is not kept for the backward pass, where it is made again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:  # noqa: ANN401  torch's own
        ctx.layer, ctx.shape = layer, x.shape
        return layer.compute(x, layer.whole.in_type(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401  torch's own
        (gradient,) = gradients
        return ctx.layer.input_gradient(ctx.shape, gradient, ctx.layer.whole.in_type(gradient.dtype)), None


def _applied(layer: nn.Module, x: Tensor) -> Tensor:
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return _Frozen.apply(x.to(dtype), layer)


class QuantizedLinear(nn.Linear):
    """Made of a linear layer by `quantize_layers`."""

    whole: WholeWeight

    def __new__(cls, *given: Any, **named: Any) -> nn.Linear:  # type: ignore[misc]  # noqa: ANN401, D102  peft makes adapters of the class of the layer
        return nn.Linear(*given, **named)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Whole."""
        return self.whole.data

    def forward(self, x: Tensor) -> Tensor:
        """As a linear layer."""
        return _applied(self, x)

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Its product."""
        return functional.linear(x, weight, bias)

    def input_gradient(self, shape: torch.Size, gradient: Tensor, weight: Tensor) -> Tensor:
        """Of the loss by what went in."""
        return gradient @ weight


class QuantizedConv2d(nn.Conv2d):
    """Made of a convolution by `quantize_layers`."""

    whole: WholeWeight

    def __new__(cls, *given: Any, **named: Any) -> nn.Conv2d:  # type: ignore[misc]  # noqa: ANN401, D102  peft makes adapters of the class of the layer
        return nn.Conv2d(*given, **named)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Whole."""
        return self.whole.data

    def forward(self, x: Tensor) -> Tensor:
        """As a convolution."""
        return _applied(self, x)

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Its product, zeros at the borders."""
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def input_gradient(self, shape: torch.Size, gradient: Tensor, weight: Tensor) -> Tensor:
        """Of the loss by what went in."""
        return conv2d_input(shape, weight, gradient, self.stride, self.padding, self.dilation, self.groups)  # type: ignore[arg-type]


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: QuantizedLinear, nn.Conv2d: QuantizedConv2d}


def _quantize(layer: nn.Module, bits: Bits, device: torch.device | None) -> None:
    """The same object, of another class."""
    assert getattr(layer, "padding_mode", "zeros") == "zeros"
    weight = layer._parameters.pop("weight")
    assert weight is not None
    codes, scales = encode(weight if device is None else weight.to(device), bits)
    layer.__class__ = _CLASSES[type(layer)]
    layer.register_buffer("codes", codes)
    layer.register_buffer("scales", scales)
    layer.__dict__["whole"] = WholeWeight(layer, weight.shape, weight.dtype)


def _not_zero(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 1.0, scales)
