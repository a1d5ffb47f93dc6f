"""Tensors by layer -> checked `Layer`s. Every reader of a layout ends here, so the rules are said once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.formats.adapter import Kind, Layer, paths_text

MAX_RANK = 256
SUFFIXES: dict[str, tuple[str, str]] = {
    "lora_down.weight": ("lora", "down"),
    "lora_up.weight": ("lora", "up"),
    "lora_mid.weight": ("lora", "mid"),
    "lora_A.weight": ("lora", "down"),
    "lora_B.weight": ("lora", "up"),
    **{f"hada_{name}": ("loha", name) for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": ("lokr", name) for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "diff": ("full", "diff"),
    "diff_b": ("full", "diff_b"),
    "w_norm": ("full", "diff"),
    "b_norm": ("full", "diff_b"),
    "alpha": ("", "alpha"),
    "dora_scale": ("", "dora_scale"),
}
"""How a layer's tensors are called in files -> kind of layer and our name. The last two belong to every kind."""
NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "lora": (("down",), ("up",)),
    "loha": (("w1_a",), ("w1_b",), ("w2_a",), ("w2_b",)),
    "lokr": (("w1", "w1_a"), ("w1", "w1_b"), ("w2", "w2_a"), ("w2", "w2_b")),
    "full": (("diff",),),
}
"""For each kind, what must be there; of several names in a group one is enough."""


class Collected:
    """Tensors that a reader has sorted to layers, before they are checked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: dict[str, dict[str, Tensor]] = {}
        self.kinds: dict[str, set[str]] = {}
        self.unknown: list[str] = []

    def add(self, path: str, suffix: str, tensor: Tensor) -> bool:
        """Sort a tensor to its layer; False when `suffix` says nothing to us."""
        if suffix not in SUFFIXES:
            return False
        kind, name = SUFFIXES[suffix]
        if name in self.layers.setdefault(path, {}):
            raise AdapterError(f"{self.name} has the layer {path} twice, under different names.", "Export it again.")
        self.layers[path][name] = tensor
        if kind:
            self.kinds.setdefault(path, set()).add(kind)
        return True

    def finish(self, alphas: Mapping[str, float] | None = None) -> dict[str, Layer]:
        """Checked layers. `alphas`: what the header says, by path; an alpha tensor wins, without either it is the rank.

        Raises AdapterError that lists the tensors no reader knows, or names the layer that is not whole.
        """
        if self.unknown:
            raise AdapterError(
                f"{self.name} has {len(self.unknown)} tensors that sdplay cannot place: {paths_text(sorted(self.unknown))}.",
                "It was made for another kind of model, or by a method that sdplay does not know.",
            )
        return {path: self._layer(path, alphas or {}) for path in sorted(self.layers)}

    def _layer(self, path: str, alphas: Mapping[str, float]) -> Layer:
        tensors, kinds = dict(self.layers[path]), self.kinds.get(path, set())
        if len(kinds) != 1:
            raise AdapterError(f"{self.name} has a layer that is {' and '.join(sorted(kinds)) or 'empty'}: {path}.", "Export it again.")
        kind: Kind = kinds.pop()  # type: ignore[assignment]
        if missing := [names[0] for names in NEEDED[kind] if not set(names) & set(tensors)]:
            raise AdapterError(f"{self.name} has a layer without its {' and '.join(missing)}: {path}.", "Export it again.")
        told = tensors.pop("alpha", None)
        rank = rank_of(kind, tensors)
        self._check_shapes(path, kind, tensors, rank)
        if kind == "full" or (kind == "lokr" and {"w1", "w2"} <= set(tensors)):
            return Layer(kind, tensors, 1, 1.0)  # nothing is factorised, so there is nothing to scale; LyCORIS and ComfyUI agree
        alpha = float(told.flatten()[0]) if told is not None else alphas.get(path, float(rank))
        return Layer(kind, tensors, rank, alpha)

    def _check_shapes(self, path: str, kind: Kind, tensors: Mapping[str, Tensor], rank: int) -> None:
        if any(not tensor.numel() for tensor in tensors.values()):
            raise AdapterError(f"{self.name} has an empty tensor in layer {path}.", "Export it again.")
        if rank > MAX_RANK:
            raise AdapterError(f"{self.name} has layers of rank {rank}.", f"Ranks up to {MAX_RANK} are read.")
        if kind == "lora" and (min(tensors["down"].dim(), tensors["up"].dim()) < 2 or tensors["up"].shape[1] != rank):
            raise AdapterError(f"{self.name} has a layer whose two halves do not fit: {path}.", "Export it again.")


def rank_of(kind: str, tensors: Mapping[str, Tensor]) -> int:
    """The inner dimension of a layer's factors; 1 where nothing is factorised."""
    if kind == "lora":
        return int(tensors["down"].shape[0])
    if kind == "loha":
        return int(tensors["w1_b"].shape[0])
    for name in ("w2_b", "w1_b"):
        if kind == "lokr" and name in tensors:
            return int(tensors[name].shape[0])
    return 1
