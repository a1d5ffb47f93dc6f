"""Which base-model family an adapter was made for, by its layers' names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from sdplay.formats.adapter import Layer

TITLES = {
    "sd15": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL", "sd3": "Stable Diffusion 3",
    "flux": "FLUX", "": "a base model that its shapes do not tell",
}  # fmt: skip
BY_TEXT_WIDTH = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
"""Width of the text that the U-Net's cross-attention reads."""
BY_VERSION = (("sdxl", "sdxl"), ("xl", "sdxl"), ("sd_v2", "sd2"), ("v2", "sd2"), ("sd_v1", "sd15"), ("v1", "sd15"), ("sd3", "sd3"))
BY_ARCHITECTURE = (("-xl-", "sdxl"), ("-v2", "sd2"), ("-v1", "sd15"), ("diffusion-3", "sd3"), ("flux", "flux"))


def family_of(layers: Mapping[str, Layer], embeddings: Mapping[str, Mapping[str, object]], facts: Mapping[str, str]) -> str:
    """sd15, sd2, sdxl, sd3, flux, or nothing when neither shapes nor metadata tell. Shapes win: metadata are copied along."""
    inside = [path.split(".", 1)[1] for path in layers]
    if any(path.startswith(("double_blocks", "single_blocks", "single_transformer_blocks")) for path in inside):
        return "flux"
    if any(path.startswith("transformer.") for path in layers):
        return "sd3"
    for path, layer in layers.items():
        width = _text_width(path, layer)
        if width in BY_TEXT_WIDTH:
            return BY_TEXT_WIDTH[width]
    if any(path.startswith("text_encoder_2.") or ".transformer_blocks.2." in path for path in layers):
        return "sdxl"
    return facts.get("sdplay.family") or _told(facts) or _by_encoders(embeddings)


def _text_width(path: str, layer: Layer) -> int:
    """0 unless it is a cross-attention's key or value."""
    if not path.endswith(("attn2.to_k", "attn2.to_v")) or layer.kind not in ("lora", "loha", "full"):
        return 0
    name = {"lora": "down", "loha": "w1_b", "full": "diff"}[layer.kind]
    return int(layer.tensors[name].shape[1])


def _told(facts: Mapping[str, str]) -> str:
    architecture, version = facts.get("modelspec.architecture", "").lower(), facts.get("ss_base_model_version", "").lower()
    for text, table in ((architecture, BY_ARCHITECTURE), (version, BY_VERSION)):
        for mark, family in table:
            if mark in text:
                return family
    return ""


def _by_encoders(embeddings: Mapping[str, Mapping[str, object]]) -> str:
    encoders = {encoder for vectors in embeddings.values() for encoder in vectors}
    if "text_encoder_3" in encoders:
        return "sd3"
    if "text_encoder_2" in encoders:
        return "sdxl"
    widths = {getattr(tensor, "shape", (0, 0))[1] for vectors in embeddings.values() for tensor in vectors.values()}
    return {768: "sd15", 1024: "sd2"}.get(widths.pop(), "") if len(widths) == 1 else ""
