"""The layout of 2022, by Simo Ryu's `lora`: layers are numbered in the order in which its code met them.

    unet:<n>:up, unet:<n>:down, text_encoder:<n>:up ...    ranks in the metadata, `unet:<n>:rank`; the scale is 1
    <s1>, <s2> ...                                         vectors of trigger words, marked `<embed>` in the metadata

The order is that of diffusers 0.10 and transformers 4.25, written down here because today's classes register their layers in
another one: in each transformer block self-attention, feed-forward, cross-attention; the U-Net's middle block comes last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.adapter import Layer
from sdplay.formats.layers import Collected

KEY = re.compile(r"(unet|text_encoder):(\d+):(up|down)")
EMBEDDING = "<embed>"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
PLACES = (
    *(f"down_blocks.{level}.attentions.{index}" for level in range(3) for index in range(2)),
    *(f"up_blocks.{level}.attentions.{index}" for level in range(1, 4) for index in range(3)),
    "mid_block.attentions.0",
)
"""The attention of SD 1.x and 2.x."""
CLIP_ORDER = ("k_proj", "v_proj", "q_proj", "out_proj")
KNOWN_TARGETS = {"CrossAttention", "Attention", "GEGLU", "CLIPAttention"}


def is_flat(key: str) -> bool:
    """Whether a tensor's name is of this layout."""
    return KEY.fullmatch(key) is not None


def read(name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> dict[str, Layer]:
    """Layers; embeddings are read by embedding.py. Raises AdapterError when the numbers cannot be matched to layers."""
    numbers: dict[str, set[int]] = {}
    for key in tensors:
        if found := KEY.fullmatch(key):
            numbers.setdefault(found[1], set()).add(int(found[2]))
    collected = Collected(name)
    for component, seen in numbers.items():
        order = _order(name, component, facts)
        if seen != set(range(len(order))) and not (component == "text_encoder" and seen == set(range(len(seen))) and len(seen) % 4 == 0):
            raise AdapterError(
                f"{name} numbers {len(seen)} layers of the {component}, but Stable Diffusion 1.x has {len(order)}.",
                "It was made for a base model that sdplay does not know.",
            )
        for number in sorted(seen):
            path = f"{component}.{order[number]}"
            for half in ("down", "up"):
                if (tensor := tensors.get(f"{component}:{number}:{half}")) is not None:
                    collected.add(path, f"lora_{half}.weight", tensor)
    collected.unknown += [key for key in tensors if not is_flat(key) and facts.get(key) != EMBEDDING]
    layers = collected.finish()
    _check_feed_forward(name, layers)
    return layers


def _order(name: str, component: str, facts: Mapping[str, str]) -> list[str]:
    """Paths by number."""
    try:
        targets = set(json.loads(facts.get(component, "[]")))
    except (ValueError, TypeError, RecursionError):
        targets = set()
    if not targets <= KNOWN_TARGETS:
        strange = ", ".join(sorted(map(str, targets - KNOWN_TARGETS)))
        raise AdapterError(f"{name} trains layers of the kind {strange[:100]} by number.", "Only attention layers are known by number.")
    if component == "text_encoder":
        return [f"text_model.encoder.layers.{layer}.self_attn.{part}" for layer in range(24) for part in CLIP_ORDER][: 4 * 12]
    feed_forward = ["ff.net.0.proj"] if "GEGLU" in targets or not targets else []
    inside = [*(f"attn1.{part}" for part in ATTENTION), *feed_forward, *(f"attn2.{part}" for part in ATTENTION)]
    return [f"{place}.transformer_blocks.0.{part}" for place in PLACES for part in inside]


def _check_feed_forward(name: str, layers: Mapping[str, Layer]) -> None:
    """Its output is eight times its input, which nothing else is: a witness that the order was understood."""
    for path, layer in layers.items():
        widens = layer.tensors["up"].shape[0] == 8 * layer.tensors["down"].shape[1]
        if widens != path.endswith("ff.net.0.proj"):
            raise AdapterError(f"{name} has its layers in an order that sdplay does not know.", f"The first that does not fit: {path}.")
