"""diffusers' LoRA layouts: today's (peft's names, alpha in the header) and those of 2022 and 2023.

unet.<path>.lora_A.weight, .lora_B.weight, .lora_magnitude_vector        today
unet.<path>.lora.down.weight, .lora.up.weight                            2023
unet.<path>.processor.to_q_lora.down.weight                              attention processors, also without `unet.`
text_encoder.<path>.q_proj.lora_linear_layer.down.weight, .self_attn.to_q_lora.down.weight
base_model.model.<path>.lora_A.weight                                    peft alone: the part by the path, alpha in a file beside it
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.adapter import AdapterFile, Layer
from sdplay.formats.layers import SUFFIXES, Collected
from sdplay.formats.names import text_encoder_path, without_text_model

HEADER_KEY = "lora_adapter_metadata"
"""diffusers.loaders.lora_base.LORA_ADAPTER_METADATA_KEY; a file's key, so it cannot change."""
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
MARKS = ("lora_A", "lora_B", ".lora.down", ".lora.up", "_lora.down", "_lora.up", "lora_linear_layer", "hada_w", "lokr_w")
_FACTOR = r"lora_A|lora_B|lora_magnitude_vector|(?:hada|lokr)_[wt]\d(?:_[ab])?"
_PEFT = re.compile(rf"(.+)\.({_FACTOR})(?:\.(?!bias|weight)[A-Za-z][\w-]*)?(\.weight)?")
_OLD = re.compile(r"(.+?)(?:\.lora|_lora|\.lora_linear_layer)\.(down|up)\.weight")
MAX_CONFIG_BYTES = 1_000_000
CLIP_PARTS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def is_diffusers(key: str) -> bool:
    """Whether a tensor's name is of one of these layouts."""
    return any(mark in key for mark in MARKS)


def read(name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Layer]:
    """Tensors by their names in the file -> layers. Raises AdapterError."""
    collected = _collect(name, tensors)
    ranks = {path: int(layer["down"].shape[0]) for path, layer in collected.layers.items() if "down" in layer}
    told = _told(facts)
    alphas = _alphas(told, list(collected.layers), ranks)
    return {path: _scaled_as_peft(path, layer, told, alphas) for path, layer in collected.finish(alphas).items()}


def trained_layers(weights: Mapping[str, Tensor], alpha: float) -> dict[str, Layer]:
    """Layers of an adapter as peft holds it, `unet.<path>.lora_A.weight` ..., all with one alpha."""
    collected = _collect("the adapter", weights)
    return collected.finish(dict.fromkeys(collected.layers, alpha))


def _collect(name: str, tensors: Mapping[str, Tensor]) -> Collected:
    collected = Collected(name)
    for key, tensor in tensors.items():
        parsed = parse_key(key)
        if parsed is None:
            collected.unknown.append(key)
            continue
        path, suffix = parsed
        collected.add(path, suffix, tensor.reshape(-1, *[1] * (_dims(tensors, key) - 1)) if suffix == "dora_scale" else tensor)
    return collected


def facts_beside(path: Path) -> dict[str, str]:
    """What peft says of `adapter_model.safetensors` in the file beside it, as diffusers would in the header; empty if it is not there."""
    beside = path.with_name("adapter_config.json")
    if path.name != "adapter_model.safetensors" or not beside.is_file() or beside.stat().st_size > MAX_CONFIG_BYTES:
        return {}
    try:
        told = json.loads(beside.read_bytes())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    kept = {
        "lora_alpha": told.get("lora_alpha", told.get("alpha")),
        **{key: told.get(key) for key in ("r", "rank_pattern", "alpha_pattern", "use_rslora")},
    }
    return {HEADER_KEY: json.dumps({f"{component}.{key}": value for component in COMPONENTS for key, value in kept.items()})}


def parse_key(key: str) -> tuple[str, str] | None:
    """(diffusers' path of the layer, what kohya would call the tensor), or None for a key of no known form."""
    if key.endswith(".alpha"):
        return _canonical(key.removesuffix(".alpha")), "alpha"
    if found := _PEFT.fullmatch(key):
        suffix = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "lora_magnitude_vector": "dora_scale"}.get(found[2], found[2])
        return (_canonical(found[1]), suffix) if suffix in SUFFIXES else None
    if found := _OLD.fullmatch(key):
        return _canonical(found[1]), f"lora_{found[2]}.weight"
    return None


def tensors_of(adapter: AdapterFile) -> dict[str, Tensor]:
    """What is written into a file of today's layout. Raises AdapterError for what it has no names for."""
    written: dict[str, Tensor] = {}
    for path, layer in adapter.layers.items():
        if layer.kind == "full" or "mid" in layer.tensors or not _is_peft_dora(layer):
            raise AdapterError(f"diffusers' layout has no names for the layer {path} of {adapter.name}.", "Write it in kohya's layout.")
        for name, tensor in layer.tensors.items():
            written[f"{path}.{_peft_name(layer.kind, name)}"] = _magnitude(tensor) if name == "dora_scale" else tensor
    return written


def facts_of(adapter: AdapterFile) -> dict[str, str]:
    """The file's metadata: peft's config of each part, from which `load_lora_weights` takes rank and alpha."""
    config: dict[str, object] = {}
    for component in adapter.components:
        config.update({f"{component}.{key}": value for key, value in _peft_config(adapter.of(component)).items()})
    own = {key: value for key, value in adapter.facts.items() if key.startswith(("sdplay.", "ss_", "modelspec."))}
    return {HEADER_KEY: json.dumps(config), "format": "pt", **own}


