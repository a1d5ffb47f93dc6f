"""Adapters on a base model, for as long as a block lasts; afterwards the base is, bit for bit, what it was.

LoRA and DoRA become peft's layers beside the frozen ones, as they were trained. LoHa, LoKr, full differences and the rarer
forms of LoRA are added to the weights, whose originals are kept and put back. Whole weights take the place of the base's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sdplay.attach import base_alone, worn
from sdplay.attach.low_rank import merge
from sdplay.attach.weights import Weights
from sdplay.attach.words import Words, table_of
from sdplay.errors import AdapterError
from sdplay.families import Parts
from sdplay.formats.adapter import AdapterFile, Layer
from sdplay.formats.identify import TITLES
from sdplay.formats.lycoris import delta_of
from sdplay.formats.names import without_text_model
from sdplay.quantized import WholeWeight, quantized_layers, weight_of

Strengths = Sequence[tuple[AdapterFile, float]]
Weight = nn.Parameter | WholeWeight


@contextmanager
def attached(parts: Parts, adapters: Strengths) -> Iterator[None]:
    """The base with adapters, each at its strength, inside the block; whatever else is on it, such as what trains, is off meanwhile.

    An adapter at strength 0 is left away whole, so the base computes exactly what it computes without it; its words, which
    have no strength, too. Of several whole weights each is mixed, by its strength, with what those before it made.
    Raises AdapterError when one was made for another base; then nothing is changed.
    """
    used = [(adapter, strength) for adapter, strength in adapters if strength != 0]
    with base_alone(parts), ExitStack() as stack:
        modules = _modules(parts)
        placed = [(place(adapter, modules), strength) for adapter, strength in used]
        for adapter, _ in used:
            _check_words(parts, adapter)
        for adapter, strength in used:
            stack.enter_context(_weights_on(parts, adapter, strength))
        for component, module in modules.items():
            stack.enter_context(_on_module(module, [(layers.get(component, {}), strength) for layers, strength in placed]))
        for word, vectors in _words(adapter for adapter, _ in used).items():
            stack.enter_context(worn(parts, Words(parts, word, vectors)))
        yield


@contextmanager
def merged(parts: Parts, adapters: Strengths) -> Iterator[None]:
    """The base with adapters added to its weights, nothing beside them, inside the block: to be saved as a model of its own.

    Raises AdapterError for what was made for another base, for words, which are no weights, and while the base is kept in few bits.
    """
    if any(True for _ in quantized_layers(parts.denoiser)):
        raise AdapterError("The base is in use by a run that keeps it in few bits.", "Merge when that run has ended.")
    if wordy := next((adapter.name for adapter, _ in adapters if adapter.embeddings), None):
        raise AdapterError(f"{wordy} brings words, which cannot be merged into a model.", "Export them as a file of their own.")
    with base_alone(parts), ExitStack() as stack:
        modules = _modules(parts)
        placed = [(place(adapter, modules), strength) for adapter, strength in adapters]
        for adapter, strength in adapters:
            stack.enter_context(_weights_on(parts, adapter, strength))
        originals = stack.enter_context(_put_back())
        for layers, strength in placed:
            for component, named in layers.items():
                _add_to_weights(modules[component], named, strength, originals)
        yield


def denoiser_name(parts: Parts) -> str:
    """`unet` or `transformer`, as the pipeline calls it."""
    return next((name for name in ("unet", "transformer") if getattr(parts.pipeline, name, None) is parts.denoiser), "unet")


def place(adapter: AdapterFile, modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Layer]]:
    """Its layers by part, under the names that this base's modules have. Raises AdapterError when one has no place."""
    placed: dict[str, dict[str, Layer]] = {}
    for component in adapter.components:
        module = modules.get(component)
        for path, layer in adapter.of(component).items():
            name = find_layer(module, path) if module is not None else None
            if module is None or name is None or not _fits(layer, module.get_submodule(name)):
                raise _misfit(adapter, f"layer {component}.{path}")
            placed.setdefault(component, {})[name] = _shaped(layer, module.get_submodule(name))
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


def _modules(parts: Parts) -> dict[str, nn.Module]:
    """What adapters may change, by diffusers' names."""
    return {denoiser_name(parts): parts.denoiser, **parts.text_encoders}


@contextmanager
def _weights_on(parts: Parts, adapter: AdapterFile, strength: float) -> Iterator[None]:
    if not adapter.weights:
        yield
        return
    modules = _modules(parts)
    if strangers := set(adapter.components) - modules.keys():
        raise _misfit(adapter, min(strangers))
    if any(True for _ in quantized_layers(parts.denoiser)):
        raise AdapterError(f"{adapter.name} has whole weights, but the base is kept in few bits now.", "Draw it when the run has ended.")
    weights = Weights({component: modules[component] for component in adapter.components})
    try:
        weights.load(adapter.weights, strength)
    except ValueError as error:
        raise _misfit(adapter, str(error)) from None
    with worn(parts, weights):
        yield


