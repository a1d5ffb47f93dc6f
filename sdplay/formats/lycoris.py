"""What an adapter's layer adds to a weight, as one tensor. LyCORIS, arXiv 2309.14859; DoRA, arXiv 2402.09353.

LoRA and DoRA are attached as peft's layers; everything else, and every merge, goes through here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.adapter import Layer


def delta_of(layer: Layer, weight: Tensor, path: str = "") -> Tensor:
    """What is added to `weight` at strength 1: float32, of its shape. Raises AdapterError when the shapes do not fit."""
    base = weight.detach().float()
    try:
        update = layer.scale * _product(layer.kind, {name: tensor.to(base.device) for name, tensor in layer.tensors.items()}, base)
        update = update.reshape(base.shape)
    except (RuntimeError, IndexError) as error:
        raise AdapterError(f"The adapter's layer {path} does not fit the base model.", "It was made for another one.") from error
    scale = layer.tensors.get("dora_scale")
    return update if scale is None else decompose(base + update, scale.to(base.device)) - base


def decompose(weight: Tensor, dora_scale: Tensor) -> Tensor:
    """The weight with its rows (dora_scale (out, 1 ...)) or columns (dora_scale (1, in ...)) brought to the lengths given.

    DoRA, eq. 5. The paper's columns are rows here, as the weight is kept transposed; old LyCORIS files have the others.
    """
    if dora_scale.shape[0] == weight.shape[0]:
        lengths = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
        return weight * dora_scale.reshape(lengths.shape) / lengths
    lengths = weight.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.dim() - 2))
    return weight * dora_scale.reshape(lengths.shape) / lengths


def _product(kind: str, tensors: dict[str, Tensor], base: Tensor) -> Tensor:
    if kind == "lora":
        return _lora(tensors)
    if kind == "loha":
        return _loha(tensors)
    if kind == "lokr":
        return _lokr(tensors, base)
    return tensors["diff"]


def _lora(tensors: dict[str, Tensor]) -> Tensor:
    down, up = tensors["down"], tensors["up"]
    if "mid" in tensors:
        return _tucker(tensors["mid"], up.flatten(1).T, down.flatten(1))
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _loha(tensors: dict[str, Tensor]) -> Tensor:
    if "t1" in tensors:
        first = _tucker(tensors["t1"], tensors["w1_a"], tensors["w1_b"])
        return first * _tucker(tensors["t2"], tensors["w2_a"], tensors["w2_b"])
    return (tensors["w1_a"] @ tensors["w1_b"]) * (tensors["w2_a"] @ tensors["w2_b"])


def _lokr(tensors: dict[str, Tensor], base: Tensor) -> Tensor:
    """kron(w1 (a, c), w2 (b, d, k, k)) -> (a b, c d, k, k)."""
    first = tensors["w1"] if "w1" in tensors else tensors["w1_a"] @ tensors["w1_b"]
    if "w2" in tensors:
        second = tensors["w2"]
    elif "t2" in tensors:
        second = _tucker(tensors["t2"], tensors["w2_a"], tensors["w2_b"])
    else:
        second = tensors["w2_a"] @ tensors["w2_b"]
    if base.dim() == 4 and second.dim() == 2:
        second = second.reshape(second.shape[0], -1, *base.shape[2:])
    return torch.kron(first.reshape(*first.shape, *[1] * (second.dim() - first.dim())), second.contiguous())


def _tucker(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """core (i, j, k, k), first (i, out), second (j, in) -> (out, in, k, k)."""
    return torch.einsum("ij...,ip,jr->pr...", core, first, second)
