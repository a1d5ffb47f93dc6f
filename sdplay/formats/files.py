"""Adapter files in and out: find the layout, read it into an `AdapterFile`; write an `AdapterFile` in a layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats import diffusers_lora, embedding, flat2022, kohya, weights
from sdplay.formats.adapter import LAYOUTS, AdapterFile, Layer
from sdplay.formats.header import DAMAGED, Header, read_header
from sdplay.formats.identify import family_of
from sdplay.workspace import write_atomically

CHECKPOINT_STARTS = ("model.diffusion_model.", "cond_stage_model.", "conditioner.", "first_stage_model.")


def read_adapter(path: Path) -> AdapterFile:
    """Read and check a file of any layout. Raises AdapterError with what is wrong with it; no tensor is lost silently."""
    header = read_header(path)
    if weights.is_weights(header.facts):
        return AdapterFile(path.name, weights=_load(path), facts=header.facts, layout="weights",
                           family=header.facts.get("sdplay.family", ""), path=path)  # fmt: skip
    words = {key for key in header.shapes if embedding.is_embedding_key(key, header.facts, header.shapes)}
    layout = layout_of(path, header, words)
    tensors = {key: tensor.float() for key, tensor in _load(path).items()}
    facts = {**diffusers_lora.facts_beside(path), **header.facts}
    layers = _layers(layout, path, {key: tensor for key, tensor in tensors.items() if key not in words}, facts)
    embeddings = embedding.read(path, {key: tensors[key] for key in sorted(words)}, header.facts)
    family = family_of(layers, embeddings, header.facts)
    return AdapterFile(path.name, layers, embeddings, header.facts, layout, family, path)


def layout_of(path: Path, header: Header, words: set[str]) -> str:
    """diffusers, kohya, flat 2022 or embedding, by the tensors' names. Raises AdapterError for other files."""
    rest = [key for key in header.shapes if key not in words]
    if not rest and words:
        return "embedding"
    if any(flat2022.is_flat(key) for key in rest):
        return "flat 2022"
    if any(kohya.is_kohya(key) for key in rest):
        return "kohya"
    if any(diffusers_lora.is_diffusers(key) for key in rest):
        return "diffusers"
    if any(key.startswith(CHECKPOINT_STARTS) for key in rest):
        raise AdapterError(f"{path.name} is a whole model, not an adapter.", "Give it as the base model.")
    kind = "a LoRA of a layout that sdplay does not know" if any("lora" in key for key in rest) else "neither a LoRA nor an embedding"
    raise AdapterError(f"{path.name} is {kind}.", "sdplay reads LoRA, DoRA, LoHa, LoKr and textual-inversion files.")


def write_adapter(path: Path, adapter: AdapterFile, layout: str) -> None:
    """Write a file of the layout `diffusers` or `kohya`. Words beside layers go into it as a bundle.

    An adapter that is nothing but one word's vectors is written as an embedding. Raises AdapterError when the layout has
    no names for what the adapter holds.
    """
    if layout not in LAYOUTS:
        raise AdapterError(f"There is no layout {layout!r}.", f"Choose one of: {', '.join(LAYOUTS)}.")
    if adapter.weights:
        raise AdapterError(f"{adapter.name} holds whole weights, for which no layout of adapters has names.", "Merge it into its base.")
    if not adapter.layers and len(adapter.embeddings) == 1:
        word, vectors = next(iter(adapter.embeddings.items()))
        embedding.write_embedding(path, vectors, word, layout, facts={k: v for k, v in adapter.facts.items() if k.startswith("sdplay.")})
        return
    tensors = diffusers_lora.tensors_of(adapter) if layout == "diffusers" else kohya.tensors_of(adapter)
    tensors |= embedding.bundled(adapter.embeddings, layout)
    plain = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    facts = diffusers_lora.facts_of(adapter) if layout == "diffusers" else kohya.facts_of(adapter, plain, path.stem)
    write_atomically(path, save(plain, metadata=facts))


def _layers(layout: str, path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Layer]:
    if layout == "kohya":
        return kohya.read(path.name, tensors)
    if layout == "flat 2022":
        return flat2022.read(path.name, tensors, facts)
    if layout == "diffusers":
        return diffusers_lora.read(path.name, tensors, facts)
    return {}


def _load(path: Path) -> dict[str, Tensor]:
    """Every tensor, all values finite."""
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise AdapterError(f"{path.name} is damaged: {str(error)[:200]}.", DAMAGED) from None
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterError(
                f"{path.name} has values that are not finite numbers, in {key}.", "Its training failed; use an earlier checkpoint."
            )
    return tensors
