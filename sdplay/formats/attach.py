"""Adapters on a base model, for as long as a block lasts; afterwards the base is, bit for bit, what it was.

LoRA and DoRA become peft's layers beside the frozen ones, as they were trained. LoHa, LoKr, full differences and the rarer
forms of LoRA are added to the weights, whose originals are kept and put back.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sdplay.errors import AdapterError
from sdplay.families import Parts
from sdplay.formats.adapter import AdapterFile, Layer
from sdplay.formats.identify import TITLES
from sdplay.formats.lycoris import delta_of
from sdplay.formats.names import without_text_model
from sdplay.formats.words import words_attached

Strengths = Sequence[tuple[AdapterFile, float]]


@contextmanager
def attached(parts: Parts, adapters: Strengths) -> Iterator[None]:
    """The base with adapters, each at its strength, inside the block; whatever else is attached to it is off meanwhile.

    An adapter at strength 0 is left away whole, so the base computes exactly what it computes without it; its words too.
    Raises AdapterError when one was made for another base; then nothing is changed. Who trains an adapter of his own
    switches it on again after the block.
    """
    used = [(adapter, strength) for adapter, strength in adapters if strength != 0]
    modules = {component: modules_of(parts, component) for component in components_of(parts)}
    placed = [(place(adapter, modules), strength) for adapter, strength in used]
    with ExitStack() as stack:
        for component, module in modules.items():
            stack.enter_context(_on_module(module, [(layers.get(component, {}), strength) for layers, strength in placed]))
        stack.enter_context(words_attached(parts, [adapter for adapter, _ in used]))
        yield


@contextmanager
def merged(parts: Parts, adapters: Strengths) -> Iterator[None]:
    """The base with adapters added to its weights, nothing beside them, inside the block: to be saved as a model of its own.

    Raises AdapterError for what was made for another base, for words, which are no weights, and while something else is
    attached to the base.
    """
    modules = {component: modules_of(parts, component) for component in components_of(parts)}
    if any(isinstance(layer, BaseTunerLayer) for module in modules.values() for layer in module.modules()):
        raise AdapterError("The base model is in use by a training run.", "Merge when the run has ended.")
    if wordy := next((adapter.name for adapter, _ in adapters if adapter.embeddings), None):
        raise AdapterError(f"{wordy} brings words, which cannot be merged into a model.", "Export them as a file of their own.")
    placed = [(place(adapter, modules), strength) for adapter, strength in adapters]
    originals: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for layers, strength in placed:
            for component, named in layers.items():
                _add_to_weights(modules[component], named, strength, originals)
        yield
    finally:
        for parameter, original in reversed(originals):
            parameter.data = original


def components_of(parts: Parts) -> list[str]:
    """diffusers' names of the parts that adapters may change."""
    return [denoiser_name(parts), *parts.text_encoders]


def denoiser_name(parts: Parts) -> str:
    """`unet` or `transformer`, as the pipeline calls it."""
    return next((name for name in ("unet", "transformer") if getattr(parts.pipeline, name, None) is parts.denoiser), "unet")


def modules_of(parts: Parts, component: str) -> nn.Module:
    """The module of one part."""
    return parts.text_encoders.get(component, parts.denoiser)


def place(adapter: AdapterFile, modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Layer]]:
    """Its layers by part, under the names that this base's modules have. Raises AdapterError when one has no place."""
    placed: dict[str, dict[str, Layer]] = {}
    for component in adapter.components:
        module = modules.get(component)
        for path, layer in adapter.of(component).items():
            name = find_layer(module, path) if module is not None else None
            if module is None or name is None or not _fits(layer, base_layer(module, name)):
                raise _misfit(adapter, f"{component}.{path}")
            placed.setdefault(component, {})[name] = _shaped(layer, base_layer(module, name))
    return placed