def _peft_config(layers: Mapping[str, Layer]) -> dict[str, object]:
    rank = Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers.values()).most_common(1)[0][0]
    names = {path: without_text_model(path) for path in layers}
    return {
        "r": rank,
        "lora_alpha": _plain(alpha),
        "target_modules": sorted(names.values()),
        "rank_pattern": {names[path]: layer.rank for path, layer in sorted(layers.items()) if layer.rank != rank},
        "alpha_pattern": {names[path]: _plain(layer.alpha) for path, layer in sorted(layers.items()) if layer.alpha != alpha},
        "use_dora": any("dora_scale" in layer.tensors for layer in layers.values()),
        "peft_type": next(iter(layers.values())).kind.upper(),
        "bias": "none",
        "lora_dropout": 0.0,
    }


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _peft_name(kind: str, name: str) -> str:
    if kind == "lora":
        return {"down": "lora_A.weight", "up": "lora_B.weight", "dora_scale": "lora_magnitude_vector"}[name]
    return f"{'hada' if kind == 'loha' else 'lokr'}_{name}"


def _is_peft_dora(layer: Layer) -> bool:
    """Whether its magnitude, if it has one, is peft's: one length for each row of a LoRA's weight."""
    scale = layer.tensors.get("dora_scale")
    return scale is None or (layer.kind == "lora" and scale.shape[0] == layer.tensors["up"].shape[0])


def _magnitude(dora_scale: Tensor) -> Tensor:
    """(out, 1) -> (out,); (out, 1, 1, 1) -> (1, out, 1, 1): as peft keeps them."""
    return dora_scale.flatten() if dora_scale.dim() <= 2 else dora_scale.transpose(0, 1)


def _dims(tensors: Mapping[str, Tensor], magnitude_key: str) -> int:
    """How many dimensions the weight has that a magnitude belongs to: those of its lora_A."""
    beside = tensors.get(magnitude_key.split(".lora_magnitude_vector")[0] + ".lora_A.weight")
    return beside.dim() if beside is not None else 2


def _canonical(path: str) -> str:
    """`[component.]path`, as files of any year have it -> `component.path` in diffusers' names of today."""
    path = path.removeprefix("base_model.model.")
    component, _, inside = path.partition(".")
    if component not in COMPONENTS:
        component, inside = _guess(path), path
    inside = inside.replace(".processor.", ".")
    if component in ("text_encoder", "text_encoder_2"):
        head, _, last = inside.rpartition(".")
        return f"{component}.{text_encoder_path(f'{head}.{CLIP_PARTS.get(last, last)}' if head else inside)}"
    return f"{component}.{inside}.0" if inside.endswith("to_out") else f"{component}.{inside}"


def _guess(path: str) -> str:
    if re.match(r"(text_model\.)?(encoder\.layers|embeddings)\.", path):
        return "text_encoder"
    return "transformer" if re.match(r"transformer_blocks\.|context_embedder|pos_embed|single_transformer_blocks", path) else "unet"


def _told(facts: Mapping[str, str]) -> dict[str, Any]:
    """The header that diffusers writes; an unreadable one says nothing."""
    try:
        told = json.loads(facts.get(HEADER_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _scaled_as_peft(path: str, layer: Layer, told: Mapping[str, Any], alphas: Mapping[str, float]) -> Layer:
    """peft scales a LoKr of two whole factors by alpha / rank too, which every other program does not: then w1 takes it in."""
    component, _, inside = path.partition(".")
    patterns = told.get(f"{component}.rank_pattern")
    rank = _by_pattern(patterns if isinstance(patterns, dict) else {}, inside, told.get(f"{component}.r"))
    if not {"w1", "w2"} <= layer.tensors.keys() or type(rank) is not int or rank < 1 or path not in alphas:
        return layer
    return replace(layer, tensors={**layer.tensors, "w1": layer.tensors["w1"] * (alphas[path] / rank)})


def _alphas(told: Mapping[str, Any], paths: list[str], ranks: Mapping[str, int]) -> dict[str, float]:
    """Alpha by path, from the header that diffusers writes. Where it says nothing, alpha is the rank."""
    alphas = {}
    for path in paths:
        component, _, inside = path.partition(".")
        patterns = told.get(f"{component}.alpha_pattern")
        alpha = _by_pattern(patterns if isinstance(patterns, dict) else {}, inside, told.get(f"{component}.lora_alpha"))
        if type(alpha) in (int, float) and math.isfinite(alpha):
            stabilised = told.get(f"{component}.use_rslora") is True
            alphas[path] = float(alpha) * (math.sqrt(ranks.get(path, 1)) if stabilised else 1)  # rsLoRA scales by alpha / sqrt(rank)
    return alphas


def _by_pattern(patterns: Mapping[str, Any], path: str, otherwise: Any) -> Any:  # noqa: ANN401  whatever the file says
    """peft's rule, a name that the path ends in, but never as the regular expression that a stranger wrote."""
    for pattern, value in patterns.items():
        plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if path == plain or path.endswith(f".{plain}"):
            return value
    return otherwise
