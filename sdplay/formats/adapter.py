"""An adapter as sdplay holds it, whatever file it came from and whatever file it goes to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

Kind = Literal["lora", "loha", "lokr", "full"]
LAYOUTS = ("diffusers", "kohya")
"""What can be written: diffusers' own, and that of kohya's scripts, which A1111 and ComfyUI read."""
METHODS = {
    "lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "full": "full difference",
    "embedding": "embedding", "weights": "full fine-tune",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What an adapter adds to one layer's weight W (out, in) or (out, in, k, k).

    lora  scale x up (out, r) @ down (r, in); convolutions: down (r, in, k, k), up (out, r, 1, 1), maybe mid (r, r, k, k)
    loha  scale x (w1_a @ w1_b) * (w2_a @ w2_b), entry by entry; with t1, t2 (r, r, k, k) in Tucker's form
    lokr  scale x kron(w1, w2), where each factor may itself be a product w1_a @ w1_b, w2_a @ w2_b, and w2 Tucker's with t2
    full  diff, of W's shape; maybe diff_b, added to the bias

    `dora_scale` beside them: the lengths that the sum's rows (out, 1 ...) or columns (1, in ...) are brought to.
    """

    kind: Kind
    tensors: dict[str, Tensor]
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def method(self) -> str:
        """`kind`, but DoRA where there is a magnitude."""
        return "dora" if "dora_scale" in self.tensors and self.kind == "lora" else self.kind


@dataclass(frozen=True)
class AdapterFile:
    """Everything a file holds, under diffusers' names for the layers: `unet.down_blocks.0...`, `text_encoder.text_model...`."""

    name: str
    """The file's name, for messages."""
    layers: dict[str, Layer] = field(default_factory=dict)
    embeddings: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Trigger word -> text encoder's name -> (vectors, width)."""
    facts: dict[str, str] = field(default_factory=dict)
    """The file's metadata."""
    layout: str = ""
    family: str = ""
    """The base-model family it was made for; empty when its shapes do not tell."""
    path: Path | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Whole weights in the place of the base's, `unet.conv_in.weight` ...; a file that has them has nothing else."""

    @property
    def rank(self) -> int:
        """The rank most layers have; 0 without layers."""
        return Counter(layer.rank for layer in self.layers.values()).most_common(1)[0][0] if self.layers else 0

    @property
    def alpha(self) -> float:
        """The alpha most layers have; 0 without layers."""
        return Counter(layer.alpha for layer in self.layers.values()).most_common(1)[0][0] if self.layers else 0.0

    @property
    def methods(self) -> list[str]:
        """lora, dora, loha, lokr, full, embedding, weights: those that are in it, the most frequent first."""
        counted = Counter(layer.method for layer in self.layers.values())
        others = {"embedding": self.embeddings, "weights": self.weights}
        return [method for method, _ in counted.most_common()] + [method for method, held in others.items() if held]

    @property
    def components(self) -> list[str]:
        """The parts of a pipeline it changes, by diffusers' names, in their order."""
        return sorted({path.split(".", 1)[0] for path in (*self.layers, *self.weights)})

    @property
    def trigger(self) -> str:
        """The word that calls it, as far as the file says; embeddings are called by their own names."""
        told = self.facts.get("modelspec.trigger_phrase") or self.facts.get("sdplay.token") or ""
        return told or " ".join(self.embeddings)

    def of(self, component: str) -> dict[str, Layer]:
        """The layers of one part, under their paths in it."""
        start = f"{component}."
        return {path.removeprefix(start): layer for path, layer in self.layers.items() if path.startswith(start)}


def paths_text(paths: list[str], most: int = 5) -> str:
    """The first few of many names."""
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")