def find_layer(module: nn.Module, path: str) -> str | None:
    """The name of a layer in a module, with or without transformers' old level `text_model`."""
    for name in (path, without_text_model(path), f"text_model.{path}"):
        try:
            module.get_submodule(name)
        except AttributeError:
            continue
        return name
    return None


def base_layer(module: nn.Module, name: str) -> Any:  # noqa: ANN401  a layer of whatever class, with weight and maybe bias
    """The layer itself, whatever adapters are wrapped around it."""
    layer: Any = module.get_submodule(name)
    while isinstance(layer, BaseTunerLayer):
        layer = layer.get_base_layer()
    return layer


def switch_off(module: nn.Module) -> None:
    """The module computes what the base computes, whatever is attached to it."""
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(False)


@contextmanager
def _on_module(module: nn.Module, wanted: Sequence[tuple[dict[str, Layer], float]]) -> Iterator[None]:
    strengths: dict[str, float] = {}
    originals: list[tuple[nn.Parameter, Tensor]] = []
    wrapped = {name for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)}
    had_config = hasattr(module, "peft_config")
    try:
        switch_off(module)
        for index, (layers, strength) in enumerate(wanted):
            beside = {name: layer for name, layer in layers.items() if _is_peft_layer(layer)}
            _add_to_weights(module, {name: layer for name, layer in layers.items() if name not in beside}, strength, originals)
            for number, group in enumerate(_groups(beside)):
                adapter_name = f"drawing-{index}-{number}"
                strengths[adapter_name] = strength
                _inject(module, adapter_name, group)
        _switch_on(module, strengths)
        yield
    finally:
        for parameter, original in reversed(originals):
            parameter.data = original
        _take_off(module, strengths, wrapped)
        if not had_config and hasattr(module, "peft_config"):
            del module.peft_config


def _is_peft_layer(layer: Layer) -> bool:
    """Whether peft's LoRA layer computes it exactly."""
    scale = layer.tensors.get("dora_scale")
    return layer.kind == "lora" and "mid" not in layer.tensors and (scale is None or scale.shape[0] == layer.tensors["up"].shape[0])


def _groups(layers: Mapping[str, Layer]) -> list[dict[str, Layer]]:
    """Layers that share rank, alpha and method: peft keeps these per adapter, and its patterns are slow for hundreds of layers."""
    grouped: dict[tuple[int, float, str], dict[str, Layer]] = {}
    for name, layer in layers.items():
        grouped.setdefault((layer.rank, layer.alpha, layer.method), {})[name] = layer
    return list(grouped.values())


def _inject(module: nn.Module, adapter_name: str, layers: Mapping[str, Layer]) -> None:
    """Wrap the layers and give them the file's weights, float32, frozen."""
    first = next(iter(layers.values()))
    is_dora = first.method == "dora"
    config = LoraConfig(r=first.rank, lora_alpha=first.alpha, target_modules=list(layers), use_dora=is_dora)  # type: ignore[arg-type]
    keys = {f"{name}.lora_A.weight": layer.tensors["down"] for name, layer in layers.items()}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what we want
        inject_adapter_in_model(config, module, adapter_name, low_cpu_mem_usage=not is_dora, state_dict=keys)
    for name, layer in layers.items():
        wrapper: Any = module.get_submodule(name)
        device = base_layer(module, name).weight.device
        for container, tensor in ((wrapper.lora_A, layer.tensors["down"]), (wrapper.lora_B, layer.tensors["up"])):
            container[adapter_name].weight = nn.Parameter(tensor.to(device), requires_grad=False)
        if is_dora:
            magnitude = wrapper.lora_magnitude_vector[adapter_name]
            scale = layer.tensors["dora_scale"]
            shaped = scale.flatten() if scale.dim() <= 2 else scale.transpose(0, 1)
            magnitude.weight = nn.Parameter(shaped.to(device).contiguous(), requires_grad=False)


def _switch_on(module: nn.Module, strengths: Mapping[str, float]) -> None:
    for layer in module.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        ours = [name for name in strengths if name in getattr(layer, "lora_A", {})]
        layer.enable_adapters(bool(ours))
        if ours:
            layer.set_adapter(ours, inference_mode=True)
            for name in ours:
                layer.set_scale(name, strengths[name])


