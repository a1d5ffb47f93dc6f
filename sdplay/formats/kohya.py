"""The layout of kohya's scripts, which A1111, ComfyUI, Forge and LyCORIS read and write.

    lora_unet_<path with underscores>.lora_down.weight | lora_up.weight | alpha | dora_scale | hada_w1_a ... | lokr_w1 ... | diff
    lora_te_...    the text encoder of SD 1.x and 2.x          lora_te1_..., lora_te2_...   those of SDXL and SD 3

The U-Net of SD 1.x and 2.x goes by diffusers' names, that of SDXL by the original ones, as kohya's scripts write them.
SD 3 is written as `lora_transformer_<diffusers' path>`, which ComfyUI reads; theirs with fused q, k, v are read too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone

import torch
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.adapter import AdapterFile, Layer
from sdplay.formats.layers import SUFFIXES, Collected
from sdplay.formats.names import denoiser_paths, text_encoder_path, to_original_unet, unflatten

PREFIXES = {
    "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2", "lora_te3_": "text_encoder_3", "lora_te_": "text_encoder",
    "lora_transformer_": "transformer", "lora_unet_": "unet", "lycoris_": "unet",
}  # fmt: skip
TRANSFORMER_STARTS = ("joint_blocks", "transformer_blocks", "double_blocks", "single_blocks", "x_embedder", "context_embedder")
WRITTEN = {"lora": ("lora_", ".weight"), "loha": ("hada_", ""), "lokr": ("lokr_", ""), "full": ("", "")}
"""What comes before and after our name of a tensor, by kind."""
ARCHITECTURES = {
    "sd15": ("stable-diffusion-v1", "sd_v1", "512x512"),
    "sd2": ("stable-diffusion-v2", "sd_v2", "768x768"),
    "sdxl": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0", "1024x1024"),
    "sd3": ("stable-diffusion-3-medium", "sd3_m", "1024x1024"),
}
"""ModelSpec's architecture, kohya's base-model version, and the size in px of each family."""


def is_kohya(key: str) -> bool:
    """Whether a tensor's name is of this layout."""
    return key.startswith(tuple(PREFIXES))


def read(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Layer]:
    """Tensors by their names in the file -> layers. Raises AdapterError."""
    collected = Collected(name)
    for key, tensor in tensors.items():
        flat, _, suffix = key.partition(".")
        prefix = next((start for start in PREFIXES if flat.startswith(start)), None)
        if prefix is None or suffix not in SUFFIXES:
            collected.unknown.append(key)
            continue
        paths = _paths(prefix, flat.removeprefix(prefix))
        for path, part in zip(paths, _split(name, key, suffix, tensor, len(paths)), strict=True):
            collected.add(path, suffix, part)
    return collected.finish()


def tensors_of(adapter: AdapterFile) -> dict[str, Tensor]:
    """What is written into a file of this layout."""
    written: dict[str, Tensor] = {}
    for path, layer in adapter.layers.items():
        flat = flat_name(path, adapter.family)
        before, after = WRITTEN[layer.kind]
        for name, tensor in layer.tensors.items():
            key = f"{flat}.dora_scale" if name == "dora_scale" else f"{flat}.{before}{name}{after}"
            written[key] = tensor
        if layer.kind != "full":
            written[f"{flat}.alpha"] = torch.tensor(float(layer.alpha))
    return written


def flat_name(path: str, family: str) -> str:
    """diffusers' path of a layer -> this layout's name for it, by family."""
    component, _, inside = path.partition(".")
    if component == "text_encoder":
        prefix = "lora_te1_" if family in ("sdxl", "sd3") else "lora_te_"
        return prefix + text_encoder_path(inside).replace(".", "_")
    if component in ("text_encoder_2", "text_encoder_3"):
        return f"lora_te{component[-1]}_" + (text_encoder_path(inside) if component[-1] == "2" else inside).replace(".", "_")
    if component == "transformer":
        return "lora_transformer_" + inside.replace(".", "_")
    return "lora_unet_" + (to_original_unet(inside) if family == "sdxl" else inside).replace(".", "_")


def facts_of(adapter: AdapterFile, tensors: Mapping[str, Tensor], title: str) -> dict[str, str]:
    """The file's metadata: ModelSpec's and kohya's keys beside those it already has."""
    architecture, version, size = ARCHITECTURES.get(adapter.family, ("", "", ""))
    lycoris = set(adapter.methods) - {"lora", "dora", "embedding"}
    algorithm = {"full": "full"}.get(adapter.methods[0], adapter.methods[0]) if adapter.methods else "lora"
    facts = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora" if architecture else "",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": title,
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.resolution": size,
        "modelspec.trigger_phrase": adapter.trigger,
        "modelspec.hash_sha256": _content_hash(tensors),
        "ss_network_module": "lycoris.kohya" if lycoris else "networks.lora",
        "ss_network_dim": str(adapter.rank),
        "ss_network_alpha": f"{adapter.alpha:g}",
        "ss_network_args": json.dumps({"algo": algorithm} if lycoris else {"dora_wd": True} if "dora" in adapter.methods else {}),
        "ss_base_model_version": version,
        "ss_output_name": title,
        "ss_sd_model_name": adapter.facts.get("sdplay.base_model", ""),
        "ss_max_train_steps": adapter.facts.get("sdplay.steps", ""),
        "ss_tag_frequency": json.dumps({"sdplay": {adapter.trigger: 1}}) if adapter.trigger else "",
        "format": "pt",
    }
    return {**{key: value for key, value in facts.items() if value}, **_own(adapter.facts)}


def _own(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts that stay true in another layout."""
    kept = {key: value for key, value in facts.items() if key.startswith(("sdplay.", "ss_", "modelspec."))}
    kept.pop("modelspec.hash_sha256", None)
    return kept


def _content_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"0x{digest.hexdigest()}"


def _paths(prefix: str, flat: str) -> tuple[str, ...]:
    """diffusers' paths of the layers that a flat name stands for."""
    component, dotted = PREFIXES[prefix], unflatten(flat)
    if component == "text_encoder_3":
        return (f"{component}.{dotted}",)
    if component.startswith("text_encoder"):
        return (f"{component}.{text_encoder_path(dotted)}",)
    if prefix == "lycoris_" and re.match(r"(text_model\.)?encoder\.layers\.", dotted):
        return (f"text_encoder.{text_encoder_path(dotted)}",)
    if dotted.startswith(TRANSFORMER_STARTS):
        component = "transformer"
    return tuple(f"{component}.{path}" for path in denoiser_paths(dotted))


def _split(name: str, key: str, suffix: str, tensor: Tensor, count: int) -> list[Tensor]:
    """One tensor of a fused layer -> those of its parts: the output is theirs one after the other, the input is shared."""
    if count == 1:
        return [tensor]
    if suffix in ("lora_down.weight", "lora_A.weight", "alpha"):
        return [tensor] * count
    if suffix in ("lora_up.weight", "lora_B.weight", "diff", "diff_b", "dora_scale") and tensor.shape[0] % count == 0:
        return list(tensor.chunk(count))
    raise AdapterError(f"{name} has a fused layer that cannot be taken apart: {key}.", "sdplay reads such layers in LoRA files only.")