@contextmanager
def _on_module(module: nn.Module, wanted: Sequence[tuple[dict[str, Layer], float]]) -> Iterator[None]:
    strengths: dict[str, float] = {}
    with _put_back() as originals:
        for layers, strength in wanted:
            _add_to_weights(module, {name: layer for name, layer in layers.items() if not _is_peft_layer(layer)}, strength, originals)
        try:
            for index, (layers, strength) in enumerate(wanted):
                for number, group in enumerate(_groups({name: layer for name, layer in layers.items() if _is_peft_layer(layer)})):
                    strengths[f"drawing-{index}-{number}"] = strength
                    _inject(module, f"drawing-{index}-{number}", group)
            _switch_on(module, strengths)
            yield
        finally:
            _unwrap(module)


@contextmanager
def _put_back() -> Iterator[list[tuple[Weight, Tensor]]]:
    """A list for the values that parameters had before they were changed; afterwards they have them again."""
    originals: list[tuple[Weight, Tensor]] = []
    try:
        yield originals
    finally:
        for parameter, original in reversed(originals):
            parameter.data = original


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
        device = wrapper.get_base_layer().weight.device
        for container, tensor in ((wrapper.lora_A, layer.tensors["down"]), (wrapper.lora_B, layer.tensors["up"])):
            container[adapter_name].weight = nn.Parameter(tensor.to(device), requires_grad=False)
        if is_dora:
            magnitude = wrapper.lora_magnitude_vector[adapter_name]
            scale = layer.tensors["dora_scale"]
            shaped = scale.flatten() if scale.dim() <= 2 else scale.transpose(0, 1)
            magnitude.weight = nn.Parameter(shaped.to(device).contiguous(), requires_grad=False)


def _switch_on(module: nn.Module, strengths: Mapping[str, float]) -> None:
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            on_it: Any = layer.lora_A
            layer.set_adapter(list(on_it), inference_mode=True)
            for name in on_it:
                layer.set_scale(name, strengths[name])
            merge(layer)


def _unwrap(module: nn.Module) -> None:
    """The base's own layers are back."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, layer.get_base_layer())
    module.__dict__.pop("peft_config", None)


def _add_to_weights(module: nn.Module, layers: Mapping[str, Layer], strength: float, originals: list[tuple[Weight, Tensor]]) -> None:
    """Add each layer's difference to the weight and, where it has one, the bias. What was there is appended to `originals`."""
    for name, layer in layers.items():
        target: Any = module.get_submodule(name)
        weight = weight_of(target)
        _add(weight, strength * delta_of(layer, _first(weight, originals), name), originals)
        if "diff_b" in layer.tensors:
            _add(target.bias, strength * layer.tensors["diff_b"].to(target.bias.device), originals)


def _first(parameter: Weight, originals: Sequence[tuple[Weight, Tensor]]) -> Tensor:
    """A parameter's value before any adapter: a DoRA's magnitude was learned beside the base alone."""
    return next((original for changed, original in originals if changed is parameter), parameter.data)


def _add(parameter: Weight, difference: Tensor, originals: list[tuple[Weight, Tensor]]) -> None:
    before = parameter.data
    originals.append((parameter, before))
    parameter.data = (before.float() + difference).to(before.dtype)


def _fits(layer: Layer, target: Any) -> bool:  # noqa: ANN401  a layer of whatever class, with weight and maybe bias
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


def _shaped(layer: Layer, target: Any) -> Layer:  # noqa: ANN401  a layer of whatever class, with weight and maybe bias
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


def _words(adapters: Iterable[AdapterFile]) -> dict[str, dict[str, Tensor]]:
    """Every word once, as the last adapter has it. CLIP hears no difference between large and small letters."""
    return {word.lower(): vectors for adapter in adapters for word, vectors in adapter.embeddings.items()}


def _check_words(parts: Parts, adapter: AdapterFile) -> None:
    for word, vectors in adapter.embeddings.items():
        for encoder, tensor in vectors.items():
            width = table_of(parts.text_encoders[encoder]).weight.shape[1] if encoder in parts.text_encoders else None
            if width != tensor.shape[1]:
                raise AdapterError(
                    f"{adapter.name} does not fit this base model: the word {word!r} has {tensor.shape[1]} numbers for the {encoder}, "
                    f"which {'has ' + str(width) if width else 'this base does not have'}.",
                    "It was made for another one: choose that as base.",
                )


def _misfit(adapter: AdapterFile, where: str) -> AdapterError:
    told = f"It was made for {TITLES[adapter.family]}" if TITLES.get(adapter.family) and adapter.family else "It was made for another one"
    return AdapterError(f"{adapter.name} does not fit this base model ({where[:120]}).", f"{told}: choose such a base.")
