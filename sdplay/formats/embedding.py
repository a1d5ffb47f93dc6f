"""Textual inversion files: the vectors of a trigger word.

diffusers        one tensor, called what the word is                        SD 1.x, 2.x; SDXL: one file for each encoder
A1111, ComfyUI   emb_params                                                 SD 1.x, 2.x; the word is the file's name
                 clip_l, clip_g (and t5xxl)                                 SDXL, SD 3
2022             <s1>, <s2> ... beside a LoRA, marked in the metadata
bundled          bundle_emb.<word>.clip_l ... beside a LoRA in kohya's layout; in diffusers' with `lora_` before it,
                 because diffusers takes a file for a LoRA, and passes over what it does not know, only if every name has that in it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.flat2022 import EMBEDDING
from sdplay.workspace import write_atomically

ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}
BUNDLED = re.compile(r"(?:lora_)?bundle_emb\.(.+)\.(emb_params|clip_l|clip_g|t5xxl)")
WIDTHS = {768: "text_encoder", 1024: "text_encoder", 1280: "text_encoder_2"}
"""Which encoder a lone tensor is for, by its width; other widths are those of unusual bases with one encoder."""
MAX_VECTORS = 75
Vectors = dict[str, Tensor]
"""By the text encoder's name: (vectors, width)."""


def is_embedding_key(key: str, facts: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor is a word's vectors."""
    if key in ("emb_params", *ENCODERS, facts.get("modelspec.trigger_phrase")) or BUNDLED.fullmatch(key) or facts.get(key) == EMBEDDING:
        return True
    return len(shapes) == 1 and len(shapes[key]) in (1, 2) and "." not in key


def read(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Vectors]:
    """Word -> encoder -> vectors. Raises AdapterError when a tensor is no list of vectors."""
    read: dict[str, Vectors] = {}
    for key, tensor in tensors.items():
        vectors = tensor.unsqueeze(0) if tensor.dim() == 1 else tensor
        if vectors.dim() != 2 or not 1 <= len(vectors) <= MAX_VECTORS:
            raise AdapterError(f"{path.name} has vectors of the shape {tuple(tensor.shape)}.", f"1 to {MAX_VECTORS} vectors are read.")
        if found := BUNDLED.fullmatch(key):
            word, kind = found[1], found[2]
        else:
            kind = key
            word = _word_of(path, facts) if key in ("emb_params", *ENCODERS) else key
        encoder = ENCODERS.get(kind) or WIDTHS.get(vectors.shape[1], "text_encoder")
        read.setdefault(word, {})[encoder] = vectors
    return read


def bundled(embeddings: Mapping[str, Vectors], layout: str) -> dict[str, Tensor]:
    """What is written of words beside layers."""
    before = "lora_bundle_emb" if layout == "diffusers" else "bundle_emb"
    short = {encoder: name for name, encoder in ENCODERS.items()}
    return {f"{before}.{word}.{short[name]}": tensor for word, vectors in embeddings.items() for name, tensor in vectors.items()}


def write_embedding(path: Path, vectors: Mapping[str, Tensor], token: str, layout: str, *, facts: Mapping[str, str] | None = None) -> None:
    """Write a word's vectors, by text encoder, each (vectors, width). `layout`: diffusers, or kohya for A1111 and ComfyUI.

    diffusers' layout holds one encoder: a base with several gets one file for each, `<name>.safetensors` for the first
    and `<name>.text_encoder_2.safetensors` ... for the others. Raises AdapterError for an unknown layout or encoder.
    """
    told = {"modelspec.trigger_phrase": token, "format": "pt", **(facts or {})}
    plain = {name: tensor.detach().cpu().float().contiguous() for name, tensor in vectors.items()}
    if layout == "diffusers":
        first = next(iter(plain))
        for name, tensor in plain.items():
            write_atomically(path if name == first else path.with_suffix(f".{name}.safetensors"), save({token: tensor}, metadata=told))
        return
    if layout != "kohya" or not plain or not set(plain) <= set(ENCODERS.values()):
        raise AdapterError(f"There is no layout {layout!r} for the encoders {', '.join(plain) or '(none)'}.", "Choose diffusers or kohya.")
    short = {encoder: name for name, encoder in ENCODERS.items()}
    if list(plain) == ["text_encoder"]:
        write_atomically(path, save({"emb_params": plain["text_encoder"]}, metadata=told))
    else:
        write_atomically(path, save({short[name]: tensor for name, tensor in plain.items()}, metadata=told))


def _word_of(path: Path, facts: Mapping[str, str]) -> str:
    """Programs that keep no word in the file call it by the file's name."""
    return facts.get("modelspec.trigger_phrase") or path.stem