def _take_off(module: nn.Module, strengths: Mapping[str, float], wrapped: set[str]) -> None:
    """Delete the adapters; unwrap what only they had wrapped."""
    for name, layer in list(module.named_modules()):
        if not isinstance(layer, BaseTunerLayer):
            continue
        ours = [adapter for adapter in strengths if adapter in getattr(layer, "lora_A", {})]
        if ours and name not in wrapped:
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, layer.base_layer)
            continue
        if ours:
            layer.set_adapter([])
        for adapter in ours:
            layer.delete_adapter(adapter)
    for adapter in strengths:
        getattr(module, "peft_config", {}).pop(adapter, None)


def _add_to_weights(module: nn.Module, layers: Mapping[str, Layer], strength: float, originals: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Add each layer's difference to the weight and, where it has one, the bias. What was there is appended to `originals`."""
    for name, layer in layers.items():
        target = base_layer(module, name)
        _add(target.weight, strength * delta_of(layer, _first(target.weight, originals), name), originals)
        if "diff_b" in layer.tensors:
            _add(target.bias, strength * layer.tensors["diff_b"].to(target.bias.device), originals)


def _first(parameter: nn.Parameter, originals: Sequence[tuple[nn.Parameter, Tensor]]) -> Tensor:
    """A parameter's value before any adapter: a DoRA's magnitude was learned beside the base alone."""
    return next((original for changed, original in originals if changed is parameter), parameter.data)


def _add(parameter: nn.Parameter, difference: Tensor, originals: list[tuple[nn.Parameter, Tensor]]) -> None:
    originals.append((parameter, parameter.data))
    parameter.data = (parameter.data.float() + difference).to(parameter.dtype)


def _fits(layer: Layer, target: Any) -> bool:  # noqa: ANN401  as base_layer's
    """Whether the layer's shape is the weight's. LoKr's is known only when it is multiplied out."""
    weight = getattr(target, "weight", None)
    if weight is None or ("diff_b" in layer.tensors and getattr(target, "bias", None) is None):
        return False
    tensors, numbers = layer.tensors, weight.numel()
    out, inside = int(weight.shape[0]), numbers // int(weight.shape[0])
    if layer.kind == "lora" and "mid" not in tensors:
        up, down = tensors["up"], tensors["down"]
        return up.shape[0] == out and up.numel() == out * layer.rank and down.numel() == inside * layer.rank
    if layer.kind == "full":
        return tensors["diff"].numel() == numbers
    try:
        delta_of(layer, weight)
    except AdapterError:
        return False
    return True


def _shaped(layer: Layer, target: Any) -> Layer:  # noqa: ANN401  as base_layer's
    """A LoRA whose factors have the dimensions of the weight: files made from 1 x 1 convolutions serve linear layers, and back."""
    weight = target.weight
    if layer.kind != "lora" or "mid" in layer.tensors or layer.tensors["down"].dim() == weight.dim():
        return layer
    tensors = dict(layer.tensors)
    tensors["down"] = tensors["down"].reshape(layer.rank, *weight.shape[1:])
    tensors["up"] = tensors["up"].reshape(weight.shape[0], layer.rank, *[1] * (weight.dim() - 2))
    if "dora_scale" in tensors and tensors["dora_scale"].shape[0] == weight.shape[0]:
        tensors["dora_scale"] = tensors["dora_scale"].reshape(-1, *[1] * (weight.dim() - 1))
    return Layer(layer.kind, tensors, layer.rank, layer.alpha)


def _misfit(adapter: AdapterFile, path: str) -> AdapterError:
    told = f"It was made for {TITLES[adapter.family]}" if adapter.family else "It was made for another one"
    return AdapterError(f"{adapter.name} does not fit this base model (layer {path}).", f"{told}: choose such a base.")
